"""ONNX files: checked, opened, answered and differentiated."""
