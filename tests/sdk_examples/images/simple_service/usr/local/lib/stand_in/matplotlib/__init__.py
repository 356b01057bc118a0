"""Stand-in for matplotlib: what the simple service calls of it."""
