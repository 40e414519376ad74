"""What is checked of a victim's own word."""
