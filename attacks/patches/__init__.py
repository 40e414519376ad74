"""Patches: where they come from, and how they are pasted."""
