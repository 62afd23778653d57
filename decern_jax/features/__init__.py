"""Features and probabilities of a pool, and their cache."""
