"""Reports on finished runs.

  decern-jax report DIR... --output=FOLDER

A DIR is the folder of a run, or a folder that holds such folders at any depth.
The runs may differ only in their seed, their strategy and the strategies' own
options. Unfinished runs are left out and listed.
"""

from collections.abc import Sequence

from absl import flags

from decern_jax.cli import command
from decern_jax.distributed import processes
from decern_jax.report import comparison, document
from decern_jax.strategies import STRATEGIES

COMMAND = command.Command(required=("output",))

_OUTPUT = flags.DEFINE_string(
  "output",
  None,
  "Folder of the report.",
  allow_override=True,  # of the flag of `predict`, where both are imported
)
_FULL_DATA = flags.DEFINE_multi_string(
  "full_data",
  [],
  "Folder of runs on all labels, for the upper bound: of the same settings with"
  " --config.num_rounds=1 and the pool's size as"
  " --config.selection.initial_budget. May be given several times.",
)


def report(
  folders: Sequence[str], output: str, *, full_data: Sequence[str] = ()
) -> None:
  """Writes a report, and prints its path.

  Args:
    folders: Folders of runs, or folders that hold such folders.
    output: Folder of the report.
    full_data: Folders of runs on all labels, for the upper bound; may be empty.

  Raises:
    ValueError: If there is no folder, the runs cannot be compared, or the
      report cannot be written.
  """
  if not folders:
    raise ValueError("Expected folders of runs, got none.")
  options = {name: entry.option_names for name, entry in STRATEGIES.items()}
  runs = comparison.collect(folders, options=options)
  full = comparison.collect(full_data, options=options) if full_data else None
  for line in runs.unfinished:
    processes.say(f"Left out, because not finished: {line}")
  path = document.write(runs, output, full_data=full)
  processes.say(f"Report in {path}.")


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  command.run(
    argv[:1],
    lambda: report(argv[1:], _OUTPUT.value or "", full_data=_FULL_DATA.value),
    if_interrupted="Interrupted; the same command starts over.",
  )
