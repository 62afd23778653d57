"""DECERN on your own photos, with a frozen pre-trained backbone.

  decern-jax run --config=image_folder --config.dataset.path=DIR

DIR holds {train,test}/<class>/*.jpg; png, jpeg, webp and others, of any size,
gray or with alpha. A `val` folder is optional; it is evaluated too. The
backbone is MobileNetV2 with ImageNet weights, which ship with the package.
"""

from decern_jax.configs import common


def get_config():
  """Returns the configuration for a folder of images."""
  config = common.get_config()
  config.dataset.name = "image_folder"
  config.model.name = "mobilenet_v2"
  config.train.method = "propagation"
  config.selection.initial_strategy = "typiclust"
  return config
