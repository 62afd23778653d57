"""Features of a pool, and their cache."""
