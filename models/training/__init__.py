"""The seeded recipes' networks and trainings, and their export to ONNX."""
