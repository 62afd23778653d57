"""The rounds of a run whose labels come from people."""

import functools
import json
from typing import Any

from etils import epath
import numpy as np

from decern_jax.annotation import formats, images, inbox, query, screen, taken
from decern_jax.annotation.explanation import explain
from decern_jax.annotation.query import Item, Query
from decern_jax.annotation.resolution import RULE, resolve
from decern_jax.annotation.taken import Taken
from decern_jax.io import storage
from decern_jax.runs import driver, experiment, workdir
from decern_jax.training import finetuning, rounds


class WaitingError(Exception):
  """There is nothing to do before people answer; says what they can do."""


class Loop:
  """Takes answers in and asks, around the rounds of an experiment.

  Attributes:
    intake: The answers, and what could not be taken of them.
  """

  def __init__(
    self,
    config,
    folder: epath.Path,
    assets: experiment.Assets,
    *,
    go_on: bool,
  ):
    """Takes in the answers that there are.

    Args:
      config: The configuration, checked.
      folder: Directory of the run.
      assets: What `experiment.load` returned for it.
      go_on: Whether a round may begin with images that nobody said anything of.

    Raises:
      ValueError: If images that were asked about have changed.
    """
    self._config, self._folder, self._assets = config, folder, assets
    self._go_on, self._seed = go_on, config.seeds[0]
    self._asked = _asked(folder)
    images.check_unchanged(self._asked.values())
    self.intake = inbox.take_in(
      folder,
      self._asked.values(),
      pool=assets.task.ids,
      is_multi_label=config.dataset.is_multi_label,
    )
    self._resolution = resolve(self.intake.answers)

  def conflicts(self) -> list[str]:
    """Returns a line for each image of which people said different things."""
    return [
      f"{conflict.id!r}: "
      + ", ".join(
        f"{answer.annotator or 'somebody'} said {' + '.join(answer.labels)}"
        for answer in conflict.said
      )
      + f"; taken: {' + '.join(conflict.labels)} ({RULE})"
      for conflict in self._resolution.conflicts
    ]

  def as_experiment(self) -> driver.Experiment:
    """Returns what a driver runs."""
    return driver.Experiment(
      init=self._init,
      advance=self._advance,
      finish=functools.partial(finetuning.finish, self._folder),
    )

  def _init(self) -> rounds.RoundState:
    """Returns the state with the first query, which is written if it is new.

    Answers that came before any query are the first labels.
    """
    ids = self._assets.task.ids
    if query.latest_round(self._folder) is None:
      given = set(self._resolution.labels)
      if given:
        selected = [id_ for id_ in ids if id_ in given]
      else:
        state = self._build(self._assets).init()
        selected = [ids[i] for i in np.flatnonzero(state.labeled)]
      self._ask(0, self._first_classes, [Item(id_, "") for id_ in selected])
    first = {item.id for item in query.read(self._folder, 0).items}
    is_first = np.array([id_ in first for id_ in ids])
    return rounds.make_first_state(len(ids), np.flatnonzero(is_first))

  def _advance(
    self, state: rounds.RoundState
  ) -> tuple[rounds.RoundState, dict[str, Any]]:
    """Runs a round on the labels that there are, and asks for more."""
    round_num = int(state.round)
    told = taken.read(self._folder, round_num)
    if told is None:
      self._check_answered(round_num)
      told = taken.fix(self._folder, round_num, self._now())
    assets = _with_labels(self._assets, told)
    ids = assets.task.ids
    is_known = np.array([id_ in told.labels for id_ in ids])
    named = functools.partial(
      explain, ids=ids, class_names=assets.dataset.class_names
    )
    following, record = self._build(assets, named).advance(
      state.with_answers(is_known)
    )
    _write_data(self._folder, assets)
    if record["selected"]:
      self._ask(round_num + 1, told.class_names, _items(record))
    return following, record

  def _now(self) -> Taken:
    """Returns what a round is told that begins now."""
    labels = self._resolution.labels
    return Taken(taken.name_classes(self._first_classes, labels), labels)

  @property
  def _first_classes(self) -> tuple[str, ...]:
    held_out = self._assets.dataset.class_names
    return tuple(dict.fromkeys([*held_out, *self._config.labels.class_names]))

  def _check_answered(self, round_num: int) -> None:
    """Waits unless the query of a round is answered, and a model can learn."""
    asked = query.read(self._folder, round_num)
    progress = screen.progress(asked, self.intake.answers)
    classes = self._now().class_names
    is_enough = bool(self._resolution.labels) and len(classes) > 1
    may_begin = self._go_on and progress.num_answered
    if not is_enough or (progress.num_left and not may_begin):
      raise WaitingError(
        screen.describe(self._folder, asked, progress, is_enough=is_enough)
      )

  def _ask(
    self, round_num: int, classes: tuple[str, ...], items: list[Item]
  ) -> None:
    """Writes a query, in every format that is wanted."""
    root = storage.as_path(self._config.dataset.path).expanduser()
    root = root if storage.is_remote(root) else root.resolve()
    located = []
    for item in items:
      path = str(root / item.id)
      located.append(item._replace(path=path, digest=images.digest(path)))
    selection = self._config.selection
    asked = Query(
      round_num,
      classes,
      self._config.dataset.is_multi_label,
      tuple(located),
      selection.strategy if round_num else selection.initial_strategy,
      self._num_answers(round_num),
    )
    folder = query.folder_of(self._folder, round_num)
    for name in self._config.labels.formats:
      formats.FORMATS[name].write(asked, folder)
    # Last: a query that can be read is whole.
    query.write(self._folder, asked)
    storage.make_folder(self._folder / query.ANSWERS_FOLDER)

  def _num_answers(self, round_num: int) -> int:
    """Returns how many answers came before a query.

    One that a kill made the round write twice may be answered already.
    """
    last = query.latest_round(self._folder)
    if last is not None and last >= round_num:
      return query.read(self._folder, round_num).num_answers
    return len(self.intake.answers)

  def _build(self, assets: experiment.Assets, explained=None):
    return experiment.build(
      self._config,
      assets,
      seed=self._seed,
      workdir=self._folder,
      explain=explained,
      keeps_every_model=True,
    )


