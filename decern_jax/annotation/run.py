"""Runs rounds whose labels come from people, as far as they have answered."""

from collections.abc import Sequence
import functools
import json
from typing import Any

from etils import epath
import numpy as np

from decern_jax.annotation import answers, formats, images, inbox, query, report
from decern_jax.annotation.answers import RoundLabels
from decern_jax.annotation.query import Item, Query
from decern_jax.annotation.state import (
  RULE,
  Asked,
  LabelingState,
  Progress,
  name_classes,
)
from decern_jax.distributed import processes
from decern_jax.io import storage
from decern_jax.io.validation import check_integer
from decern_jax.runs import check, driver, experiment, records, workdir
from decern_jax.runs.config import Config
from decern_jax.training import finetune, rounds


class WaitingError(Exception):
  """The run needs more answers; the message says how to give them."""


def run_with_people(
  config: Config, folder: epath.Path, *, go_on: bool = False
) -> None:
  """Runs the rounds that the answers allow, and prints what to do next.

  A round trains on all labels so far, evaluates on the held-out splits, and
  queries more images in `queries/<round>`. The next round begins when each of
  them is labeled or skipped. Images without a label go back to the pool.

  Args:
    config: The configuration, with one seed.
    folder: Directory of the run.
    go_on: Whether a round may begin before all images of its query have an
      answer.

  Raises:
    ValueError: If the configuration, the images or the folder are not valid.
  """
  _check(config)
  settings = workdir.identity(config.to_dict(), config.seeds[0])
  with workdir.lock(folder):
    workdir.check_free(folder, settings, file_name=workdir.CONFIG_FILE)
    dataset = experiment.load_dataset(
      config.dataset,
      num_workers=config.system.num_workers,
      cache_dir=config.system.cache_dir,
    )
    # Before the folder is claimed, so that people can still correct the data.
    dataset = images.restrict_pool(folder, dataset)
    assets = experiment.load(config, dataset=dataset)
    workdir.claim(folder, settings, file_name=workdir.CONFIG_FILE)
    loop = PeopleRun(config, folder, assets, go_on=go_on)
    next_step = _run_rounds(loop, folder, assets)
    try:
      page = report.write(
        config,
        folder,
        assets,
        loop.intake.answers,
        class_names=loop.class_names,
      )
      processes.say(f"Report in {page}.")
    finally:
      # Last on the screen, even if the report fails.
      processes.say(next_step)


def _run_rounds(
  loop: "PeopleRun", folder: epath.Path, assets: experiment.Assets
) -> str:
  """Runs the rounds that have answers; returns what to do next."""
  for problem in loop.intake.problems:
    processes.say(f"not taken: {problem}")
  if loop.intake.num_new:
    processes.say(f"{loop.intake.num_new} new answers.")
  for line in loop.describe_conflicts():
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


