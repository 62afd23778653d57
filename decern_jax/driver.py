"""Runs the rounds of an experiment that its directory does not hold yet."""

from collections.abc import Callable

from etils import epath

from decern_jax import checkpoint
from decern_jax.report import records
from decern_jax.rounds import Experiment, RoundState


def run(
  experiment: Experiment,
  *,
  num_rounds: int,
  workdir: epath.PathLike,
  on_round: Callable[[records.Record], None] = lambda record: None,
) -> RoundState:
  """Runs an experiment, from where its directory is.

  The record of a round is on the disk before the state after it, so that a
  saved state never lacks the records that led to it. A kill at any moment
  costs the round that ran, and what it had drawn is drawn again.

  Args:
    experiment: What to do before the first round, and in each round.
    num_rounds: Rounds of the whole run, those already saved included.
    workdir: Directory of the run. An interrupted run continues from it.
    on_round: Called with the record of every round, also those found.

  Returns:
    The state after `num_rounds` rounds.
  """
  workdir = epath.Path(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  with checkpoint.open_manager(workdir / "checkpoints") as manager:
    found = records.read(workdir)
    state = checkpoint.restore_latest(
      manager, experiment.init(), max_step=len(found)
    )
    records.truncate(workdir, int(state.round))
    for record in found[: int(state.round)]:
      on_round(record)
    for _ in range(int(state.round), num_rounds):
      state, record = experiment.advance(state)
      records.append(workdir, record)
      checkpoint.save(manager, int(state.round), state)
      on_round(record)
  experiment.finish()
  return state
