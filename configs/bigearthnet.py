"""BigEarthNet with 43 labels of land cover, 1,000 to 18,000 labeled by 1,000.

  python -m decern_jax.compare --config=configs/bigearthnet.py \
    --pretrain=configs/pretrain_bigearthnet.py

590,326 patches of Sentinel-2 of 120 x 120 pixels, in red, green and blue; with
`--config.dataset.name=bigearthnet_all --pretrain.dataset.name=bigearthnet_all`
in all twelve bands. Both papers' comparison (https://arxiv.org/abs/2306.06908,
https://arxiv.org/abs/2212.01165): a ResNet-18 that is pre-trained by the first
flag on the images without labels, then fine-tuned in every round by the same
number of steps; active against random. A single strategy, with the weights of
an earlier pre-training:

  python -m decern_jax.main --config=configs/bigearthnet.py \
    --config.model.weights=FILE.safetensors

The images come from tfds: `python -m decern_jax.prepare bigearthnet`. Three
fifths are the pool, a fifth is for validation, a fifth for the test.

Hardware, time and accuracy: not run yet, as the data cannot be reached from
where this was written; the setting is tested on data made in its form.
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
