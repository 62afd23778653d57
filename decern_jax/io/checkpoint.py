"""Orbax checkpoints with a digest that detects damaged arrays."""

from collections.abc import Iterator
import contextlib
import hashlib
from typing import Any, TypeVar

from absl import logging
from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from decern_jax.distributed import processes
from decern_jax.io import storage

NUM_KEPT = 3

# A pytree of arrays.
_State = TypeVar("_State")


@contextlib.contextmanager
def open_manager(directory: epath.PathLike) -> Iterator[ocp.CheckpointManager]:
  """Opens a directory of checkpoints; waits for pending saves on exit.

  Args:
    directory: The directory; created if it does not exist.
  """
  options = ocp.CheckpointManagerOptions(
    max_to_keep=NUM_KEPT, cleanup_tmp_directories=True
  )
  path = storage.as_path(directory)
  # `absolute` would put the current folder before gs://.
  path = path if storage.is_remote(path) else path.absolute()
  with ocp.CheckpointManager(path, options=options) as manager:
    yield manager


def digest(state: _State) -> str:
  """Returns the SHA-256 of the arrays of a state, with shapes and types."""
  total = hashlib.sha256()
  for leaf in jax.tree.leaves(state):
    array = np.asarray(leaf)
    total.update(f"{array.dtype} {array.shape} ".encode())
    total.update(np.ascontiguousarray(array).data)
  return total.hexdigest()


def save(manager: ocp.CheckpointManager, step: int, state: _State) -> None:
  """Saves the state before a step, under the number of that step.

  Args:
    manager: The open directory.
    step: The step, higher than all saved ones.
    state: A pytree of arrays.

  Raises:
    RuntimeError: If Orbax skips the save, for example of an earlier step.
  """
  saved = manager.save(
    step,
    args=ocp.args.Composite(
      state=ocp.args.StandardSave(_savable(state)),
      meta=ocp.args.JsonSave({"digest": digest(state)}),
    ),
  )
  if not saved:
    raise RuntimeError(
      f"Expected to save step {step}, but Orbax skipped it; the steps saved"
      f" are {manager.all_steps()}."
    )


def _savable(state: _State) -> _State:
  """Returns a state in a form that Orbax can save.

  With several processes, Orbax saves global arrays and, on process zero, NumPy
  arrays. It cannot save arrays on the devices of a single process.
  """
  if not processes.are_several():
    return state

  def convert(leaf: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    is_global = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    return leaf if is_global else np.asarray(leaf)

  return jax.tree.map(convert, state)


def restore_latest(
  manager: ocp.CheckpointManager,
  initial: _State,
  *,
  max_step: int | None = None,
) -> _State:
  """Restores the newest valid state.

  A checkpoint that cannot be read, or whose arrays differ from its digest, is
  deleted with a warning, and the one before it is tried.

  Args:
    manager: The open directory.
    initial: The state before the first step. It defines the expected shapes
      and shardings, and is returned if there is no valid checkpoint.
    max_step: Later steps are deleted, as their records are lost; None to keep
      all.

  Returns:
    The state.
  """
  for step in sorted(manager.all_steps(), reverse=True):
    if max_step is not None and step > max_step:
      logging.warning("Dropped step %d: its records are missing.", step)
    else:
      state = _restore(manager, step, initial)
      # All processes must continue from the same step.
      if processes.all_agree(state is not None) and state is not None:
        return state
    manager.delete(step)
  return initial


def _restore(
  manager: ocp.CheckpointManager, step: int, initial: _State
) -> _State | None:
  """Returns a saved state, or None with a warning if it is not valid."""
  template = jax.tree.map(ocp.utils.to_shape_dtype_struct, _savable(initial))
  try:
    saved: Any = manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(template), meta=ocp.args.JsonRestore()
      ),
    )
  except Exception as error:  # noqa: BLE001 (Orbax raises of every kind)
    # Only the first line: Orbax then lists the whole file, over pages.
    reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    logging.warning("Step %d cannot be restored: %.200s", step, reason)
    return None
  if saved.meta.get("digest") != digest(saved.state):
    logging.warning("Step %d cannot be restored: its digest differs.", step)
    return None
  return saved.state
