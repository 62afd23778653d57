"""Several labels per image, from a file of paths and labels.

  python -m decern_jax.main --config=configs/label_file.py \
    --config.dataset.path=FILE.csv --config.model.weights=FILE.safetensors

The file has a row per image: its path, relative to the file, and a column of 0
and 1 per label; or a column of label names, separated by `;`. A column `split`
says train, val or test; without it, a fifth is drawn for the test.
The weights are those of a ResNet-18: of `configs/pretrain_label_file.py`, or
torchvision's. Pre-training and the comparison of strategies as one command:

  python -m decern_jax.compare --config=configs/label_file.py \
    --pretrain=configs/pretrain_label_file.py \
    --config.dataset.path=FILE.csv --pretrain.dataset.path=FILE.csv
"""

from configs import common


def get_config():
  """Returns the configuration for a label file."""
  config = common.get_config()
  config.num_rounds = 10
  config.strategies = common.MULTILABEL_STRATEGIES
  config.dataset.name = "label_file"
  config.dataset.resize_size = 64
  config.dataset.image_size = 64
  config.model.name = "resnet18"
  config.selection.strategy = "gradient_magnitude_clustered"
  config.selection.initial_budget = 20
  config.selection.budget = 20
  return config
