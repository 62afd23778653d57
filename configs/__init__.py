"""Experiments: each file is the record of one."""
