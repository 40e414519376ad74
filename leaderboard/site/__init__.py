"""From boards to a folder of static pages."""
