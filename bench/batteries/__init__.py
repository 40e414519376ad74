"""The shipped batteries: YAML definitions and the panel evidence that belongs to them."""
