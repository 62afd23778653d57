"""DECERN on your own images, which you label when you are asked.

  decern-jax run --config=my_images --config.dataset.path=DIR

DIR holds the images, at any depth. The command says which images to label, and
how. When you have labeled them, run it again: it trains, and asks for the next
labels. Labeled images in `DIR/test/<class>/` measure the accuracy of the model;
you are never asked about them. The backbone is MobileNetV2 with ImageNet
weights, which ship with the package.
"""

from decern_jax.configs import common


def get_config():
  """Returns the configuration for a folder of images without labels."""
  config = common.get_config()
  config.num_rounds = 50
  config.dataset.name = "unlabeled_folder"
  config.model.name = "mobilenet_v2"
  config.train.method = "propagation"
  config.selection.initial_strategy = "typiclust"
  config.selection.initial_budget = 50
  config.selection.budget = 50
  return config
