"""Flowers102, 102 classes of flowers, as in DECERN's paper.

  python -m decern_jax.main --config=configs/flowers102.py

1,020 training and 6,149 test images; 102 labels to begin with and in each of 7
rounds.

The images come from tfds, whose validation split is left out as published:
`python -m decern_jax.prepare oxford_flowers102`.

The backbone is DINO's ViT-S/16, from the Hugging Face Hub. Others are named
after the file, `--config=configs/flowers102.py:dinov2_small14` or `:resnet50`,
whose weights `configs/paper.py` says how to get. Published: 5 seeds, as
--config.seeds="(1, 11, 111, 1111, 11111)".

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
"""

from configs import common


def get_config(backbone: str = "vit_small16"):
  """Returns the configuration for Flowers102.

  Args:
    backbone: One of `common.PAPER_BACKBONES`.
  """
  return common.get_paper_config("oxford_flowers102", backbone)
