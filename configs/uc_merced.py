"""UC Merced with 17 labels of land cover, 20 to 400 labeled images by 20.

  python -m decern_jax.compare --config=configs/uc_merced.py \
    --pretrain=configs/pretrain_uc_merced.py \
    --config.dataset.label_file=FILE.csv --pretrain.dataset.label_file=FILE.csv

2,100 aerial images of 256 x 256 pixels, a fifth of them drawn for the test. The
comparison of IGARSS 2023 (https://arxiv.org/abs/2306.06908): a ResNet-18 that
is pre-trained by the first flag on the images without labels, then fine-tuned
in every round by the same number of steps; active against random. A single
strategy, with the weights of an earlier pre-training:

  python -m decern_jax.main --config=configs/uc_merced.py \
    --config.dataset.label_file=FILE.csv --config.model.weights=FILE.safetensors

The images come from tfds: `python -m decern_jax.prepare uc_merced`. The file of
labels is Chaudhuri et al.'s (IEEE TGRS 2018), with a column of the names of the
images and one of 0 and 1 per label.

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
"""

from decern_jax.configs import common


def get_config():
  """Returns the configuration for UC Merced."""
  config = common.get_config()
  config.num_rounds = 20
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
  config.selection.initial_budget = 20
  config.selection.budget = 20
  return config
