"""Food101, 101 classes of dishes, as in DECERN's paper.

  python -m decern_jax.main --config=configs/food101.py

75,750 training and 25,250 test images; 101 labels to begin with and in each of
7 rounds. Every round scores a random 15,150 of the unlabeled images.

The images come from tfds, which calls the test images `validation`:
`python -m decern_jax.prepare food101`.

The backbone is DINO's ViT-S/16, from the Hugging Face Hub. Others are named
after the file, `--config=configs/food101.py:dinov2_small14` or `:resnet50`,
whose weights `configs/paper.py` says how to get. Published: 5 seeds, as
--config.seeds="(1, 11, 111, 1111, 11111)".

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
"""

from configs import common


def get_config(backbone: str = "vit_small16"):
  """Returns the configuration for Food101.

  Args:
    backbone: One of `common.PAPER_BACKBONES`.
  """
  return common.get_paper_config("food101", backbone)
