"""Writes golden.json, what cleanlab and ImageHash say of made-up data.

  PYTHONPATH=. python tests/annotation/quality/make_golden.py

Needs cleanlab 2.9.0 and ImageHash 4.3.2 beside NumPy and Pillow, and nothing of
this project but `made`.
"""
# pyright: reportMissingImports=false

import json
import pathlib

from cleanlab.filter import find_label_issues
import imagehash
from PIL import Image

from tests.annotation.quality import made

NUM_IMAGES = 12


def main() -> None:
  """Writes the file."""
  labels = []
  for seed in range(len(made.SIZES)):
    probs, given = made.make_labels(seed)
    found = find_label_issues(
      given,
      probs,
      filter_by="confident_learning",
      return_indices_ranked_by="normalized_margin",
    )
    labels.append({"seed": seed, "found": found.tolist()})
  hashes = [
    int(str(imagehash.phash(Image.fromarray(made.make_image(seed)))), 16)
    for seed in range(NUM_IMAGES)
  ]
  path = pathlib.Path(__file__).with_name("golden.json")
  content = {"label_errors": labels, "perceptual_hashes": hashes}
  path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
  main()
