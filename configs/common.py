"""Every field of a configuration, with its meaning and its default.

The comment above a field is what `--help` shows of it.

The defaults are the published values. A configuration file calls `get_config`,
or `get_paper_config` for one of the paper's settings, and changes values; it
adds no field. `decern_jax/runs/config.py` says which values a field may have.
"""

from typing import Any

from ml_collections import config_dict

from decern_jax import strategies

# Strategies to compare where an image may have several labels.
MULTILABEL_STRATEGIES = (
  "decern_multilabel",
  "entropy",
  "gradient_magnitude_clustered",
  "learning_loss_clustered",
  "random",
  "temporal_discrepancy_clustered",
)

# The settings in which the paper's backbones differ.
PAPER_BACKBONES = {
  # DINO, class tokens of the last four blocks; only normalisation trains.
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

# The settings in which the paper's data sets differ.
PAPER_DATASETS = {
  "bronze_ding": {"dataset.path": "data/bronze_ding"},
  "caltech101": {"dataset.split_file": "data/split_zhou_Caltech101.json"},
  "caltech_birds2011": {},
  "food101": {"selection.num_candidates": 15_150},
  "oxford_flowers102": {},
  "oxford_iiit_pet": {},
  "stanford_dogs": {},
}

# Labels per class, in the initial set and in each later selection.
PAPER_BUDGETS = {"1x": 1, "2x": 2}


def get_config() -> Any:
  """Returns the `ConfigDict` that all other configurations start from."""
  config = config_dict.ConfigDict()

  # A round trains, evaluates, and selects; the last one does not select.
  config.num_rounds = 8
  # One run per seed. Published: (1, 11, 111, 1111, 11111).
  config.seeds = (1,)
  # The strategies that `compare` compares; `run` takes `selection.strategy`.
  config.strategies = ("decern", "margin", "random")

  config.dataset = dataset = config_dict.ConfigDict()
  # The data set. Your own: image_folder, with a folder per class;
  # unlabeled_folder, whose labels come from people; label_file, a table.
  dataset.name = config_dict.placeholder(str)
  # The folder of the images, of BronzeDing's release or of the data sets of
  # tfds (None for tfds's default); or the label file. Folders of images may be
  # on gs://.
  dataset.path = config_dict.placeholder(str)
  # The file of the published split, for caltech101.
  dataset.split_file = config_dict.placeholder(str)
  # The label file of uc_merced. The data set label_file takes it as `path`.
  dataset.label_file = config_dict.placeholder(str)
  # The column of the label file with the path of the image. If not set, columns
  # are recognized by their names.
  dataset.path_column = config_dict.placeholder(str)
  # The column with the split: train, val or test.
  dataset.split_column = config_dict.placeholder(str)
  # The column with the names of the labels.
  dataset.label_column = config_dict.placeholder(str)
  # The columns of 0 and 1, one per label.
  dataset.binary_columns = ()
  # The columns to ignore.
  dataset.ignored_columns = ()
  # Share of the images drawn for the test split if no column has the split.
  dataset.test_share = 0.2
  # Seed of that draw.
  dataset.split_seed = 0
  # Whether an image of unlabeled_folder may have several labels.
  dataset.is_multi_label = False
  # (low, high), the values of the bands that become 0 and 255. Empty for images
  # that are uint8 or have three colors.
  dataset.band_range = ()
  # Thins the pool to a long tail, in which the first label is this many times
  # as frequent as the last one. None keeps all examples.
  dataset.long_tail_ratio = config_dict.placeholder(float)
  # Seed of that thinning.
  dataset.long_tail_seed = 0
  # Short side of an image after resizing, in pixels.
  dataset.resize_size = 256
  # Side of the crop that the backbone sees, in pixels.
  dataset.image_size = 224
  # How images are resized.
  dataset.interpolation = "bilinear"

  config.model = model = config_dict.ConfigDict()
  # The backbone.
  model.name = config_dict.placeholder(str)
  # A .safetensors file: local, on gs://, or on the Hugging Face Hub as
  # hf://owner/repo[@revision][/path/file.safetensors]. None for the weights
  # that ship with the package, "random" to draw them from `weights_seed`.
  model.weights = config_dict.placeholder(str)
  # Seed of random weights.
  model.weights_seed = 0
  # The type that the backbone computes in. Parameters and features are float32.
  model.dtype = "float32"

  # Where labels come from people.
  config.labels = labels = config_dict.ConfigDict()
  # Classes that are known before the first label, in addition to those of the
  # held-out splits. Answers may name other classes.
  labels.class_names = ()
  # Formats of `decern_jax.annotation.formats` that a query is written in.
  labels.formats = ("csv",)

  config.train = train = config_dict.ConfigDict()
  # How a head is trained on features that do not change: "supervised", as
  # published, by the settings below; "logistic", by logistic regression; or
  # "propagation", by that with the unlabeled images of the pool.
  train.method = "supervised"
  # What trains: "head" only, "published" for the head and the layers that the
  # authors train, or "all".
  train.scope = "head"
  # Random resized crops and flips. Without them, a fixed backbone computes its
  # features once, and training takes seconds.
  train.augment = False
  # Whether batch normalisation keeps its loaded statistics while the backbone
  # trains. Published: False.
  train.freeze_batch_norm = False
  # Epochs of the training of a round.
  train.num_epochs = 200
  # Batches of an epoch, the same in all rounds. None, as published, for one
  # pass over the labeled examples.
  train.steps_per_epoch = config_dict.placeholder(int)
  # Labeled examples of a batch.
  train.batch_size = 128
  # "adamw" or "lars". Published: Adam, which is "adamw" without weight decay.
  train.optimizer = "adamw"
  # Weight decay of kernels; biases have none.
  train.weight_decay = 0.0
  # The highest learning rate, at the end of the warmup.
  train.learning_rate = 1e-3
  # Epochs in which the learning rate rises linearly, at most `num_epochs`.
  train.warmup_epochs = 5
  # The learning rate at the start.
  train.warmup_learning_rate = 1e-6
  # The learning rate at the end, after half a cosine.
  train.final_learning_rate = 1e-5

  config.selection = selection = config_dict.ConfigDict()
  # The query strategy.
  selection.strategy = "decern"
  # Labels of the initial set. None for `budget_per_class` times the number of
  # classes.
  selection.initial_budget = config_dict.placeholder(int)
  # Labels of every later selection. None as for the initial set.
  selection.budget = config_dict.placeholder(int)
  # Labels per class, where a budget is None.
  selection.budget_per_class = 1
  # The strategy that selects the initial set: "random", as published, or one
  # that needs no trained model, such as "typiclust" or "kmeans".
  selection.initial_strategy = "random"
  # Each selection chooses from this many unlabeled examples, drawn at random.
  # None for all.
  selection.num_candidates = config_dict.placeholder(int)
  # Options of the strategies, for example
  # --config.selection.options.power_beta=2.0. Their modules in
  # decern_jax/strategies declare defaults, meanings and ranges.
  selection.options = config_dict.ConfigDict(strategies.default_options())

  # Settings that change no result beyond rounding. They may change between two
  # starts of a run.
  config.system = system = config_dict.ConfigDict()
  # Number of devices that the pool is split over. None for all.
  system.num_devices = config_dict.placeholder(int)
  # Whether the features of the pool stay on the host, and are read block by
  # block. None to do so only if they are too large for the devices.
  system.pool_on_host = config_dict.placeholder(bool)
  # Number of threads that decode images. None for one per core.
  system.num_workers = config_dict.placeholder(int)
  # Images of a batch while features are computed.
  system.embed_batch_size = 64
  # Seconds between two checkpoints inside a round of fine-tuning.
  system.checkpoint_seconds = 60.0
  # Folder for computed features and for checks of images; may be on gs://.
  system.cache_dir = "runs/cache"

  return config


def get_paper_config(dataset: str, variant: str = "") -> Any:
  """Returns the paper's setting for a data set.

  Args:
    dataset: One of `PAPER_DATASETS`.
    variant: A backbone of `PAPER_BACKBONES`, a budget of `PAPER_BUDGETS`, or
      both: "resnet50", "1x", "resnet50/1x". The defaults are DINO's ViT-S/16
      and the published budget: 1x for Flowers102, 2x for the others.

  Returns:
    The configuration.

  Raises:
    ValueError: If a name is unknown.
  """
  if dataset not in PAPER_DATASETS:
    raise ValueError(
      f"Unknown data set of the paper {dataset!r}; expected one of"
      f" {sorted(PAPER_DATASETS)}."
    )
  words = variant.split("/") if variant else []
  backbones = [word for word in words if word in PAPER_BACKBONES]
  budgets = [word for word in words if word in PAPER_BUDGETS]
  if max(len(backbones), len(budgets)) > 1 or len(words) != len(
    backbones + budgets
  ):
    raise ValueError(
      f"Unknown variant {variant!r}; expected a backbone of"
      f" {sorted(PAPER_BACKBONES)}, a budget of {sorted(PAPER_BUDGETS)}, or"
      " both, as 'resnet50/1x'."
    )
  is_flowers = dataset == "oxford_flowers102"
  backbone = (*backbones, "vit_small16")[0]
  budget = (*budgets, "1x" if is_flowers else "2x")[0]
  config = get_config()
  config.dataset.name = dataset
  config.model.name = backbone
  config.train.scope = "published"
  config.train.augment = True
  config.selection.budget_per_class = PAPER_BUDGETS[budget]
  if is_flowers and budget == "2x":
    config.num_rounds = 5  # These label the whole pool.
  for changes in (PAPER_DATASETS[dataset], PAPER_BACKBONES[backbone]):
    config.update_from_flattened_dict(changes)
  return config
