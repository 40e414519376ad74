"""Asking a victim, and what its answers mean."""
