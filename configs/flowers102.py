"""Flowers102, 102 classes of flowers, as in DECERN's paper.

  python -m decern_jax.main --config=configs/flowers102.py

1,020 training and 6,149 test images; 102 labels to begin with and in each of 7
rounds.

The images come from tfds, whose validation split is left out as published:
`python -m decern_jax.prepare oxford_flowers102`.

The backbone is DINO's ViT-S/16, from the Hugging Face Hub, and the budget the
published one, 1 label per class. Others follow the name of the file, as
`--config=configs/flowers102.py:resnet50/2x`, `:dinov2_small14` or `:2x`.
`configs/paper.py` says how to get their weights. Published: 5 seeds, as
--config.seeds="(1, 11, 111, 1111, 11111)".

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
"""

from decern_jax.configs import common


def get_config(variant: str = ""):
  """Returns the configuration for Flowers102.

  Args:
    variant: Backbone and budget, see `common.get_paper_config`.
  """
  return common.get_paper_config("oxford_flowers102", variant)