def _check(config: Config) -> None:
  """Checks what only a run with people needs.

  Raises:
    ValueError: If a value is not valid; shows it.
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


class PeopleRun:
  """Reads answers before, and writes queries after, the rounds of a run.

  Attributes:
    intake: All answers, and what could not be accepted.
  """

  def __init__(
    self,
    config: Config,
    folder: epath.Path,
    assets: experiment.Assets,
    *,
    go_on: bool,
  ):
    """Reads all answers so far.

    Args:
      config: The configuration, checked.
      folder: Directory of the run.
      assets: The assets of the configuration, from `experiment.load`.
      go_on: Whether a round may begin before all images of its query have an
        answer.

    Raises:
      ValueError: If queried images have changed.
    """
    self._config, self._folder, self._assets = config, folder, assets
    self._go_on, self._seed = go_on, config.seeds[0]
    queries = query.read_all(folder)
    # All images that were ever queried, each once.
    queried = [*{item.id: item for q in queries for item in q.items}.values()]
    images.check_unchanged(queried)
    self.intake = inbox.ingest(
      folder,
      queried,
      pool=assets.task.ids,
      is_multi_label=config.dataset.is_multi_label,
    )
    self._state = LabelingState(map(_asked, queries), self.intake.answers)

  @property
  def class_names(self) -> tuple[str, ...]:
    """All classes so far, in the order of a round that begins now."""
    return name_classes(self._known_classes, self._state.labels)

  def describe_conflicts(self) -> list[str]:
    """Returns a line for each image about which people disagree."""
    return [
      f"{conflict.id!r}: "
      + ", ".join(
        f"{answer.annotator or 'somebody'} said {_join(answer.labels)}"
        for answer in conflict.said
      )
      + f"; used: {_join(conflict.labels)} ({RULE})"
      for conflict in self._state.resolution.conflicts
    ]

  def as_experiment(self) -> driver.Experiment:
    """Returns the experiment for `driver.run`."""
    return driver.Experiment(
      init=self._init,
      advance=self._advance,
      finish=functools.partial(finetune.finish, self._folder),
    )

  def _init(self) -> rounds.RoundState:
    """Returns the state with the first query, written if there is none yet.

    Answers that arrived before any query are the first labels.
    """
    ids = self._assets.task.ids
    if query.latest_round(self._folder) is None:
      labeled = set(self._state.labels)
      if labeled:
        selected = [id_ for id_ in ids if id_ in labeled]
      else:
        state = self._build(self._assets).init()
        selected = [ids[i] for i in np.flatnonzero(state.labeled)]
      self._write_query(
        0, self._known_classes, [Item(id_, "") for id_ in selected]
      )
    first = {item.id for item in query.read(self._folder, 0).items}
    is_first = np.array([id_ in first for id_ in ids])
    return rounds.make_first_state(len(ids), np.flatnonzero(is_first))

  def _advance(
    self, state: rounds.RoundState
  ) -> tuple[rounds.RoundState, dict[str, Any]]:
    """Runs a round on the labels so far, and queries more images."""
    round_num = int(state.round)
    frozen = answers.read_round(self._folder, round_num)
    if frozen is None:
      self._require_answers(round_num)
      frozen = answers.freeze_round(
        self._folder, round_num, self._current_labels()
      )
    assets = _with_labels(self._assets, frozen)
    ids = assets.task.ids
    is_labeled = np.array([id_ in frozen.labels for id_ in ids])
    explain = functools.partial(
      report.explain, ids=ids, class_names=assets.dataset.class_names
    )
    following, record = self._build(assets, explain).advance(
      state.with_answers(is_labeled)
    )
    _write_data(self._folder, assets)
    if record["selected"]:
      self._write_query(
        round_num + 1, frozen.class_names, _selected_items(record)
      )
    return following, record

  def _current_labels(self) -> RoundLabels:
    return RoundLabels(self.class_names, self._state.labels)

  @property
  def _known_classes(self) -> tuple[str, ...]:
    """The classes known without any answer."""
    held_out = self._assets.dataset.class_names
    return tuple(dict.fromkeys([*held_out, *self._config.labels.class_names]))

  def _require_answers(self, round_num: int) -> None:
    """Raises `WaitingError` unless the round has the answers it needs."""
    current = query.read(self._folder, round_num)
    progress = self._state.measure_progress(round_num)
    can_train = self._state.can_train(self.class_names)
    may_begin = self._go_on and progress.num_labeled
    if not can_train or (progress.num_left and not may_begin):
      raise WaitingError(
        describe_waiting(self._folder, current, progress, can_train=can_train)
      )

  def _write_query(
    self, round_num: int, classes: tuple[str, ...], items: list[Item]
  ) -> None:
    """Writes a query in all configured formats."""
    root = storage.as_path(str(self._config.dataset.path)).expanduser()
    root = root if storage.is_remote(root) else root.resolve()
    located = []
    for item in items:
      path = str(root / item.id)
      located.append(item._replace(path=path, digest=images.digest(path)))
    selection = self._config.selection
    new = Query(
      round_num,
      classes,
      self._config.dataset.is_multi_label,
      tuple(located),
      selection.strategy if round_num else selection.initial_strategy,
      self._count_earlier_answers(round_num),
    )
    folder = query.folder_of(self._folder, round_num)
    for name in self._config.labels.formats:
      formats.FORMATS[name].write(new, folder)
    # Last, so that a query that can be read is complete.
    query.write(self._folder, new)
    # A round that was killed writes its query again.
    self._state.asked[round_num:] = [_asked(new)]
    storage.make_folder(self._folder / query.ANSWERS_FOLDER)

  def _count_earlier_answers(self, round_num: int) -> int:
    """Returns the number of answers that arrived before a query was written.

    A round that was killed writes its query again. People may have answered it
    in between, so the number in the first copy is kept.
    """
    last = query.latest_round(self._folder)
    if last is not None and last >= round_num:
      return query.read(self._folder, round_num).num_answers
    return len(self._state.answers)

  def _build(self, assets: experiment.Assets, explain=None):
    return experiment.build(
      self._config,
      assets,
      seed=self._seed,
      workdir=self._folder,
      explain=explain,
      keeps_every_model=True,
    )


def _asked(of_round: Query) -> Asked:
  """Returns a query in the form of the state."""
  return Asked(tuple(item.id for item in of_round.items), of_round.num_answers)


def _selected_items(record: dict[str, Any]) -> list[Item]:
  """Returns the images that a round selected, without their paths."""
  selected = record["selected"]
  scores = record["scores"] or [None] * len(selected)
  return [
    Item(id_, "", score, tuple((name, p) for name, p in predictions))
    for id_, score, predictions in zip(
      selected, scores, record["predictions"], strict=True
    )
  ]


def _with_labels(
  assets: experiment.Assets, frozen: RoundLabels
) -> experiment.Assets:
  """Returns the assets with the labels of a round."""
  index_of = {name: index for index, name in enumerate(frozen.class_names)}
  ids, is_multi_label = assets.task.ids, assets.dataset.train.labels.ndim > 1
  shape = (len(ids), len(index_of)) if is_multi_label else (len(ids),)
  labels = np.zeros(shape, np.int32)
  for row, id_ in enumerate(ids):
    for name in frozen.labels.get(id_, ()):
      if is_multi_label:
        labels[row, index_of[name]] = 1
      else:
        labels[row] = index_of[name]
  return experiment.with_labels(
    assets, frozen.class_names, labels, num_labels=len(frozen.labels)
  )


def _write_data(folder: epath.Path, assets: experiment.Assets) -> None:
  """Writes what identifies the training data, for those who load the model."""
  content = json.dumps(assets.digest, indent=2) + "\n"
  storage.write_atomically(folder / workdir.DATA_FILE, content.encode())


def _join(labels: Sequence[str] | None) -> str:
  return " + ".join(labels or ())


def describe_waiting(
  folder: epath.Path, current: Query, progress: Progress, *, can_train: bool
) -> str:
  """Returns instructions on how to answer a query.

  Args:
    folder: Directory of the run.
    current: The query.
    progress: How many of its images have an answer.
    can_train: Whether there are labels of two classes to train on.
  """
  where = query.folder_of(folder, current.round)
  lines = [
    f"Round {current.round} waits for labels of {progress.num_queried} images:"
    f" {progress.num_labeled} have one, {progress.num_skipped} were skipped,"
    f" {progress.num_left} are left.",
    "",
    "To label them, one of these:",
    f"  decern-jax label --workdir={folder}",
    f"  decern-jax annotate --workdir={folder}   (Label Studio)",
    f"  fill in a file of {where}, and put it into"
    f" {folder / query.ANSWERS_FOLDER}",
    "",
    "Then run the same command again.",
  ]
  if not can_train:
    lines.append(
      "A model needs at least one label, and two classes: from labels, or from"
      " --config.labels.class_names."
    )
  elif progress.num_labeled and progress.num_left:
    lines.append("With --go_on it continues with the labels given so far.")
  return "\n".join(lines)
