"""What a strategy is: its inputs, its answer, its options, its registration."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import functools
from typing import Any, cast

import jax
from jax.core import Tracer
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from decern_jax.distributed.sharding import (
  Layout,
  assume_split,
  find_layout,
  in_32_bits,
  make_layout,
)
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
    """Returns the strategy for one label per example, or for several.

    Args:
      is_multi_label: Whether an example may have several labels.

    Returns:
      The strategy on any mesh and inside `jax.jit`, as `on_any_mesh` makes it.
      None if this form is not supported.
    """
    select = self.select_multi_label if is_multi_label else self.select
    return None if select is None else on_any_mesh(select)

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


@functools.cache
def on_any_mesh(select: Select) -> Select:
  """Makes a strategy work wherever the pool is, also inside `jax.jit`.

  A strategy is written for one device, or for arrays over axes of type Auto,
  and for 32 bits. Over axes of type Explicit, JAX would refuse the sorts and
  gathers along the pool that selection is made of.

  Args:
    select: The strategy.

  Returns:
    The strategy with two more arguments, `mesh` and `axis`. Inside a `jax.jit`
    over axes of type Auto, where types do not show how the pool is split, they
    say so; without them the strategy is correct, but each device holds the
    whole pool. The rows must be a multiple of the devices. The indices are on
    every device, and the scores are split as the pool is.
  """

  @functools.wraps(select)
  def run(
    key: jax.Array,
    pool: Pool,
    *,
    budget: int,
    mesh: Mesh | None = None,
    axis: str | Sequence[str] | None = None,
    **options,
  ) -> Selection:
    layout = make_layout(mesh, axis) or find_layout(_rows_of(pool))
    pool = in_32_bits(pool)
    choose = functools.partial(select, budget=budget, **options)
    is_traced = any(isinstance(x, Tracer) for x in jax.tree.leaves((key, pool)))
    with jax.enable_x64(False):
      if layout is None:
        return choose(key, pool)
      if is_traced:
        return _trace(choose, key, pool, layout)
      if mesh is None and not layout.is_explicit:
        return choose(key, pool)
      return _place_and_choose(choose, key, pool, layout)

  return run


def _rows_of(pool: Pool) -> list[Any]:
  """Returns the fields of a pool whose first axis is the pool."""
  fields = dataclasses.fields(Pool)
  return [getattr(pool, f.name) for f in fields if f.name != "head"]


def _trace(choose, key, pool: Pool, layout: Layout) -> Selection:
  """Selects inside the caller's `jax.jit`, each device from its own rows."""
  num_rows = len(pool.candidates)
  if not layout.is_explicit:
    with assume_split(layout, num_rows):
      return choose(key, pool)
  layout = Layout(layout.mesh.abstract_mesh, layout.axis)
  auto = layout.with_auto_axes()
  with (
    jax.sharding.use_abstract_mesh(cast(AbstractMesh, auto.mesh)),
    assume_split(auto, num_rows),
  ):
    # This changes only the types: the rows stay where they are.
    key, pool = jax.sharding.reshard((key, pool), PartitionSpec())
    found = choose(key, pool)
  return _move(found, layout, jax.sharding.reshard)


def _place_and_choose(choose, key, pool: Pool, layout: Layout) -> Selection:
  """Selects on the devices of a layout, over axes of type Auto."""
  layout.check(len(pool.candidates))
  auto = layout.with_auto_axes()
  key = jax.device_put(key, NamedSharding(auto.mesh, PartitionSpec()))
  # JAX refuses arrays over another mesh than the one that the caller has set.
  is_set = not jax.sharding.get_abstract_mesh().empty
  mesh = cast(Mesh, auto.mesh)  # the arrays are on devices
  with jax.set_mesh(mesh) if is_set else contextlib.nullcontext():
    found = choose(key, _move(pool, auto, jax.device_put))
  return _move(found, layout, jax.device_put)


def _move(tree: Any, layout: Layout, move: Callable) -> Any:
  """Splits the rows of a pool or a selection; all else is on each device."""

  def place(name: str, value: Any) -> Any:
    is_split = name not in ("head", "indices")
    spec = layout.rows if is_split else PartitionSpec()
    return move(value, NamedSharding(layout.mesh, spec))

  fields = {f.name: getattr(tree, f.name) for f in dataclasses.fields(tree)}
  return type(tree)(
    **{k: v if v is None else place(k, v) for k, v in fields.items()}
  )


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
