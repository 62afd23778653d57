"""A run: rounds of training, selecting and labeling, saved after each one."""
