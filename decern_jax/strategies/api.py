"""One call for every strategy, on the caller's own data and models."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import difflib
import functools
import inspect
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import numpy as np

from decern_jax.distributed.sharding import (
  place_pool,
  pool_layout,
  to_host,
)
from decern_jax.features.embedding import predict
from decern_jax.io.validation import check_integer, check_shapes
from decern_jax.ops.head import LinearHead
from decern_jax.strategies.base import (
  NEEDS,
  Pool,
  Select,
  Selection,
  Strategy,
)
from decern_jax.strategies.limits import Limit, fill, group_limit, quota_limit
from decern_jax.strategies.registry import STRATEGIES

# How far the sum of a row of probabilities may be from 1, for float16 models.
SUM_TOLERANCE = 1e-2

# Logit of a class that a head was not trained on, below the mean of the others.
UNSEEN_LOGIT = -50.0


@dataclasses.dataclass(frozen=True)
class StrategyInfo:
  """What a user must know about a strategy.

  Attributes:
    name: Its name.
    summary: What it selects, one line.
    needs: What it reads, by the names of the arguments of `select`.
    options: Its options with their defaults.
    single_label: Whether it takes one label per example.
    multi_label: Whether it takes several labels per example.
    source: The publication, or None.
  """

  name: str
  summary: str
  needs: tuple[str, ...]
  options: Mapping[str, int | float | str]
  single_label: bool
  multi_label: bool
  source: str | None


def list_strategies() -> list[StrategyInfo]:
  """Returns what each registered strategy is and needs, by name."""
  return [_describe(strategy) for _, strategy in sorted(STRATEGIES.items())]


def get_strategy(name: str, *, is_multi_label: bool = False) -> Select:
  """Returns a strategy as a function that may be called inside `jax.jit`.

  It maps `(key, pool, *, budget, mesh=None, axis=None, **options)` to a
  `Selection`. The pool is a `Pool` of JAX arrays, which may be split by rows
  over a mesh. `list_strategies` shows the fields that the strategy needs.

  Nothing is checked but shapes and options, because values are not known inside
  `jax.jit`. With NaN or infinity in a field, or with a budget above the number
  of candidates, some of the indices are not candidates, or occur twice.
  `select` checks all of this.

  Over axes of type Auto, types do not show how the pool is split inside
  `jax.jit`. `mesh` is then the mesh, and `axis` the names of its axes that
  split the rows (None for all). Without them the answer is the same, but each
  device holds the whole pool.

  Args:
    name: Name of the strategy.
    is_multi_label: Whether an example may have several labels.

  Returns:
    The function.

  Raises:
    ValueError: If the name is unknown, or the form is not supported.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> probs = jax.nn.softmax(jnp.arange(12.0).reshape(4, 3) ** 2 / 9)
    >>> pool = Pool(candidates=jnp.ones(4, bool), probs=probs)
    >>> margin = get_strategy("margin")
    >>> choose = jax.jit(lambda key, pool: margin(key, pool, budget=2).indices)
    >>> choose(jax.random.key(0), pool).tolist()
    [0, 1]
  """
  strategy = find_strategy(name)
  form = strategy.require_form(is_multi_label=is_multi_label)

  @functools.wraps(form)
  def choose(
    key: jax.Array,
    pool: Pool,
    *,
    budget: int,
    mesh: Mesh | None = None,
    axis: str | Sequence[str] | None = None,
    **options,
  ) -> Selection:
    size = len(pool.candidates)
    given = {need for need in NEEDS if getattr(pool, need) is not None}
    # There are none in the first round.
    _check_needs(strategy, given | {"previous_probs"})
    return form(
      key,
      pool,
      budget=check_integer("budget", budget, low=1, high=size),
      mesh=mesh,
      axis=axis,
      **choose_options(strategy, options),
    )

  return choose


@overload
def select(
  name: str,
  *,
  budget: int,
  features: Any = None,
  probs: Any = None,
  head: Any = None,
  labels: Any = None,
  candidates: Any = None,
  pending: Any = None,
  previous_probs: Any = None,
  auxiliary: Any = None,
  is_multi_label: bool | None = None,
  groups: Any = None,
  max_per_group: int = 1,
  strata: Any = None,
  quotas: Mapping[Any, int] | None = None,
  options: Mapping[str, int | float | str] | None = None,
  seed: int | None = None,
  key: jax.Array | None = None,
  mesh: Mesh | None = None,
  return_scores: Literal[False] = False,
) -> np.ndarray: ...


@overload
def select(
  name: str,
  *,
  budget: int,
  features: Any = None,
  probs: Any = None,
  head: Any = None,
  labels: Any = None,
  candidates: Any = None,
  pending: Any = None,
  previous_probs: Any = None,
  auxiliary: Any = None,
  is_multi_label: bool | None = None,
  groups: Any = None,
  max_per_group: int = 1,
  strata: Any = None,
  quotas: Mapping[Any, int] | None = None,
  options: Mapping[str, int | float | str] | None = None,
  seed: int | None = None,
  key: jax.Array | None = None,
  mesh: Mesh | None = None,
  return_scores: Literal[True],
) -> tuple[np.ndarray, np.ndarray | None]: ...


def select(
  name: str,
  *,
  budget: int,
  features: Any = None,
  probs: Any = None,
  head: Any = None,
  labels: Any = None,
  candidates: Any = None,
  pending: Any = None,
  previous_probs: Any = None,
  auxiliary: Any = None,
  is_multi_label: bool | None = None,
  groups: Any = None,
  max_per_group: int = 1,
  strata: Any = None,
  quotas: Mapping[Any, int] | None = None,
  options: Mapping[str, int | float | str] | None = None,
  seed: int | None = None,
  key: jax.Array | None = None,
  mesh: Mesh | None = None,
  return_scores: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray | None]:
  """Selects examples of a pool to label next, by any strategy.

  Arrays may come from NumPy, JAX, PyTorch (on the CPU) or pandas.
  `list_strategies` shows which arguments a strategy reads; the others are
  optional, and are checked if they are given. The checks need concrete values,
  so do not call this inside `jax.jit`: `get_strategy` is for that.

  Args:
    name: Name of the strategy.
    budget: Examples to select, at least 1 and at most the candidates.
    features: [pool, dim], as the head consumes them.
    probs: [pool, classes], the predicted probabilities. If missing, they are
      computed from `features` and `head` where a strategy needs them.
    head: The linear classifier: `LinearHead`, a pair (kernel [dim, classes],
      bias [classes]), a `torch.nn.Linear`, or a fitted linear classifier of
      scikit-learn. Classes that the latter has not seen are very unlikely.
    labels: int [pool], the class of each labeled example, -1 where there is no
      label; or [pool, classes] of 0 and 1 where an example may have several
      labels, with rows of -1.
    candidates: The examples that may be selected: a boolean mask [pool] or
      indices. By default those without a label.
    pending: Examples that people were asked to label and have not labeled yet,
      as a mask or indices. They are not selected, and strategies that cover the
      pool treat them as covered.
    previous_probs: [pool, classes], the probabilities that the model of the
      previous round predicted.
    auxiliary: [pool], a predicted quantity that the strategy ranks by, such as
      the losses for "learning_loss".
    is_multi_label: Whether an example may have several labels. By default it
      follows from `labels`, and is False without them.
    groups: [pool], the group of each example, such as a burst of photos, a
      video or a patient: numbers or strings.
    max_per_group: Largest number of examples to select from one group.
    strata: [pool], the stratum of each example, such as a site; or "predicted"
      for the class with the largest probability.
    quotas: How many examples to select of each stratum; their sum is the
      budget, and other strata get none.
    options: Options of the strategy by name; the others have their defaults.
    seed: Seed of the draws, 0 by default.
    key: A JAX key in place of a seed.
    mesh: A mesh to split the pool over, by its axis `pool`, or by all of its
      axes if none has that name. By default the work is done where `features`
      (or `probs`) are, which may be split by rows over any mesh.
    return_scores: Whether to return the scores of the selected examples too.

  Returns:
    int64 [budget], distinct indices of the pool in the order of selection. With
    `return_scores` also float32 [budget], or None if the strategy computes no
    scores.

  Raises:
    ValueError: If the name is unknown, something that the strategy needs is
      missing, shapes do not fit, or a value is not what it should be.

  Example:
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> probs = rng.dirichlet(np.ones(3), size=10)
    >>> len(select("margin", probs=probs, budget=2))
    2
  """
  request = _prepare(
    name,
    features=features,
    probs=probs,
    head=head,
    labels=labels,
    candidates=candidates,
    pending=pending,
    previous_probs=previous_probs,
    auxiliary=auxiliary,
    is_multi_label=is_multi_label,
    options=options,
    mesh=mesh,
  )
  budget = check_integer("budget", budget, low=1)
  if budget > request.num_candidates:
    raise ValueError(
      f"Expected `budget` <= {request.num_candidates} candidates, got {budget}."
    )
  limits = _limits(request, budget, groups, max_per_group, strata, quotas)
  indices, scores = fill(
    _key(seed, key),
    request.run,
    request.candidates,
    budget=budget,
    limits=limits,
  )
  return (indices, scores) if return_scores else indices


def score(
  name: str, *, seed: int | None = None, key: jax.Array | None = None, **inputs
) -> np.ndarray:
  """Returns the score of every candidate by a strategy that ranks.

  Args:
    name: Name of the strategy.
    seed: As for `select`.
    key: As for `select`.
    **inputs: The pool and the options, as for `select`.

  Returns:
    float32 [pool], where the highest are selected first; NaN where an example
    is not a candidate.

  Raises:
    ValueError: As `select`, or if the strategy computes no scores.
  """
  request = _prepare(name, **inputs)
  scores = request.run(_key(seed, key), 1, request.candidates).scores
  if scores is None:
    raise ValueError(
      f"Expected a strategy that ranks by a score, got {name!r}, which computes"
      " none."
    )
  found = np.array(to_host(scores)[: len(request.candidates)], np.float32)
  found[~request.candidates] = np.nan
  return found


@dataclasses.dataclass(frozen=True)
class _Request:
  """A checked call: the pool, and what selects from it.

  Attributes:
    pool: What the strategy needs, on the devices.
    candidates: bool [pool] without padding, on the host.
    form: The strategy, for one label per example or for several.
    options: Its options, validated.
    predict: Returns the probabilities [pool, classes], with or without padding;
      None if neither they nor what they follow from was given.
  """

  pool: Pool
  candidates: np.ndarray
  form: Select
  options: Mapping[str, int | float | str]
  predict: Callable[[], np.ndarray | jax.Array] | None

  @property
  def num_candidates(self) -> int:
    """Examples that may be selected."""
    return int(self.candidates.sum())

  def run(self, key: jax.Array, budget: int, among: np.ndarray) -> Selection:
    """Selects from the examples of a mask [pool]."""
    pool = self.pool
    padded = np.pad(among, (0, len(pool.candidates) - len(among)))
    placed = jax.device_put(padded, pool.candidates.sharding)
    pool = dataclasses.replace(pool, candidates=placed)
    return self.form(key, pool, budget=budget, **self.options)


def _limits(
  request: _Request,
  budget: int,
  groups: Any,
  max_per_group: int,
  strata: Any,
  quotas: Mapping[Any, int] | None,
) -> list[Limit]:
  """Returns the limits of a selection, after a check that they can be met."""
  limits = []
  if groups is not None:
    limits.append(
      group_limit(request.candidates, budget, groups, max_per_group)
    )
  if (strata is None) != (quotas is None):
    raise ValueError(
      "Expected `strata` and `quotas` together, got one of them."
    )
  if quotas is not None:
    if isinstance(strata, str) and strata == "predicted":
      strata = _predicted_classes(request)
    limits.append(quota_limit(request.candidates, budget, strata, quotas))
  return limits


def _predicted_classes(request: _Request) -> np.ndarray:
  """Returns the likeliest class of each example, int [pool]."""
  if request.predict is None:
    raise ValueError(
      'Expected `probs`, or `features` and `head`, for the strata "predicted",'
      " got none of them."
    )
  size = len(request.candidates)
  return to_host(request.predict()).argmax(axis=1)[:size]


def _describe(strategy: Strategy) -> StrategyInfo:
  form = strategy.select or strategy.select_multi_label
  text = inspect.getdoc(form) or ""
  references = text.partition("References:\n")[2]
  return StrategyInfo(
    name=strategy.name,
    summary=text.partition("\n")[0],
    needs=strategy.needs,
    options={option.name: option.default for option in strategy.options},
    single_label=strategy.select is not None,
    multi_label=strategy.select_multi_label is not None,
    source=" ".join(references.split()) or None,
  )


def find_strategy(name: str) -> Strategy:
  """Returns a registered strategy.

  Raises:
    ValueError: If the name is unknown; shows the names that exist.
  """
  if name in STRATEGIES:
    return STRATEGIES[name]
  near = difflib.get_close_matches(str(name), STRATEGIES, n=1)
  hint = f" Did you mean {near[0]!r}?" if near else ""
  raise ValueError(
    f"Unknown strategy {name!r}; expected one of {sorted(STRATEGIES)}.{hint}"
  )


def _key(seed: int | None, key: jax.Array | None) -> jax.Array:
  if key is None:
    return jax.random.key(0 if seed is None else seed)
  if seed is not None:
    raise ValueError(f"Expected `seed` or `key`, got both: {seed} and {key}.")
  return key


def _prepare(
  name: str,
  *,
  features: Any = None,
  probs: Any = None,
  head: Any = None,
  labels: Any = None,
  candidates: Any = None,
  pending: Any = None,
  previous_probs: Any = None,
  auxiliary: Any = None,
  is_multi_label: bool | None = None,
  options: Mapping[str, int | float | str] | None = None,
  mesh: Mesh | None = None,
) -> _Request:
  """Checks the arguments of a call, and puts them on the devices."""
  strategy = find_strategy(name)
  options = choose_options(strategy, options or {})
  values = {
    "features": features,
    "probs": probs,
    "previous_probs": previous_probs,
    "auxiliary": auxiliary,
  }
  arrays = {
    key: None if value is None else as_numbers(key, value, _AXES[key])
    for key, value in values.items()
  }
  label_array = as_labels(labels)
  if is_multi_label is None:
    is_multi_label = label_array is not None and label_array.ndim == 2
  form = strategy.require_form(is_multi_label=is_multi_label)
  size = _pool_size(arrays, label_array)
  num_classes = _num_classes(arrays, label_array)
  linear = _linear_head(head, num_classes)
  sizes = {"pool": size}
  if linear is not None:
    sizes = check_shapes(
      sizes,
      kernel=(linear.kernel, ("dim", "classes")),
      bias=(linear.bias, ("classes",)),
    )
  sizes = check_shapes(
    sizes,
    **{
      key: (array, _AXES[key])
      for key, array in arrays.items()
      if array is not None
    },
  )
  for key in ("probs", "previous_probs"):
    _check_probabilities(key, arrays[key], is_multi_label=is_multi_label)
  feature_array = arrays["features"]
  given = {key for key, array in arrays.items() if array is not None}
  if label_array is not None:
    given.add("labels")
  if linear is not None:
    given.add("head")
    if feature_array is not None:
      given.add("probs")
  _check_needs(strategy, given)
  if label_array is not None:
    check_labels(label_array, sizes, is_multi_label=is_multi_label)
  mask = _candidate_mask(candidates, label_array, size)
  if pending is not None:
    pending = _mask("pending", pending, size)
    mask = mask & ~pending
  place = find_placement(arrays, mesh)

  def compute_probs() -> jax.Array:
    if arrays["probs"] is not None:
      return place(arrays["probs"])
    assert linear is not None
    assert feature_array is not None
    return predict(linear, place(feature_array), is_multi_label=is_multi_label)

  pool: dict[str, Any] = {
    key: place(array)
    for key, array in arrays.items()
    if array is not None and key in strategy.needs and key != "probs"
  }
  if "probs" in strategy.needs:
    pool["probs"] = compute_probs()
  if "labels" in strategy.needs:
    assert label_array is not None
    # Padding is zero where it is added, and must be -1 here.
    pool["labels"] = place(label_array.astype(np.int32) + 1) - 1
  if "head" in strategy.needs:
    pool["head"] = linear
  if pending is not None:
    pool["pending"] = place(pending)
  return _Request(
    pool=Pool(candidates=place(mask), **pool),
    candidates=mask,
    form=form,
    options=options,
    predict=compute_probs if "probs" in given else None,
  )


_AXES = {
  "features": ("pool", "dim"),
  "probs": ("pool", "classes"),
  "previous_probs": ("pool", "classes"),
  "auxiliary": ("pool",),
}


def choose_options(
  strategy: Strategy, values: Mapping[str, int | float | str]
) -> dict[str, int | float | str]:
  """Returns all options of a strategy, from those that a user gives.

  Raises:
    ValueError: If one is unknown or out of range.
  """
  unknown = sorted(set(values) - set(strategy.option_names))
  if unknown:
    raise ValueError(
      f"Unknown options {unknown} of {strategy.name!r}; expected some of"
      f" {sorted(strategy.option_names)}."
    )
  return strategy.choose_options(values)


def as_array(name: str, value: Any) -> np.ndarray | jax.Array:
  """Returns numbers of any library as an array of NumPy or JAX."""
  if isinstance(value, jax.Array):
    return value
  if hasattr(value, "detach"):
    value = value.detach().cpu()
  elif hasattr(value, "to_numpy"):
    value = value.to_numpy()
  array = np.asarray(value)
  if array.dtype.kind not in "biuf":
    example = array.flat[0] if array.size else array.dtype
    raise ValueError(
      f"Expected numbers in `{name}`, got {array.dtype} such as {example!r}."
    )
  return array


def as_numbers(
  name: str, value: Any, axes: Sequence[str]
) -> np.ndarray | jax.Array:
  """Returns finite float32 numbers of a given rank."""
  array = as_array(name, value)
  if array.ndim != len(axes):
    raise ValueError(
      f"Expected `{name}` [{', '.join(axes)}], got the shape {array.shape}."
    )
  array = array.astype(np.float32)
  module = jnp if isinstance(array, jax.Array) else np
  is_finite = module.isfinite(array)
  if not is_finite.all():
    rows = np.unique(np.nonzero(~np.asarray(is_finite))[0])
    raise ValueError(
      f"Expected finite numbers in `{name}`, got NaN or infinity in {len(rows)}"
      f" rows, the first {rows[0]}."
    )
  return array


def as_labels(labels: Any) -> np.ndarray | None:
  """Returns integer labels [pool] or [pool, classes]; None where none are."""
  if labels is None:
    return None
  array = np.asarray(as_array("labels", labels))
  if array.dtype.kind == "f":
    as_int = np.where(np.isfinite(array), array, -2).astype(np.int64)
    if (as_int != array).any():
      bad = array[as_int != array][0]
      raise ValueError(f"Expected integer `labels`, got {bad}.")
    array = as_int
  if array.ndim not in (1, 2):
    raise ValueError(
      "Expected `labels` [pool] or [pool, classes], got the shape"
      f" {array.shape}."
    )
  return array.astype(np.int64)


def check_labels(
  labels: np.ndarray, sizes: dict[str, int], *, is_multi_label: bool
) -> None:
  """Refuses labels whose shape or values do not fit the pool."""
  if is_multi_label != (labels.ndim == 2):
    kind = "[pool, classes]" if is_multi_label else "[pool]"
    raise ValueError(f"Expected `labels` {kind}, got the shape {labels.shape}.")
  axes = ("pool", "classes")[: labels.ndim]
  check_shapes(sizes, labels=(labels, axes))
  high = 2 if is_multi_label else sizes.get("classes", np.inf)
  bad = labels[(labels < -1) | (labels >= high)]
  if bad.size:
    raise ValueError(f"Expected -1 <= `labels` < {high}, got {bad.flat[0]}.")


def _check_probabilities(
  name: str, probs: np.ndarray | jax.Array | None, *, is_multi_label: bool
) -> None:
  if probs is None:
    return
  low, high = float(probs.min()), float(probs.max())
  if low < 0.0 or high > 1.0 + SUM_TOLERANCE:
    raise ValueError(
      f"Expected probabilities in `{name}`, in [0, 1], got {low:.4g} to"
      f" {high:.4g}: are these logits?"
    )
  if is_multi_label:
    return
  sums = np.asarray(probs.sum(axis=1))
  far = np.flatnonzero(np.abs(sums - 1.0) > SUM_TOLERANCE)
  if far.size:
    raise ValueError(
      f"Expected rows of `{name}` that sum to 1, got {sums[far[0]]:.4g} in row"
      f" {far[0]}; for several labels per example set `is_multi_label=True`."
    )


def _pool_size(
  arrays: Mapping[str, np.ndarray | jax.Array | None],
  labels: np.ndarray | None,
) -> int:
  for array in (*arrays.values(), labels):
    if array is not None:
      if not len(array):
        raise ValueError("Expected a pool of 1 example or more, got 0.")
      return len(array)
  raise ValueError(
    "Expected `features`, `probs` or `labels` of the pool, got none of them."
  )


def _num_classes(
  arrays: Mapping[str, np.ndarray | jax.Array | None],
  labels: np.ndarray | None,
) -> int | None:
  """Returns the number of classes if the arrays show it."""
  for key in ("probs", "previous_probs"):
    array = arrays[key]
    if array is not None:
      return array.shape[1]
  if labels is None:
    return None
  return labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1


def _linear_head(head: Any, num_classes: int | None) -> LinearHead | None:
  """Returns a classifier of any library as kernel and bias."""
  if head is None:
    return None
  if hasattr(head, "coef_"):
    kernel, bias = _of_scikit_learn(head, num_classes)
  elif hasattr(head, "weight") and hasattr(head, "bias"):
    kernel = np.asarray(as_array("head.weight", head.weight)).T
    bias = (
      np.zeros(kernel.shape[1])
      if head.bias is None
      else as_array("head.bias", head.bias)
    )
  else:
    try:
      kernel, bias = head
    except (TypeError, ValueError):
      raise ValueError(
        "Expected `head` as a pair (kernel, bias), a `LinearHead`, a"
        " `torch.nn.Linear` or a fitted linear classifier of scikit-learn, got"
        f" {type(head).__name__}."
      ) from None
  return LinearHead(
    jnp.asarray(as_numbers("head kernel", kernel, ("dim", "classes"))),
    jnp.asarray(as_numbers("head bias", bias, ("classes",))),
  )


def _of_scikit_learn(
  model: Any, num_classes: int | None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns kernel and bias of a fitted classifier, with unseen classes."""
  kernel, bias = np.asarray(model.coef_).T, np.atleast_1d(model.intercept_)
  seen = np.asarray(model.classes_)
  if seen.dtype.kind not in "iu" or seen.min() < 0:
    raise ValueError(
      "Expected a classifier of the classes 0, 1, ..., got the classes"
      f" {seen[:5].tolist()}."
    )
  if len(seen) == 2 and kernel.shape[1] == 1:
    # One row is the log odds of the second class.
    kernel = np.concatenate([np.zeros_like(kernel), kernel], axis=1)
    bias = np.concatenate([np.zeros_like(bias), bias])
  total = max(int(seen.max()) + 1, num_classes or 0)
  full = np.tile(kernel.mean(axis=1, keepdims=True), (1, total))
  full_bias = np.full(total, bias.mean() + UNSEEN_LOGIT)
  full[:, seen], full_bias[seen] = kernel, bias
  return full, full_bias


