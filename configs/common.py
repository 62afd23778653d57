"""Every field of a configuration, once, with the published values.

A configuration file calls `get_config` and changes values; it adds no field.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """Returns the configuration that all others start from."""
  config = config_dict.ConfigDict()

  # A round trains, evaluates, and selects; the last one does not select.
  config.num_rounds = 8
  # One run per seed.  Published: (1, 11, 111, 1111, 11111).
  config.seeds = (1,)

  config.dataset = dataset = config_dict.ConfigDict()
  dataset.name = config_dict.placeholder(str)
  # Folder of images, or data_dir of tfds (None: its default).
  dataset.path = config_dict.placeholder(str)
  # Short side after resizing, and side of the center crop, in pixels.
  dataset.resize_size = 256
  dataset.image_size = 224
  dataset.interpolation = "bilinear"

  config.model = model = config_dict.ConfigDict()
  model.name = config_dict.placeholder(str)
  # Local .safetensors file; None: the weights that ship with the package.
  model.weights = config_dict.placeholder(str)

  config.train = train = config_dict.ConfigDict()
  train.num_epochs = 200
  train.batch_size = 128
  train.learning_rate = 1e-3
  train.warmup_epochs = 5
  train.warmup_learning_rate = 1e-6
  train.final_learning_rate = 1e-5

  config.selection = selection = config_dict.ConfigDict()
  selection.strategy = "decern"
  # Examples of the random initial set, and of every later round; None: one per
  # class.
  selection.initial_budget = config_dict.placeholder(int)
  selection.budget = config_dict.placeholder(int)
  # Factor of the skew in DECERN's uncertainty threshold.
  selection.uncertainty_gamma = 0.5
  # DECERN's weight of nearness to the cluster center, in [0, 1].
  selection.diversity_gamma = 0.8

  # What cannot change a result beyond rounding: not part of a run's identity.
  config.system = system = config_dict.ConfigDict()
  # Devices that the pool is split over; None: all.
  system.num_devices = config_dict.placeholder(int)
  # Threads that decode images; None: one per core.
  system.num_workers = config_dict.placeholder(int)
  # Images of a batch while features are computed.
  system.embed_batch_size = 64
  # Where features and the checks of image folders are kept.
  system.cache_dir = "runs/cache"

  return config
