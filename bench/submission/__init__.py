"""`submission.yaml`: a model, its defenses, who, which battery. Reading one runs nothing of it."""
