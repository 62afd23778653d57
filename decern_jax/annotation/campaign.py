"""A run with people: as far as their answers allow."""

from etils import epath

from decern_jax.annotation import formats, images, reporting
from decern_jax.annotation.loop import Loop, WaitingError
from decern_jax.distributed import processes
from decern_jax.io.validation import check_integer
from decern_jax.runs import check, driver, experiment, records, workdir


def run(config, folder: epath.Path, *, go_on: bool = False) -> None:
  """Goes as far as the answers allow, and tells what to do next.

  A round trains on all labels that there are, evaluates on what is held out, if
  anything is, and asks about more images in `queries/<round>`. The next one
  begins when each of them is answered or skipped. Images without a label go
  back to the pool.

  Args:
    config: The configuration, of one seed.
    folder: Directory of the run.
    go_on: Whether a round may begin with images that nobody said anything of.

  Raises:
    ValueError: If the configuration, the images or the folder are not as they
      should be.
  """
  _check(config)
  settings = workdir.identity(config.to_dict(), config.seeds[0])
  with workdir.lock(folder):
    workdir.check_free(folder, settings, file_name=workdir.CONFIG_FILE)
    dataset = experiment.load_dataset(
      config, num_workers=experiment.count_workers(config)
    )
    # Before anything is claimed: what is wrong with the data can be put right.
    pool = images.restrict(folder, dataset)
    assets = experiment.load(config, dataset=pool)
    workdir.claim(folder, settings, file_name=workdir.CONFIG_FILE)
    loop = Loop(config, folder, assets, go_on=go_on)
    following = _run_rounds(loop, folder, assets)
    try:
      page = reporting.write(config, folder, assets, loop.intake.answers)
      processes.say(f"Report in {page}.")
    finally:
      # Last on the screen, whatever the report met with.
      processes.say(following)


def _run_rounds(
  loop: Loop, folder: epath.Path, assets: experiment.Assets
) -> str:
  """Runs the rounds that the answers are there for, and says what is next."""
  for problem in loop.intake.problems:
    processes.say(f"not taken: {problem}")
  if loop.intake.num_new:
    processes.say(f"{loop.intake.num_new} new answers.")
  for line in loop.conflicts():
    processes.say(line)
  try:
    driver.run(
      loop.as_experiment(),
      num_rounds=assets.task.num_rounds,
      workdir=folder,
      on_round=lambda record: processes.say(records.describe(record)),
    )
  except WaitingError as waiting:
    return str(waiting)
  return f"All rounds are done. The model is in {folder}."


def _check(config) -> None:
  """Checks what only a run with people needs.

  Raises:
    ValueError: Shows what is wrong.
  """
  check.check(config)
  if processes.are_several():
    raise ValueError("Expected one process where labels come from people.")
  if len(config.seeds) != 1:
    raise ValueError(
      f"Expected one seed where labels come from people, got {config.seeds}."
    )
  for name in ("initial_budget", "budget"):
    check_integer(f"selection.{name}", config.selection[name], low=1)
  unknown = sorted(set(config.labels.formats) - set(formats.FORMATS))
  if unknown:
    raise ValueError(
      f"Unknown formats {unknown} in `labels.formats`; expected some of"
      f" {sorted(formats.FORMATS)}."
    )
