"""BigEarthNet with 43 labels of land cover, 18 rounds of 1,000 labels.

  decern-jax compare --config=bigearthnet --pretrain=pretrain_bigearthnet

590,326 patches of Sentinel-2 of 120 x 120 pixels, in red, green and blue; with
`--config.dataset.name=bigearthnet_all --pretrain.dataset.name=bigearthnet_all`
in all twelve bands. This is the comparison of two papers
(https://arxiv.org/abs/2306.06908, https://arxiv.org/abs/2212.01165):
`--pretrain` pre-trains a ResNet-18 on the images without labels, and every
round fine-tunes it by the same number of steps. A single strategy with given
weights:

  decern-jax run --config=bigearthnet --config.model.weights=FILE.safetensors

The images come from tfds: `decern-jax prepare bigearthnet`. Three
fifths are the pool, one is the validation split, and one the test split.

Not run yet, because the data were not available: hardware, time and accuracy
are unknown. The setting is tested on synthetic data of the same form.
"""

from decern_jax.configs import common


def get_config():
  """Returns the configuration for BigEarthNet."""
  config = common.get_config()
  config.num_rounds = 18
  config.seeds = (1, 11, 111)
  config.strategies = common.MULTILABEL_STRATEGIES
  config.dataset.name = "bigearthnet"
  config.dataset.resize_size = 120
  config.dataset.image_size = 120
  config.model.name = "resnet18"
  config.train.scope = "all"
  config.train.augment = True
  config.train.num_epochs = 50
  config.train.steps_per_epoch = 100
  config.selection.strategy = "gradient_magnitude_clustered"
  config.selection.initial_budget = 1000
  config.selection.budget = 1000
  return config
