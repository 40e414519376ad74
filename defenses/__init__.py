"""Defenses: functions from Classifier to Classifier, one idea a file."""
