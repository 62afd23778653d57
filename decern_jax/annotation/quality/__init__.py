"""Quality of the labels that people gave: agreement, errors, duplicates."""
