"""What ascents to fooling images are made of: where they start, how they step, and which iterate they keep."""
