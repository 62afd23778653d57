"""Self-supervised pre-training of backbones on unlabeled images."""
