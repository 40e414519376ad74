"""The attacks: black-box searches and white-box ascents. They know no model, budget or score."""