def _asked(folder: epath.Path) -> dict[str, Item]:
  """Returns all that was ever asked, by id."""
  return {
    item.id: item for asked in query.read_all(folder) for item in asked.items
  }


def _items(record: dict[str, Any]) -> list[Item]:
  """Returns what a round asks about."""
  selected = record["selected"]
  scores = record["scores"] or [None] * len(selected)
  return [
    Item(id_, "", score, tuple((name, p) for name, p in predictions))
    for id_, score, predictions in zip(
      selected, scores, record["predictions"], strict=True
    )
  ]


def _with_labels(assets: experiment.Assets, told: Taken) -> experiment.Assets:
  """Returns the assets with the labels of a round."""
  place = {name: index for index, name in enumerate(told.class_names)}
  ids, is_multi_label = assets.task.ids, assets.dataset.train.labels.ndim > 1
  shape = (len(ids), len(place)) if is_multi_label else (len(ids),)
  labels = np.zeros(shape, np.int32)
  for index, id_ in enumerate(ids):
    for name in told.labels.get(id_, ()):
      if is_multi_label:
        labels[index, place[name]] = 1
      else:
        labels[index] = place[name]
  return experiment.with_labels(
    assets, told.class_names, labels, num_labels=len(told.labels)
  )


def _write_data(folder: epath.Path, assets: experiment.Assets) -> None:
  """Writes what the model of the round was trained on, for who loads it."""
  content = json.dumps(assets.digest, indent=2) + "\n"
  storage.write_atomically(folder / workdir.DATA_FILE, content.encode())
