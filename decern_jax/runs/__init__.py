"""A run: reads the configuration, drives the rounds, saves each one."""
