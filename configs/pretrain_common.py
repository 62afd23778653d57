"""Every field of a configuration of pre-training, with its default.

A configuration file calls `get_config` and changes values; it adds no field.
The comment above a field is what `--help` shows of it.
"""

from typing import Any

from ml_collections import config_dict

from decern_jax.configs import common


def get_config() -> Any:
  """Returns the `ConfigDict` that all other pre-trainings start from."""
  config = config_dict.ConfigDict()
  # Seed of weights, views and batches.
  config.seed = 0

  # Shared with `common.py`, so that the same flags open the same data.
  config.dataset = common.get_config().dataset
  config.dataset.resize_size = 64
  config.dataset.image_size = 64

  config.model = model = config_dict.ConfigDict()
  # The backbone.
  model.name = "resnet18"
  # "random" to draw them from the seed, a file as in `common.py`, or None for
  # the weights that ship with the package.
  model.weights = "random"
  # The type that the backbone computes in. Parameters are float32.
  model.dtype = "float32"

  config.pretrain = pretrain = config_dict.ConfigDict()
  # The method.
  pretrain.objective = "simclr"
  # Widths of the layers of the projector. Empty for the published ones:
  # 2048-128 for SimCLR and MoCo v2, 2048-2048-2048 for Barlow Twins.
  pretrain.projector = ()
  # Temperature of the softmax of SimCLR and MoCo v2.
  pretrain.temperature = 0.2
  # Lambda of Barlow Twins, the weight of redundancy.
  pretrain.off_diagonal_weight = 0.0051
  # Keys that MoCo v2 compares with, a multiple of the batch size. Published:
  # 65,536 for a million images.
  pretrain.queue_size = 4096
  # Share of the momentum network of MoCo v2 that a step keeps.
  pretrain.momentum = 0.999
  # Groups of a batch in MoCo v2 with batch statistics of their own. Published:
  # 8 groups of 32 images, one per GPU.
  pretrain.norm_groups = 4

  config.train = train = config_dict.ConfigDict()
  # Passes over the images.
  train.num_epochs = 200
  # Images of a batch, of which each has two views.
  train.batch_size = 128
  # "adamw", or "lars" for batches of 1,024 images or more. The published
  # learning rates of LARS are 0.3 (SimCLR) or 0.2 (Barlow Twins) per 256 images
  # in a batch, with a weight decay of 1e-6.
  train.optimizer = "adamw"
  # The peak. The rate rises from 0 in the warm-up, then falls as half a cosine.
  train.learning_rate = 1e-3
  # Epochs of the rise, at most `num_epochs`.
  train.warmup_epochs = 10
  # Weight decay of kernels; biases have none.
  train.weight_decay = 1e-4

  # Two random views of each image.
  config.views = views = config_dict.ConfigDict()
  # Smallest crop, as a share of the area of the image.
  views.min_area = 0.2
  # Probability of a mirrored view.
  views.horizontal_flip = 0.5
  # Probability of a view upside down.
  views.vertical_flip = 0.0
  # Probability of a change of color; for other than 3 bands, only of brightness
  # and contrast.
  views.jitter_chance = 0.8
  # A strength of 1 changes brightness, contrast and saturation by up to 80 %,
  # and hue by up to 0.2 turns, as SimCLR does for ImageNet.
  views.jitter_strength = 0.5
  # Probability of a view in gray.
  views.grayscale = 0.2
  # Probability of a blurred view.
  views.blur = 0.5

  # The probe predicts labels by weighted votes of the nearest training images:
  # the labels of the validation images or, if there are none, of the training
  # images, each by the votes of the others. Labels are used for nothing else,
  # and test images are never probed.
  config.probe = probe = config_dict.ConfigDict()
  # Epochs between two probes; 0 for none.
  probe.every_epochs = 10
  # Largest number of images that are drawn from a split.
  probe.num_examples = 5000
  # Nearest images that vote.
  probe.num_neighbors = 20
  # Temperature of the weights of the votes.
  probe.temperature = 0.07

  # Settings that change no result beyond rounding. They may change between two
  # starts of a run.
  config.system = system = config_dict.ConfigDict()
  # Number of devices that a batch is split over. None for all.
  system.num_devices = config_dict.placeholder(int)
  # Number of threads that make views. None for one per core.
  system.num_workers = config_dict.placeholder(int)
  # Images of a batch while features are computed for the probe.
  system.embed_batch_size = 128
  # Seconds between two checkpoints, also inside an epoch.
  system.checkpoint_seconds = 300.0
  # Folder for the checks of images.
  system.cache_dir = "runs/cache"

  return config
