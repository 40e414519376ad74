"""From a submission's words to the victim: the model behind its defenses."""
