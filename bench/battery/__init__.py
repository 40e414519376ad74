"""Batteries: what is asked of every victim, with all its numbers."""
