"""The fields of a configuration: their types, and the values they may have.

`configs/common.py` documents each field and sets its default. A type checker
reads `Annotated[int, Range(low=1)]` as `int`; `check.py` reads the limits.
"""

from collections.abc import Collection
import dataclasses
import math
from typing import Annotated, Any, Protocol

from decern_jax import models, strategies
from decern_jax.data import sources, transforms
from decern_jax.training.recipe import METHODS, OPTIMIZERS

LARGEST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Range:
  """Bounds of a number, or of each number in a tuple; both are allowed."""

  low: float
  high: float = math.inf


@dataclasses.dataclass(frozen=True)
class OneOf:
  """The names allowed for a field, or for each entry of a tuple.

  Attributes:
    kind: What the names stand for, such as "strategy"; used in messages.
    names: The names.
  """

  kind: str
  names: Collection[str]


@dataclasses.dataclass(frozen=True)
class Distinct:
  """Requires a tuple without repetitions and with at least one entry."""


Count = Annotated[int, Range(low=1)]
Seed = Annotated[int, Range(low=0, high=LARGEST_SEED)]


class Section(Protocol):
  """A configuration or one of its sections, with any fields."""

  def __getitem__(self, name: str, /) -> Any:
    """Returns a field by its name."""
    ...


class Dataset(Section, Protocol):
  """The section `dataset`, which pre-training shares."""

  name: Annotated[str, OneOf("dataset", sources.DATASETS)]
  path: str | None
  split_file: str | None
  label_file: str | None
  path_column: str | None
  split_column: str | None
  label_column: str | None
  binary_columns: tuple[str, ...]
  ignored_columns: tuple[str, ...]
  test_share: Annotated[float, Range(low=1e-6, high=1 - 1e-6)]
  split_seed: Annotated[int, Range(low=0)]
  is_multi_label: bool
  band_range: tuple[float, ...]
  long_tail_ratio: Annotated[float | None, Range(low=1.0)]
  long_tail_seed: Annotated[int, Range(low=0)]
  resize_size: Annotated[int, Range(low=32)]
  image_size: Annotated[int, Range(low=32)]
  interpolation: Annotated[
    str, OneOf("interpolation", transforms.INTERPOLATIONS)
  ]


class Model(Section, Protocol):
  """The section `model`."""

  name: Annotated[str, OneOf("model", models.MODELS)]
  weights: str | None
  weights_seed: Seed
  dtype: Annotated[str, OneOf("dtype", models.DTYPES)]


class Labels(Section, Protocol):
  """The section `labels`; `annotation` knows the names of the formats."""

  class_names: tuple[str, ...]
  formats: tuple[str, ...]


class Train(Section, Protocol):
  """The section `train`."""

  method: Annotated[str, OneOf("training method", METHODS)]
  scope: Annotated[str, OneOf("training scope", models.SCOPES)]
  augment: bool
  freeze_batch_norm: bool
  num_epochs: Count
  steps_per_epoch: Annotated[int | None, Range(low=1)]
  batch_size: Count
  optimizer: Annotated[str, OneOf("optimizer", OPTIMIZERS)]
  weight_decay: Annotated[float, Range(low=0.0)]
  learning_rate: Annotated[float, Range(low=1e-12)]
  warmup_epochs: Annotated[int, Range(low=0)]
  warmup_learning_rate: Annotated[float, Range(low=0.0)]
  final_learning_rate: Annotated[float, Range(low=0.0)]


class Options(Section, Protocol):
  """The section `selection.options`, whose fields the strategies declare."""


class Selection(Section, Protocol):
  """The section `selection`."""

  strategy: Annotated[str, OneOf("strategy", strategies.STRATEGIES)]
  initial_budget: Annotated[int | None, Range(low=1)]
  budget: Annotated[int | None, Range(low=1)]
  budget_per_class: Count
  initial_strategy: str
  num_candidates: Annotated[int | None, Range(low=1)]
  options: Options


class System(Section, Protocol):
  """The section `system`."""

  num_devices: Annotated[int | None, Range(low=1)]
  pool_on_host: bool | None
  num_workers: Annotated[int | None, Range(low=1)]
  embed_batch_size: Count
  checkpoint_seconds: Annotated[float, Range(low=0.0)]
  cache_dir: str


class Config(Section, Protocol):
  """A whole configuration."""

  num_rounds: Count
  seeds: Annotated[tuple[int, ...], Range(low=0, high=LARGEST_SEED), Distinct()]
  strategies: Annotated[
    tuple[str, ...], OneOf("strategy", strategies.STRATEGIES), Distinct()
  ]
  dataset: Dataset
  model: Model
  labels: Labels
  train: Train
  selection: Selection
  system: System

  def to_dict(self) -> dict[str, Any]:
    """Returns all fields, nested."""
    ...
