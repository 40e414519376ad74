"""From records to ranked boards and their tables."""
