"""The labeling page: its server, and the files that a browser loads."""
