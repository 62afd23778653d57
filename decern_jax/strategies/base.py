"""What a strategy is: its inputs, its answer, its options, its registration."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Int

from decern_jax.io.validation import check_integer, check_number
from decern_jax.ops.head import LinearHead

# Default of the fields that a pool has only if the strategy needs them.
_ABSENT: Any = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pool:
  """The training set as a strategy sees it, split over the mesh.

  Fields that a strategy does not list in its `needs` may be None.

  Attributes:
    candidates: True at the examples that may be selected.
    features: Features, as the head consumes them. Rows of examples that are
      neither candidates nor labeled may hold any finite value. A strategy that
      streams may get `HostRows`.
    probs: Predicted class probabilities: softmax of the head's logits, or their
      sigmoid where an example has several labels.
    labels: int32 [pool], the class of each labeled example; or int32
      [pool, classes], 0 or 1, where an example has several labels. -1 where an
      example is not labeled.
    head: The classifier of this round.
    previous_probs: Probabilities predicted by the model of the previous round;
      None in the first round.
    auxiliary: The prediction of the strategy's own auxiliary module for each
      example; see `Auxiliary`.
    pending: True at the examples that people were asked to label and have not
      labeled yet; None if there are none.
  """

  candidates: Bool[Array, " pool"]
  features: Float[Array, "pool dim"] = _ABSENT
  probs: Float[Array, "pool classes"] = _ABSENT
  labels: Int[Array, "pool ..."] = _ABSENT
  head: LinearHead = _ABSENT
  previous_probs: Float[Array, "pool classes"] | None = None
  auxiliary: Float[Array, " pool"] = _ABSENT
  pending: Bool[Array, " pool"] | None = None

  @property
  def labeled(self) -> Bool[Array, " pool"]:
    """True at the examples that are labeled."""
    labels = self.labels
    return (labels if labels.ndim == 1 else labels[:, 0]) >= 0

  @property
  def covered(self) -> Bool[Array, " pool"]:
    """True at the examples that have a label, or will get one."""
    labeled = self.labeled
    return labeled if self.pending is None else labeled | self.pending


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Selection:
  """The answer of a strategy.

  Attributes:
    indices: int32, distinct candidates.
    scores: The score by which the examples were ranked; None if the strategy
      computes no score.
  """

  indices: Int[Array, " budget"]
  scores: Float[Array, " pool"] | None = None


NEEDS = tuple(
  field.name
  for field in dataclasses.fields(Pool)
  if field.name not in ("candidates", "pending")
)
"""The fields of a pool that a strategy may need."""

Select = Callable[..., Selection]
"""Maps `(key, pool, *, budget, **options)` to a `Selection`.

