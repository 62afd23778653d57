"""Labels from people: queries, answers, file formats, the labeling page."""
