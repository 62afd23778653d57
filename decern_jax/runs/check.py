"""Checks of a configuration that need no data.

`config.py` is the table of what each field may hold. Rules that involve several
fields are the functions in `_RULES`.
"""

from collections.abc import Sequence
import math
import sys
import types
import typing
from typing import Any

from decern_jax import models
from decern_jax.io import storage
from decern_jax.io.validation import check_integer, check_number
from decern_jax.models import hub
from decern_jax.runs.config import (
  Config,
  Dataset,
  Distinct,
  OneOf,
  Range,
  Section,
)
from decern_jax.strategies import STRATEGIES, declared_options

_NAMES_OF_TYPES = {bool: "True or False", str: "text"}


def check(config: Config) -> None:
  """Checks every value of a configuration that needs no data.

  Raises:
    ValueError: If a name is unknown or a value is out of range; shows it.
  """
  check_fields(config, Config)
  for rule in _RULES:
    rule(config)


def check_dataset(dataset: Dataset) -> None:
  """Checks the section `dataset`, which pre-training shares.

  Raises:
    ValueError: If a name is unknown or a value is out of range; shows it.
  """
  check_fields(dataset, Dataset, prefix="dataset.")
  _check_sizes(dataset)
  _check_band_range(dataset)


def check_fields(section: Section, fields: type, *, prefix: str = "") -> None:
  """Checks the type and range of each field, including nested sections.

  Args:
    section: A configuration, or a section of one.
    fields: The class that declares its fields, such as those in `config.py`.
    prefix: Prefix of the field names in messages.

  Raises:
    ValueError: If a name is unknown or a value is out of range; shows it.
  """
  for name, hint in typing.get_type_hints(fields, include_extras=True).items():
    if Section in getattr(hint, "__mro__", ()):
      check_fields(section[name], hint, prefix=f"{prefix}{name}.")
    else:
      _check_field(f"{prefix}{name}", section[name], hint)


def _check_field(name: str, value: Any, hint: Any) -> None:
  """Checks a value against a type, which may be `Annotated` with limits."""
  hint, *limits = (
    typing.get_args(hint)
    if typing.get_origin(hint) is typing.Annotated
    else (hint,)
  )
  if isinstance(hint, types.UnionType):
    if value is None:
      return
    (hint,) = set(typing.get_args(hint)) - {types.NoneType}
  if typing.get_origin(hint) is not tuple:
    _check_value(name, value, hint, limits)
    return
  if not isinstance(value, tuple):
    raise ValueError(f"Expected `{name}` a tuple, got {value!r}.")
  is_distinct = value and len(set(value)) == len(value)
  if Distinct() in limits and not is_distinct:
    raise ValueError(f"Expected distinct `{name}`, at least one, got {value}.")
  for entry in value:
    _check_value(name, entry, typing.get_args(hint)[0], limits)


def _check_value(
  name: str, value: Any, kind: type, limits: Sequence[Any]
) -> None:
  """Checks a single value, which is not a tuple."""
  bounds = Range(-sys.maxsize)
  for limit in limits:
    if isinstance(limit, OneOf) and value not in limit.names:
      raise ValueError(
        f"Unknown {limit.kind} {value!r}; expected one of"
        f" {sorted(limit.names)}."
      )
    if isinstance(limit, Range):
      bounds = limit
  if kind is int:
    high = None if math.isinf(bounds.high) else int(bounds.high)
    check_integer(name, value, low=int(bounds.low), high=high)
  elif kind is float:
    check_number(name, value, low=bounds.low, high=bounds.high)
  elif not isinstance(value, kind):
    raise ValueError(
      f"Expected `{name}` {_NAMES_OF_TYPES[kind]}, got {value!r}."
    )


def _check_sizes(dataset: Dataset) -> None:
  """Refuses a crop that is larger than the resized image."""
  check_integer(
    "dataset.resize_size", dataset.resize_size, low=dataset.image_size
  )


def _check_band_range(dataset: Dataset) -> None:
  if len(dataset.band_range) not in (0, 2):
    raise ValueError(
      "Expected `dataset.band_range` as (low, high) or (), got"
      f" {dataset.band_range}."
    )


def _check_learning_rates(config: Config) -> None:
  """Refuses a warmup longer than the training, and rates above the peak."""
  train = config.train
  check_integer(
    "train.warmup_epochs", train.warmup_epochs, low=0, high=train.num_epochs
  )
  for name in ("warmup_learning_rate", "final_learning_rate"):
    check_number(
      f"train.{name}", train[name], low=0.0, high=train.learning_rate
    )


def _check_method(config: Config) -> None:
  """Refuses methods for fixed features where the features change."""
  train = config.train
  changes = {
    "head": False,
    "published": bool(models.MODELS[config.model.name].published),
    "all": True,
  }[train.scope]
  if train.method != "supervised" and (changes or train.augment):
    raise ValueError(
      "Expected `train.method='supervised'` where the backbone trains or images"
      f" are augmented, got {train.method!r} with `train.scope`"
      f" {train.scope!r} and `train.augment` {train.augment}."
    )


def _check_initial_strategy(config: Config) -> None:
  """Refuses a strategy that needs a trained model for the initial set."""
  known = sorted(
    name
    for name, strategy in STRATEGIES.items()
    if set(strategy.needs) <= {"features", "labels"}
  )
  name = config.selection.initial_strategy
  if name not in known:
    raise ValueError(
      "Expected `selection.initial_strategy` to need no model that was trained,"
      f" one of {known}, got {name!r}."
    )


def _check_stores(config: Config) -> None:
  """Refuses paths in object stores that cannot be reached."""
  weights = config.model.weights
  is_path = weights and not hub.is_hub_name(weights)
  for path in (
    config.system.cache_dir,
    config.dataset.path,
    weights if is_path else None,
  ):
    if path:
      storage.check_reachable(path)


def _check_options(config: Config) -> None:
  for name, option in declared_options().items():
    option.check(config.selection.options[name])


_RULES = (
  lambda config: check_dataset(config.dataset),
  _check_learning_rates,
  _check_method,
  _check_initial_strategy,
  _check_options,
  # Last, because a store may be slow to answer.
  _check_stores,
)
