"""SimCLR on the embedded land cover: no download, about ten minutes.

  decern-jax pretrain --config=pretrain_quickstart \
    --workdir=runs/pretrain_quickstart

A ResNet-18 from random weights, on 1,200 rendered tiles of 64 pixels, without
their labels. `configs/land_cover.py` uses its weights.
"""

from decern_jax.configs import pretrain_common


def get_config():
  """Returns the configuration of the quickstart."""
  config = pretrain_common.get_config()
  config.dataset.name = "rendered_land_cover"
  config.train.num_epochs = 20
  config.train.warmup_epochs = 2
  config.views.vertical_flip = 0.5
  config.probe.every_epochs = 5
  return config
