"""Made-up labels and images, of which other libraries gave golden answers."""

import numpy as np

SIZES = ((60, 3), (200, 5), (400, 12))


def make_labels(seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns probabilities [rows, classes], and labels, some of them wrong."""
  rows, classes = SIZES[seed]
  rng = np.random.default_rng(seed)
  true = rng.integers(classes, size=rows)
  outputs = rng.normal(size=(rows, classes))
  outputs[np.arange(rows), true] += 2.0
  probs = np.exp(outputs).round(6)
  wrong = rng.random(rows) < 0.1
  labels = np.where(wrong, rng.integers(classes, size=rows), true)
  return probs / probs.sum(axis=1, keepdims=True), labels


def make_image(seed: int) -> np.ndarray:
  """Returns an image of a few waves, uint8 [height, width, 3]."""
  rng = np.random.default_rng(seed)
  height, width = rng.integers(20, 90, size=2)
  y, x = np.mgrid[:height, :width] / 30
  waves = [
    np.sin(a * x + b * y + c) for a, b, c in rng.uniform(-3, 3, size=(3, 3))
  ]
  return (127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)
