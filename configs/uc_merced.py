"""UC Merced with 17 labels of land cover, 40 to 400 labels in steps of 20.

  decern-jax compare --config=uc_merced --pretrain=pretrain_uc_merced \
    --config.dataset.label_file=FILE.csv --pretrain.dataset.label_file=FILE.csv

2,100 aerial images of 256 x 256 pixels, a fifth of them for the test. This is
the comparison of IGARSS 2023 (https://arxiv.org/abs/2306.06908): `--pretrain`
pre-trains a ResNet-18 on the images without labels, and every round fine-tunes
it by the same number of steps. A single strategy with given weights:

  decern-jax run --config=uc_merced \
    --config.dataset.label_file=FILE.csv --config.model.weights=FILE.safetensors

The images come from tfds: `decern-jax prepare uc_merced`. The label
file is that of Chaudhuri et al. (IEEE TGRS 2018), with a column of image names
and a column of 0 and 1 per label.

Not run yet, because the data were not available: hardware, time and accuracy
are unknown. The setting is tested on synthetic data of the same form.
"""

from decern_jax.configs import common


def get_config():
  """Returns the configuration for UC Merced."""
  config = common.get_config()
  config.num_rounds = 19
  config.seeds = (1, 11, 111)
  config.strategies = common.MULTILABEL_STRATEGIES
  config.dataset.name = "uc_merced"
  config.model.name = "resnet18"
  config.train.scope = "all"
  config.train.augment = True
  config.train.num_epochs = 50
  config.train.steps_per_epoch = 10
  config.train.batch_size = 32
  config.selection.strategy = "gradient_magnitude_clustered"
  config.selection.initial_budget = 40
  config.selection.budget = 20
  return config
