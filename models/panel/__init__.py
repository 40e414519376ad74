"""The reference models of the shipped batteries: ONNX files alone."""
