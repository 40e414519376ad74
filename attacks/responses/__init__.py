"""How a victim responds to patches: measurements, not attacks."""
