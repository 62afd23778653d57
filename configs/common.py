"""Every field of a configuration, once, with the published values.

A configuration file calls `get_config`, or `get_paper_config` for one of the
paper's settings, and changes values; it adds no field.
"""

from ml_collections import config_dict

from decern_jax import strategies

# What the comparison of strategies for several labels per image compares.
MULTILABEL_STRATEGIES = (
  "decern_multilabel",
  "entropy",
  "gradient_magnitude_clustered",
  "learning_loss_clustered",
  "random",
  "temporal_discrepancy_clustered",
)

# What the paper's backbones differ in.
PAPER_BACKBONES = {
  # DINO, class tokens of the last four blocks; frozen but for normalisation.
  "vit_small16": {
    "model.weights": "hf://timm/vit_small_patch16_224.dino",
  },
  # DINO; the last stage trains. Not on the Hub: see configs/paper.py.
  "resnet50": {
    "model.weights": "weights/dino_resnet50_pretrain.safetensors",
  },
  # Frozen.
  "dinov2_small14": {
    "model.weights": "hf://timm/vit_small_patch14_dinov2.lvd142m",
    "dataset.interpolation": "bicubic",
  },
}

# What the paper's data sets differ in, beyond the facts of `data/sources`.
PAPER_DATASETS = {
  "bronze_ding": {"dataset.path": "data/bronze_ding"},
  "caltech101": {"dataset.split_file": "data/split_zhou_Caltech101.json"},
  "caltech_birds2011": {},
  "food101": {"selection.num_candidates": 15_150},
  "oxford_flowers102": {},
  "oxford_iiit_pet": {},
  "stanford_dogs": {},
}


