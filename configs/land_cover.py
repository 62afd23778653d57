"""Several labels per image, on embedded land cover: the multi-label quickstart.

  decern-jax compare --config=land_cover --pretrain=pretrain_quickstart

Rendered tiles of 64 pixels with eight kinds of cover, from frequent fields to
rare ships. The backbone is pre-trained once, without labels. 6 rounds of 40
labels train a head with an output per label. The metric is macro F1. A single
strategy with those weights:

  decern-jax run --config=land_cover
"""

from decern_jax.configs import common


def get_config():
  """Returns the configuration of the multi-label quickstart."""
  config = common.get_config()
  config.num_rounds = 6
  config.strategies = (
    "decern_multilabel",
    "entropy",
    "gradient_magnitude_clustered",
    "random",
  )
  config.dataset.name = "rendered_land_cover"
  config.dataset.resize_size = 64
  config.dataset.image_size = 64
  config.model.name = "resnet18"
  config.model.weights = "runs/pretrain_quickstart/backbone.safetensors"
  config.selection.strategy = "gradient_magnitude_clustered"
  config.selection.initial_budget = 40
  config.selection.budget = 40
  return config
