"""SimCLR of a ResNet-18 on the images of UC Merced, without its labels.

  decern-jax pretrain --config=pretrain_uc_merced \
    --workdir=runs/pretrain_uc_merced --config.dataset.label_file=FILE.csv

FILE.csv is the label file of `configs/uc_merced.py`, which uses the weights.
Only its splits matter; without any, a fifth of the images is the test split.
"""

from decern_jax.configs import pretrain_common


def get_config():
  """Returns the configuration for UC Merced."""
  config = pretrain_common.get_config()
  config.dataset.name = "uc_merced"
  config.dataset.resize_size = 256
  config.dataset.image_size = 224
  config.views.vertical_flip = 0.5
  return config