def get_config() -> config_dict.ConfigDict:
  """Returns the configuration that all others start from."""
  config = config_dict.ConfigDict()

  # A round trains, evaluates, and selects; the last one does not select.
  config.num_rounds = 8
  # One run per seed.  Published: (1, 11, 111, 1111, 11111).
  config.seeds = (1,)
  # What `decern_jax.compare` compares; `decern_jax.main` runs
  # `selection.strategy`.
  config.strategies = ("decern", "margin", "random")

  config.dataset = dataset = config_dict.ConfigDict()
  dataset.name = config_dict.placeholder(str)
  # Folder of images, also on gs://, or of BronzeDing; a file of labels; or
  # data_dir of tfds (None: its default).
  dataset.path = config_dict.placeholder(str)
  # Published split, for the data set that needs one: caltech101.
  dataset.split_file = config_dict.placeholder(str)
  # A file of labels, for label_file (as `path`) and uc_merced (here).
  dataset.label_file = config_dict.placeholder(str)
  # Its columns: of the images, of the part (train, val, test), of the names of
  # labels or of 0 and 1, one each; and those of nothing. None: by their names.
  dataset.path_column = config_dict.placeholder(str)
  dataset.split_column = config_dict.placeholder(str)
  dataset.label_column = config_dict.placeholder(str)
  dataset.binary_columns = ()
  dataset.ignored_columns = ()
  # Share of the images that are drawn for the test part, where no column tells.
  dataset.test_share = 0.2
  dataset.split_seed = 0
  # Whether an image of unlabeled_folder may have several labels.
  dataset.is_multi_label = False
  # What becomes 0 and 255 of the bands of images; (): they are uint8 or colors.
  dataset.band_range = ()
  # How many times as frequent the first label of the pool is to be as the last:
  # examples are left out until it is so; None: all stay.
  dataset.long_tail_ratio = config_dict.placeholder(float)
  dataset.long_tail_seed = 0
  # Short side after resizing, and side of the center crop, in pixels.
  dataset.resize_size = 256
  dataset.image_size = 224
  dataset.interpolation = "bilinear"

  config.model = model = config_dict.ConfigDict()
  model.name = config_dict.placeholder(str)
  # Local .safetensors file, one on gs://, or one on the Hugging Face Hub as
  # hf://owner/repo[@revision][/path/file.safetensors]; None: the weights that
  # ship with the package; or "random", drawn from the next number.
  model.weights = config_dict.placeholder(str)
  model.weights_seed = 0
  # What the backbone computes in: "float32" or "bfloat16". Parameters and
  # features are float32.
  model.dtype = "float32"

  # Where labels come from people.
  config.labels = labels = config_dict.ConfigDict()
  # Classes that are known before the first label, beside those of the parts
  # that are held out. Answers may name others.
  labels.class_names = ()
  # Formats of `decern_jax.annotation.formats` that a query is written in.
  labels.formats = ("csv",)

  config.train = train = config_dict.ConfigDict()
  # What trains beside the head: "head", nothing; "published", what the authors
  # train of this backbone; "all", everything.
  train.scope = "head"
  # Random resized crops and flips. Without, and with a fixed backbone, training
  # takes seconds on features that are computed once.
  train.augment = False
  # Whether batch normalisation keeps the statistics of its weights, where the
  # backbone trains; published: False.
  train.freeze_batch_norm = False
  train.num_epochs = 200
  # Batches of an epoch, the same in all rounds; None, as published: those of a
  # pass over the labeled examples.
  train.steps_per_epoch = config_dict.placeholder(int)
  train.batch_size = 128
  # "adamw", which is Adam, as published, without weight decay; or "lars".
  train.optimizer = "adamw"
  # Of kernels; biases have none.
  train.weight_decay = 0.0
  train.learning_rate = 1e-3
  train.warmup_epochs = 5
  train.warmup_learning_rate = 1e-6
  train.final_learning_rate = 1e-5

  config.selection = selection = config_dict.ConfigDict()
  selection.strategy = "decern"
  # Examples of the random initial set, and of every later round; None:
  # budget_per_class times the number of classes.
  selection.initial_budget = config_dict.placeholder(int)
  selection.budget = config_dict.placeholder(int)
  selection.budget_per_class = 1
  # What selects the initial set: "random", as published; or a strategy that
  # reads features alone, such as "typiclust" or "kmeans".
  selection.initial_strategy = "random"
  # Unlabeled examples, drawn anew in every round, that a selection chooses
  # from; None: all.
  selection.num_candidates = config_dict.placeholder(int)
  # Options of the strategies, with the defaults that each declares in its own
  # file in decern_jax/strategies, next to its meaning and range. For example,
  # --config.selection.options.power_beta=2.0.
  selection.options = config_dict.ConfigDict(strategies.default_options())

  # What cannot change a result beyond rounding: not part of a run's identity.
  config.system = system = config_dict.ConfigDict()
  # Devices that the pool is split over; None: all.
  system.num_devices = config_dict.placeholder(int)
  # Whether the features of the pool stay on the host, and are read block by
  # block; None: if they are too large for the devices.
  system.pool_on_host = config_dict.placeholder(bool)
  # Threads that decode images; None: one per core.
  system.num_workers = config_dict.placeholder(int)
  # Images of a batch while features are computed.
  system.embed_batch_size = 64
  # Time between two savings inside a round of fine-tuning.
  system.checkpoint_seconds = 60.0
  # Where features and the checks of image folders are kept; may be on gs://.
  system.cache_dir = "runs/cache"

  return config


def get_paper_config(dataset: str, backbone: str) -> config_dict.ConfigDict:
  """Returns the paper's setting for a data set and a backbone.

  Args:
    dataset: One of `PAPER_DATASETS`.
    backbone: One of `PAPER_BACKBONES`.

  Returns:
    The configuration, with budgets of one label per class.

  Raises:
    ValueError: If a name is unknown.
  """
  config = get_config()
  for kind, name, known in (
    ("data set", dataset, PAPER_DATASETS),
    ("backbone", backbone, PAPER_BACKBONES),
  ):
    if name not in known:
      raise ValueError(
        f"Unknown {kind} of the paper {name!r}; expected one of"
        f" {sorted(known)}."
      )
  config.dataset.name = dataset
  config.model.name = backbone
  config.train.scope = "published"
  config.train.augment = True
  for changes in (PAPER_DATASETS[dataset], PAPER_BACKBONES[backbone]):
    config.update_from_flattened_dict(changes)
  return config
