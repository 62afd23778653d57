"""What every strategy is given, and what it gives back."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from decern_jax.distributed.collective import AxisName, top_rows
from decern_jax.distributed.sharding import shard_rows
from decern_jax.ops.head import LinearHead


class Pool(NamedTuple):
  """The training set as a strategy sees it, split over the mesh.

  What a strategy does not declare in its `needs` may be None.

  Attributes:
    candidates: bool [pool], the examples that may be selected.
    features: float32 [pool, dim], as the head consumes them. Rows of examples
      that are neither candidates nor, where labels are needed, labeled may
      hold anything finite.
    probs: float32 [pool, classes], predicted class probabilities: softmax of
      the head, for several labels per example the sigmoid.
    labels: int32 [pool], the class of labeled examples, for several labels per
      example int32 [pool, classes], 0 or 1; -1 where there is no label yet.
    head: The classifier of this round.
    previous_probs: float32 [pool, classes], what the model of the round before
      predicted; None in the first round, which has none before it.
    predicted_losses: float32 [pool], the loss of each example as a module for
      it predicts it, without the label.
  """

  candidates: jax.Array
  features: jax.Array | None = None
  probs: jax.Array | None = None
  labels: jax.Array | None = None
  head: LinearHead | None = None
  previous_probs: jax.Array | None = None
  predicted_losses: jax.Array | None = None

  @property
  def labeled(self) -> jax.Array:
    """Bool [pool], True at the examples that have their label."""
    labels = self.labels
    return (labels if labels.ndim == 1 else labels[:, 0]) >= 0


class Selection(NamedTuple):
  """What a strategy answers.

  Attributes:
    positions: int32 [budget], distinct candidates.
    scores: float32 [pool], the score that ranked the examples, or None where
      nothing was scored.
  """

  positions: jax.Array
  scores: jax.Array | None


NEEDS = (
  "features",
  "probs",
  "labels",
  "head",
  "previous_probs",
  "predicted_losses",
)
"""What a strategy may need of a pool beside its candidates."""


class Strategy(NamedTuple):
  """A row of the table of strategies.

  Attributes:
    select: Maps `(key, pool, *, budget, **options)` to a `Selection`; None for
      a strategy without a form for one label per example.
    needs: Which of `NEEDS` it reads; a run computes no more than that.
    options: Names of the options that `select` takes from the configuration.
    select_multi_label: Likewise where an example has several labels; None for
      a strategy without such a form.
    streams: Whether it goes through the features block by block, and so can
      read those that stay on the host.
  """

  select: Callable[..., Selection] | None
  needs: tuple[str, ...]
  options: tuple[str, ...] = ()
  select_multi_label: Callable[..., Selection] | None = None
  streams: bool = False

  @property
  def reads_blocks(self) -> bool:
    """Whether the features of the pool may stay on the host."""
    return self.streams or "features" not in self.needs

  def form(self, *, is_multi_label: bool) -> Callable[..., Selection] | None:
    """Returns the form for one label per example or several, None without."""
    return self.select_multi_label if is_multi_label else self.select


@shard_rows(rows=("scores", "candidates"), static_argnames=("budget",))
def take_highest(
  scores: jax.Array,
  candidates: jax.Array,
  *,
  budget: int,
  axis_name: AxisName = None,
) -> jax.Array:
  """Returns the positions of the candidates with the highest scores.

  Args:
    scores: float32 [pool].
    candidates: bool [pool], at least `budget` of them True.
    budget: Examples to select.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    int32 [budget], by falling score; among equal ones the lowest position
    comes first.
  """
  ranked = jnp.where(candidates, scores, -jnp.inf)
  return top_rows(ranked, budget, axis_name)[1].astype(jnp.int32)
