"""Defenses that change the image before the model sees it."""
