"""What ascents are made of. To fooling images: where they start, how they step, and which iterate they keep; projected
ones: what they ascend, and how their steps shrink."""
