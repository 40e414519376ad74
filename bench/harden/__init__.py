"""`foolbench harden` and `train`: models that are trained here."""
