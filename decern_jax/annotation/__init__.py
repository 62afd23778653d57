"""Labels from people: queries, answers, a labeling page, label quality."""
