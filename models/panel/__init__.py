"""The reference models of the shipped batteries, and the seeded recipes that trained them."""
