"""Flowers102, 102 classes of flowers, as in DECERN's paper.

  decern-jax run --config=flowers102

1,020 training and 6,149 test images. 8 rounds of 102 labels.

The images come from tfds. As published, its validation split is left out:
`decern-jax prepare oxford_flowers102`.

The backbone is DINO's ViT-S/16 from the Hugging Face Hub, and the budget is the
published one, 1 label per class. Others can be named after the file:
`--config=flowers102:resnet50/2x`, `:dinov2_small14` or `:2x`.
`configs/paper.py` says how to get their weights. The paper uses five seeds:
--config.seeds="(1, 11, 111, 1111, 11111)".

Not run yet, because the data were not available: hardware, time and accuracy
are unknown. The setting is tested on synthetic data of the same form.
"""

from decern_jax.configs import common


def get_config(variant: str = ""):
  """Returns the configuration for Flowers102.

  Args:
    variant: Backbone and budget, see `common.get_paper_config`.
  """
  return common.get_paper_config("oxford_flowers102", variant)
