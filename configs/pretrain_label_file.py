"""SimCLR of a ResNet-18 on the images of a label file, without its labels.

  decern-jax pretrain --config=pretrain_label_file \
    --workdir=runs/pretrain_tiles --config.dataset.path=FILE.csv

The file has a row per image: its path, relative to the file, and a column of 0
and 1 per label. Other columns must be listed:
`--config.dataset.ignored_columns="('region',)"`.
"""

from decern_jax.configs import pretrain_common


def get_config():
  """Returns the configuration for a label file."""
  config = pretrain_common.get_config()
  config.dataset.name = "label_file"
  config.views.vertical_flip = 0.5
  return config
