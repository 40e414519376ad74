"""torch modules and timm networks as Classifiers."""
