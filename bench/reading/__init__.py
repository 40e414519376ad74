"""Reading YAML and other values from strangers: every error at once, each with its line and a fix."""
