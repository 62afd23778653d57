"""The state of a run: which example has been labeled in which round."""

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

NOT_LABELED = -1


@struct.dataclass
class RoundState:
  """Everything that a run carries from one round to the next.

  Every round trains from the same initial parameters, and every random key
  follows from the seed. This state and the configuration therefore determine
  the rest of the run.

  Attributes:
    round: int32 [], the round to run next.
    labeled_at: int32 [train], the first round that trains on each example: 0
      for the initial set, -1 for an unlabeled example.
  """

  round: jax.Array
  labeled_at: jax.Array

  @property
  def labeled(self) -> np.ndarray:
    """Bool [train], True at the examples that this round trains on."""
    at = np.asarray(self.labeled_at)
    return (at >= 0) & (at <= int(self.round))

  def before(self) -> "RoundState":
    """Returns the state of the previous round; not for round 0."""
    last = int(self.round) - 1
    labeled_at = np.asarray(self.labeled_at)
    return make_state(
      last, np.where(labeled_at <= last, labeled_at, NOT_LABELED)
    )

  def with_answers(self, is_known: np.ndarray) -> "RoundState":
    """Returns this round's state with the labels that people gave.

    Queried examples without a label go back to the pool. A late label counts as
    one of this round.

    Args:
      is_known: bool [train], True at the examples that have a label.
    """
    labeled_at = np.where(is_known, self.labeled_at, NOT_LABELED)
    is_late = is_known & (labeled_at == NOT_LABELED)
    return make_state(
      int(self.round), np.where(is_late, int(self.round), labeled_at)
    )

  def label(self, selected: np.ndarray) -> "RoundState":
    """Returns the state of the next round, which trains on more examples.

    Args:
      selected: int [budget], distinct indices of unlabeled examples; may be
        empty.

    Raises:
      ValueError: If an index is repeated, out of range, or of a labeled
        example.
    """
    selected = np.asarray(selected)
    if not np.issubdtype(selected.dtype, np.integer):
      raise ValueError(
        f"Expected integer `selected`, got {selected.dtype} {selected}."
      )
    if np.unique(selected).size != selected.size:
      raise ValueError(f"Expected distinct `selected`, got {selected}.")
    size = len(self.labeled_at)
    outside = selected[(selected < 0) | (selected >= size)]
    if outside.size:
      raise ValueError(
        f"Expected 0 <= `selected` < {size}, got {outside.tolist()}."
      )
    labeled_at = np.array(self.labeled_at)
    again = selected[labeled_at[selected] != NOT_LABELED]
    if again.size:
      raise ValueError(
        f"Expected `selected` without labels, got {again.tolist()}, which"
        " have theirs."
      )
    following = int(self.round) + 1
    labeled_at[selected] = following
    return make_state(following, labeled_at)


def make_state(round_num: int, labeled_at: np.ndarray) -> RoundState:
  """Returns a state with its arrays, see `RoundState`, on the device."""
  return RoundState(
    round=jnp.asarray(round_num, jnp.int32),
    labeled_at=jnp.asarray(labeled_at, jnp.int32),
  )


def make_first_state(size: int, indices: np.ndarray) -> RoundState:
  """Returns the state before the first round.

  Args:
    size: Number of examples in the pool.
    indices: int [labels], the examples that the first round trains on.
  """
  labeled_at = np.full(size, NOT_LABELED, np.int32)
  labeled_at[indices] = 0
  return make_state(0, labeled_at)
