"""DECERN on an embedded fine-grained data set: no download, about a minute.

  decern-jax run --config=quickstart

36 classes of rendered butterflies that share everything but small markings;
6 rounds of 36 labels. The backbone is a small CNN that was pre-trained on other
rendered classes; its weights ship with the package.
"""

from decern_jax.configs import common


def get_config():
  """Returns the configuration of the quickstart."""
  config = common.get_config()
  config.num_rounds = 6
  config.dataset.name = "rendered"
  config.dataset.resize_size = 96
  config.dataset.image_size = 96
  config.model.name = "small_cnn"
  config.train.method = "propagation"
  config.selection.initial_strategy = "typiclust"
  return config
