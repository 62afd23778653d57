"""Draws the pictures of the rendered data set."""
