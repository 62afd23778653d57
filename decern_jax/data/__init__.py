"""Data sets, decoding, augmentation, and batches of images."""
