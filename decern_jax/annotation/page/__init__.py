"""A labeling page for one person, served to this machine alone."""
