"""Comparisons of finished runs: statistics, figures, pages, tables."""
