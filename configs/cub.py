"""CUB-200-2011, 200 classes of birds, as in DECERN's paper.

  decern-jax run --config=cub

5,994 training and 5,794 test images. 8 rounds of 400 labels.

The images come from tfds: `decern-jax prepare caltech_birds2011`.

The backbone is DINO's ViT-S/16 from the Hugging Face Hub, and the budget is the
published one, 2 labels per class. Others can be named after the file:
`--config=cub:resnet50/1x`, `:dinov2_small14` or `:1x`.
`configs/paper.py` says how to get their weights. The paper uses five seeds:
--config.seeds="(1, 11, 111, 1111, 11111)".

Not run yet, because the data were not available: hardware, time and accuracy
are unknown. The setting is tested on synthetic data of the same form.
"""

from decern_jax.configs import common


def get_config(variant: str = ""):
  """Returns the configuration for CUB-200-2011.

  Args:
    variant: Backbone and budget, see `common.get_paper_config`.
  """
  return common.get_paper_config("caltech_birds2011", variant)
