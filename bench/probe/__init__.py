"""`foolbench probe`: how a model responds to patches."""
