"""Files on disks and in object stores, checkpoints, locks, and validation."""
