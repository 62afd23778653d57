"""CUB-200-2011, 200 classes of birds, as in DECERN's paper.

  python -m decern_jax.main --config=configs/cub.py

5,994 training and 5,794 test images; 400 labels to begin with and in each of 7
rounds.

The images come from tfds: `python -m decern_jax.prepare caltech_birds2011`.

The backbone is DINO's ViT-S/16, from the Hugging Face Hub, and the budget the
published one, 2 labels per class. Others follow the name of the file, as
`--config=configs/cub.py:resnet50/1x`, `:dinov2_small14` or `:1x`.
`configs/paper.py` says how to get their weights. Published: 5 seeds, as
--config.seeds="(1, 11, 111, 1111, 11111)".

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
"""

from decern_jax.configs import common


def get_config(variant: str = ""):
  """Returns the configuration for CUB-200-2011.

  Args:
    variant: Backbone and budget, see `common.get_paper_config`.
  """
  return common.get_paper_config("caltech_birds2011", variant)
