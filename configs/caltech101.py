"""Caltech101, 100 classes of objects, as in DECERN's paper.

  decern-jax run --config=caltech101

4,128 training and 2,465 test images. 8 rounds of 200 labels.

The split is CoOp's: put `split_zhou_Caltech101.json` into `data/`, or name it
with --config.dataset.split_file. The images of both splits
of tfds are joined: `decern-jax prepare caltech101`.

The backbone is DINO's ViT-S/16 from the Hugging Face Hub, and the budget is the
published one, 2 labels per class. Others can be named after the file:
`--config=caltech101:resnet50/1x`, `:dinov2_small14` or `:1x`.
`configs/paper.py` says how to get their weights. The paper uses five seeds:
--config.seeds="(1, 11, 111, 1111, 11111)".

Not run yet, because the data were not available: hardware, time and accuracy
are unknown. The setting is tested on synthetic data of the same form.
"""

from decern_jax.configs import common


def get_config(variant: str = ""):
  """Returns the configuration for Caltech101.

  Args:
    variant: Backbone and budget, see `common.get_paper_config`.
  """
  return common.get_paper_config("caltech101", variant)
