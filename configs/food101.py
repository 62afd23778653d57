"""Food101, 101 classes of dishes, as in DECERN's paper.

  decern-jax run --config=food101

75,750 training and 25,250 test images.
8 rounds of 202 labels, each from a random 15,150 of the unlabeled images.

The images come from tfds, which calls the test images `validation`:
`decern-jax prepare food101`.

The backbone is DINO's ViT-S/16 from the Hugging Face Hub, and the budget is the
published one, 2 labels per class. Others can be named after the file:
`--config=food101:resnet50/1x`, `:dinov2_small14` or `:1x`.
`configs/paper.py` says how to get their weights. The paper uses five seeds:
--config.seeds="(1, 11, 111, 1111, 11111)".

Not run yet, because the data were not available: hardware, time and accuracy
are unknown. The setting is tested on synthetic data of the same form.
"""

from decern_jax.configs import common


def get_config(variant: str = ""):
  """Returns the configuration for Food101.

  Args:
    variant: Backbone and budget, see `common.get_paper_config`.
  """
  return common.get_paper_config("food101", variant)
