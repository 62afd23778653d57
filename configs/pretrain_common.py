"""Every field of a configuration of pre-training, once.

A configuration file calls `get_config` and changes values; it adds no field.
"""

from typing import Any

from ml_collections import config_dict

from decern_jax.configs import common


def get_config() -> Any:
  """Returns the `ConfigDict` that all other pre-trainings start from."""
  config = config_dict.ConfigDict()
  config.seed = 0

  # The same fields as everywhere: one set of flags opens the same data.
  config.dataset = common.get_config().dataset
  config.dataset.resize_size = 64
  config.dataset.image_size = 64

  config.model = model = config_dict.ConfigDict()
  model.name = "resnet18"
  # "random", drawn from the seed; or a file to start from, as in common.py;
  # None: the weights that ship with the package.
  model.weights = "random"
  model.dtype = "float32"

  config.pretrain = pretrain = config_dict.ConfigDict()
  # "simclr", "barlow_twins" or "moco_v2".
  pretrain.objective = "simclr"
  # Outputs of the layers of the projector; (): as published, 2048-128 for
  # SimCLR and MoCo v2, 2048-2048-2048 for Barlow Twins.
  pretrain.projector = ()
  # SimCLR and MoCo v2.
  pretrain.temperature = 0.2
  # Barlow Twins: lambda.
  pretrain.off_diagonal_weight = 0.0051
  # MoCo v2: keys to compare with, a multiple of the batch (published: 65,536,
  # for a million images); how the second network follows the first; and how
  # many groups of a batch have batch statistics of their own (published: one
  # per GPU, 8 of 32 images).
  pretrain.queue_size = 4096
  pretrain.momentum = 0.999
  pretrain.norm_groups = 4

  config.train = train = config_dict.ConfigDict()
  train.num_epochs = 200
  train.batch_size = 128
  # "adamw"; or "lars", for batches of 1,024 and more, whose published peak is
  # 0.3 (SimCLR) or 0.2 (Barlow Twins) per 256 images, with a decay of 1e-6.
  train.optimizer = "adamw"
  # A linear rise from 0, then half a cosine to 0, step by step.
  train.learning_rate = 1e-3
  train.warmup_epochs = 10
  train.weight_decay = 1e-4

  # Two random views of each image.
  config.views = views = config_dict.ConfigDict()
  # Smallest crop, as a share of the area of the image.
  views.min_area = 0.2
  # Chances of a mirrored view, of one upside down, of a change of color (for
  # other than 3 bands, of brightness and contrast alone), of gray, of blur.
  views.horizontal_flip = 0.5
  views.vertical_flip = 0.0
  views.jitter_chance = 0.8
  # 1: brightness, contrast and saturation by up to 80 %, hue by up to 0.2
  # turns, as in SimCLR for ImageNet.
  views.jitter_strength = 0.5
  views.grayscale = 0.2
  views.blur = 0.5

  # Weighted votes of the nearest training images, on the validation images or,
  # without any, on the training images, each judged by the others. The labels
  # serve this record alone. Never on test images.
  config.probe = probe = config_dict.ConfigDict()
  # 0: never.
  probe.every_epochs = 10
  # Images of a part that take part, at most.
  probe.num_examples = 5000
  probe.num_neighbors = 20
  probe.temperature = 0.07

  # What cannot change a result beyond rounding: not part of a run's identity.
  config.system = system = config_dict.ConfigDict()
  # Devices that a batch is split over; None: all.
  system.num_devices = config_dict.placeholder(int)
  # Threads that make views; None: one per core.
  system.num_workers = config_dict.placeholder(int)
  # Images of a batch while features are computed for the probe.
  system.embed_batch_size = 128
  # Time between two savings, inside an epoch too.
  system.checkpoint_seconds = 300.0
  # Where the checks of image folders are kept.
  system.cache_dir = "runs/cache"

  return config
