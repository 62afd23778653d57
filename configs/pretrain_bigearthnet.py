"""SimCLR of a ResNet-18 on the images of BigEarthNet, without its labels.

  decern-jax pretrain --config=pretrain_bigearthnet \
    --workdir=runs/pretrain_bigearthnet

`configs/bigearthnet.py` uses the weights.
"""

from decern_jax.configs import pretrain_common


def get_config():
  """Returns the configuration for BigEarthNet."""
  config = pretrain_common.get_config()
  config.dataset.name = "bigearthnet"
  config.dataset.resize_size = 120
  config.dataset.image_size = 120
  config.views.vertical_flip = 0.5
  config.train.num_epochs = 50
  config.train.batch_size = 512
  return config
