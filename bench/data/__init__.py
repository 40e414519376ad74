"""Data sets: evaluation images, donors and training images, read and checked."""
