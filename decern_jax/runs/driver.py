"""Runs an experiment round by round, and resumes an interrupted one."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

from etils import epath
import numpy as np

from decern_jax.distributed import processes
from decern_jax.io import checkpoint, storage
from decern_jax.runs import records
from decern_jax.training.rounds import RoundState


@dataclasses.dataclass(frozen=True)
class Experiment:
  """The functions that a driver calls.

  Attributes:
    init: Returns the state before the first round.
    advance: Runs one round: maps a state to the next state and the record of
      the round, which JSON can hold.
    finish: Called when all rounds are saved. Removes the files that are only
      needed to resume a round.
  """

  init: Callable[[], RoundState]
  advance: Callable[[RoundState], tuple[RoundState, dict[str, Any]]]
  finish: Callable[[], None] = lambda: None


def run(
  experiment: Experiment,
  *,
  num_rounds: int,
  workdir: epath.PathLike,
  on_round: Callable[[records.Record], None] = lambda record: None,
) -> RoundState:
  """Runs the remaining rounds of an experiment.

  The record of a round is saved before the resulting state, so a saved state is
  never ahead of the records. If the run is killed, only the current round is
  lost; when it is repeated, it makes the same random draws.

  Args:
    experiment: The functions that start a run and run a round.
    num_rounds: Number of rounds in total, including those already saved.
    workdir: Directory of the run. An interrupted run continues from it.
    on_round: Called with the record of every round, including saved ones.

  Returns:
    The state after `num_rounds` rounds.

  Raises:
    ValueError: If several processes do not see the same directory.
    processes.PreemptedError: If the process received SIGTERM; all completed
      rounds are saved.
  """
  workdir = storage.as_path(workdir)
  storage.make_folder(workdir)
  with checkpoint.open_manager(workdir / "checkpoints") as manager:
    found = _read(workdir)
    state = checkpoint.restore_latest(
      manager, experiment.init(), max_step=len(found)
    )
    done = int(state.round)
    processes.on_process_zero(lambda: records.truncate(workdir, done))
    for record in found[:done]:
      on_round(record)
    for _ in range(done, num_rounds):
      processes.end_if_stopping()
      state, record = experiment.advance(state)
      processes.on_process_zero(
        functools.partial(records.append, workdir, record)
      )
      checkpoint.save(manager, int(state.round), state)
      on_round(record)
  processes.on_process_zero(experiment.finish)
  return state


def _read(workdir: epath.Path) -> list[records.Record]:
  """Reads the records, and checks that all processes find the same number."""
  found = records.read(workdir)
  count = int(processes.from_process_zero(np.array(len(found))))
  if not processes.all_agree(len(found) == count):
    raise ValueError(
      f"Expected a workdir that all processes share, got {workdir}: process 0"
      f" finds {count} rounds in it, another one does not."
    )
  return found
