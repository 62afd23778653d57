"""Several labels per image, from a file of paths and labels.

  decern-jax run --config=label_file --config.dataset.path=FILE.csv

The file has a row per image: its path, relative to the file, and a column of 0
and 1 per label; or a column of label names, separated by `;`. A column `split`
says train, val or test; without it, a fifth of the images is the test split.
The backbone is MobileNetV2 with ImageNet weights, which ship with the package.
With `:resnet18` it is a ResNet-18 on images of 64 pixels. One command
pre-trains it and compares strategies:

  decern-jax compare --config=label_file:resnet18 \
    --pretrain=pretrain_label_file \
    --config.dataset.path=FILE.csv --pretrain.dataset.path=FILE.csv
"""

from decern_jax.configs import common


def get_config(backbone: str = "mobilenet_v2"):
  """Returns the configuration for a label file.

  Args:
    backbone: "mobilenet_v2", or "resnet18" for weights of
      `configs/pretrain_label_file.py` or torchvision's.
  """
  config = common.get_config()
  config.num_rounds = 10
  config.strategies = common.MULTILABEL_STRATEGIES
  config.dataset.name = "label_file"
  config.model.name = backbone
  if backbone == "resnet18":
    config.dataset.resize_size = 64
    config.dataset.image_size = 64
  config.selection.strategy = "gradient_magnitude_clustered"
  config.selection.initial_budget = 20
  config.selection.budget = 20
  return config
