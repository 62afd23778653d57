"""Label Studio: pushes queries to a running server, and pulls annotations."""
