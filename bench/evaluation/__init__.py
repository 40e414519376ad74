"""The pipeline: a submission and a battery in; a record and its evidence out."""
