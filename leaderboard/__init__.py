"""Records, their ranking and the static site. Imports no torch."""