`key` is the random key of all that is drawn, `pool` the pool with what the
strategy needs, `budget` the number of examples to select, at most the
candidates, and `options` the options that the strategy declares.
"""


@dataclasses.dataclass(frozen=True)
class Option:
  """An option of a strategy, set as `selection.options.<name>`.

  The type of the default is the type of the option: int, float or str.

  Attributes:
    name: Name of the option, with one meaning in all strategies.
    default: Its default.
    meaning: What it does, one sentence for the user.
    low: Smallest value of a number.
    high: Largest value of a number.
    choices: The values that a string may have.
  """

  name: str
  default: int | float | str
  meaning: str
  low: float = -float("inf")
  high: float = float("inf")
  choices: tuple[str, ...] = ()

  def check(self, value: Any) -> int | float | str:
    """Returns a value of the option, validated.

    Returns:
      The value as the type of the option.

    Raises:
      ValueError: If the type is wrong or the value is out of range.
    """
    name = f"selection.options.{self.name}"
    if isinstance(self.default, str):
      if value not in self.choices:
        raise ValueError(
          f"Unknown `{name}` {value!r}; expected one of {sorted(self.choices)}."
        )
      return value
    if isinstance(self.default, int):
      high = None if self.high == float("inf") else int(self.high)
      return check_integer(name, value, low=int(self.low), high=high)
    return check_number(name, value, low=self.low, high=self.high)


@dataclasses.dataclass(frozen=True)
class Auxiliary:
  """A module that trains together with the classifier, for a strategy.

  Every round starts from new parameters of `init`; `loss` is added to the
  training loss of each batch; `predict` gives one number for each example of
  the pool, which the strategy gets as `Pool.auxiliary`. The stages are the
  pooled outputs of the backbone's stages, float32 [rows, dim] each; if the
  backbone is frozen, the only stage is the features.

  Attributes:
    name: Names the random key of the initial parameters.
    init: Maps `(key, *, stage_dims)` to parameters, a pytree.
    loss: Maps `(params, stages, losses, *, epoch, num_epochs, num_rows)` to a
      scalar. `losses` are the classifier's, one per row; only the first
      `num_rows` rows count (None means all).
    predict: Maps `(params, stages)` to float32 [rows].
  """

  name: str
  init: Callable[..., Any]
  loss: Callable[..., Float[Array, ""]]
  predict: Callable[..., Float[Array, " rows"]]


@dataclasses.dataclass(frozen=True)
class Strategy:
  """A strategy as it is registered.

  Attributes:
    name: Its name.
    select: The strategy for one label per example; None if it is not supported.
    select_multi_label: The strategy for several labels per example; None if it
      is not supported.
    needs: The fields of `NEEDS` that it reads; a run computes only these.
    options: Its options, which `select` takes as keywords.
    streams: Whether it reads features block by block, so that they can stay on
      the host.
    auxiliary: The module that must train for it, if any.
  """

  name: str
  select: Select | None
  select_multi_label: Select | None = None
  needs: tuple[str, ...] = ()
  options: tuple[Option, ...] = ()
  streams: bool = False
  auxiliary: Auxiliary | None = None

  def __post_init__(self):
    unknown = sorted(set(self.needs) - set(NEEDS))
    if unknown:
      raise ValueError(
        f"Unknown needs {unknown} of {self.name!r}; expected some of {NEEDS}."
      )
    if (self.auxiliary is not None) != ("auxiliary" in self.needs):
      raise ValueError(
        f"Expected {self.name!r} to need `auxiliary` if, and only if, it has an"
        f" auxiliary module, got {self.auxiliary} and {self.needs}."
      )

  @property
  def option_names(self) -> tuple[str, ...]:
    """The names of its options."""
    return tuple(option.name for option in self.options)

  @property
  def reads_blocks(self) -> bool:
    """Whether the features of the pool may stay on the host."""
    return self.streams or "features" not in self.needs

  def form(self, *, is_multi_label: bool) -> Select | None:
    """Returns the strategy for one label per example, or for several."""
    return self.select_multi_label if is_multi_label else self.select

  def require_form(self, *, is_multi_label: bool) -> Select:
    """Returns the strategy for this kind of labels.

    Raises:
      ValueError: If it does not support them; shows the strategies that do.
    """
    form = self.form(is_multi_label=is_multi_label)
    if form is None:
      kind = "several labels" if is_multi_label else "one label"
      known = sorted(
        name
        for name, other in STRATEGIES.items()
        if other.form(is_multi_label=is_multi_label)
      )
      raise ValueError(
        f"Expected a strategy for {kind} per example, one of {known}, got"
        f" {self.name!r}."
      )
    return form

  def choose_options(
    self, values: Mapping[str, Any]
  ) -> dict[str, int | float | str]:
    """Returns the options of this strategy, validated.

    Args:
      values: Values by name. Options of other strategies are ignored, and
        missing ones have their defaults.

    Returns:
      The keywords for `select`.

    Raises:
      ValueError: If a value is out of range.
    """
    return {
      option.name: option.check(values.get(option.name, option.default))
      for option in self.options
    }


STRATEGIES: dict[str, Strategy] = {}
"""All registered strategies by name."""


def register(strategy: Strategy) -> Strategy:
  """Adds a strategy to the table.

  Args:
    strategy: Its row.

  Returns:
    The same strategy.

  Raises:
    ValueError: If the name is taken, or another strategy declares an option of
      the same name differently.
  """
  if strategy.name in STRATEGIES:
    raise ValueError(f"Expected a new name, got {strategy.name!r} again.")
  known = declared_options()
  for option in strategy.options:
    if known.get(option.name, option) != option:
      raise ValueError(
        f"Expected one declaration of option {option.name!r}, got {option} of"
        f" {strategy.name!r} and {known[option.name]}."
      )
  STRATEGIES[strategy.name] = strategy
  return strategy


def declared_options() -> dict[str, Option]:
  """Returns the options of all registered strategies by name, sorted."""
  options = {
    option.name: option
    for strategy in STRATEGIES.values()
    for option in strategy.options
  }
  return dict(sorted(options.items()))
