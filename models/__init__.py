"""Networks behind one interface: ONNX and timm files to Classifier, with certified gradients."""
