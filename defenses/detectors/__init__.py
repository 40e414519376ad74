"""Defenses that reject images."""