def _check_needs(strategy: Strategy, given: set[str]) -> None:
  missing = [need for need in strategy.needs if need not in given]
  if missing:
    needed = ", ".join(f"`{need}`" for need in strategy.needs)
    absent = ", ".join(f"`{need}`" for need in missing)
    hint = (
      " (`features` with `head` give `probs`)" if "probs" in missing else ""
    )
    raise ValueError(
      f"Strategy {strategy.name!r} needs {needed}; missing: {absent}{hint}."
    )


def _candidate_mask(
  candidates: Any, labels: np.ndarray | None, size: int
) -> np.ndarray:
  """Returns the mask of the examples that may be selected."""
  if candidates is None:
    if labels is None:
      return np.ones(size, bool)
    return (labels if labels.ndim == 1 else labels[:, 0]) < 0
  return _mask("candidates", candidates, size)


def _mask(name: str, chosen: Any, size: int) -> np.ndarray:
  """Returns a mask of examples that are given as a mask or as indices."""
  array = np.asarray(as_array(name, chosen))
  if array.dtype == bool:
    if array.shape != (size,):
      raise ValueError(
        f"Expected a mask `{name}` [{size}], got the shape {array.shape}."
      )
    return array
  # NumPy makes an empty list floats.
  if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
    raise ValueError(
      f"Expected `{name}` as a boolean mask or as indices, got"
      f" {array.dtype} {array.shape}."
    )
  array = array.astype(np.int64)
  outside = array[(array < 0) | (array >= size)]
  if outside.size:
    raise ValueError(f"Expected 0 <= `{name}` < {size}, got {outside[0]}.")
  mask = np.zeros(size, bool)
  mask[array] = True
  return mask


def find_placement(
  arrays: Mapping[str, np.ndarray | jax.Array | None], mesh: Mesh | None
) -> Callable[[np.ndarray | jax.Array], jax.Array]:
  """Returns the function that puts arrays of the pool on the devices."""
  if mesh is not None:
    return lambda array: place_pool(np.asarray(array), mesh)
  layouts = [pool_layout(array) for array in arrays.values()]
  for layout in layouts:
    if layout is not None:
      where = NamedSharding(layout.mesh, layout.rows)
      return lambda array: jax.device_put(array, where)
  return jnp.asarray
