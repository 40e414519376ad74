"""An attack and a defense for foolbench."""
