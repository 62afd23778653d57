"""Compiles the programs of a run for devices that are not attached."""
