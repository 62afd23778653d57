"""Meshes of devices, sharded rows, and several processes."""
