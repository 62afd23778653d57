"""Labels from people: queries that are written, answers that are read."""
