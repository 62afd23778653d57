"""A loop of queries and answers in memory, for any way of labeling."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
import threading
from typing import Any, Self
import uuid
import zipfile

import numpy as np

from decern_jax.annotation.loop_values import (
  Id,
  LabelParser,
  as_list,
  check_ids,
)
from decern_jax.annotation.state import (
  Answer,
  Asked,
  LabelingState,
  name_classes,
)
from decern_jax.io.validation import check_integer, repeated, shorten
from decern_jax.ops import keys
from decern_jax.ops.head import LinearHead
from decern_jax.strategies.api import (
  as_numbers,
  choose_options,
  find_strategy,
  select,
)
from decern_jax.strategies.base import Strategy
from decern_jax.training.head import train_head
from decern_jax.training.recipe import PUBLISHED, Recipe

# The arrays of a training have at least this length, and otherwise a power of
# two, because each length needs its own compilation.
SMALLEST_CAPACITY = 128

_FORMAT = 1

_NEED_NO_MODEL = {"features", "labels"}


class Loop:
  """Asks which rows to label, and keeps the labels; safe to use from threads.

  Between two calls of `ask` any number of answers may arrive by `tell`. What
  was asked and has no answer yet is not asked again, and strategies that cover
  the pool treat it as covered. Equal calls in the same order give equal
  results.

  Example:
    >>> import decern_jax, numpy as np
    >>> features = np.random.default_rng(0).standard_normal((100, 8))
    >>> loop = decern_jax.Loop(features, strategy="margin")
    >>> ids = loop.ask(4)
    >>> loop.tell(ids, ["cat", "dog", "cat", "dog"])
    4
    >>> len(loop.ask(10))
    10
  """

  def __init__(
    self,
    features: Any,
    *,
    ids: Iterable[Id] | None = None,
    strategy: str = "decern",
    initial_strategy: str = "typiclust",
    class_names: Sequence[str] | Sequence[int] = (),
    is_multi_label: bool = False,
    options: Mapping[str, int | float | str] | None = None,
    recipe: Recipe = PUBLISHED,
    seed: int = 0,
  ):
    """Starts without labels.

    Args:
      features: [rows, dim], of NumPy, JAX, PyTorch or pandas.
      ids: Distinct names or numbers of the rows; 0, 1, ... by default.
      strategy: Name of the strategy.
      initial_strategy: The strategy of queries before there are labels of two
        classes. It must need no model: "typiclust" takes typical rows, "random"
        draws.
      class_names: Names of the classes that are known already, or `range(n)`
        where labels are numbers. Further ones may come with the labels.
      is_multi_label: Whether a row may have any number of labels.
      options: Options of the strategy by name; the others have their defaults.
      recipe: How `train` trains the head.
      seed: Seed of all draws.

    Raises:
      ValueError: If a value is not valid; shows it.
    """
    self._lock = threading.RLock()
    self._strategy = _find(strategy, is_multi_label)
    self._initial = _find(initial_strategy, is_multi_label)
    if not set(self._initial.needs) <= _NEED_NO_MODEL:
      raise ValueError(
        "Expected `initial_strategy` to need no trained model, got"
        f" {initial_strategy!r}, which needs {self._initial.needs}."
      )
    self._options = dict(options or {})
    choose_options(self._strategy, self._options)
    self._parser = LabelParser(is_multi_label)
    self._recipe = recipe
    self._seed = check_integer("seed", seed, low=0, high=2**32 - 1)
    self._known_classes = tuple(map(self._parser.check, class_names))
    self._features = _check_features(features)
    self._ids: list[Id] = check_ids(ids, len(self._features), start=0)
    self._row_of = {str(id_): row for row, id_ in enumerate(self._ids)}
    self._state = LabelingState()

  @property
  def ids(self) -> list[Id]:
    """The ids of all rows."""
    with self._lock:
      return [*self._ids]

  @property
  def labels(self) -> dict[Id, Any]:
    """The label of each labeled row by id; a tuple if it may have several."""
    with self._lock:
      found = {}
      for id_, names in self._state.labels.items():
        classes = tuple(sorted(map(self._parser.kind or str, names)))
        label = classes if self._parser.is_multi_label else classes[0]
        found[self._ids[self._row_of[id_]]] = label
      return found

  @property
  def pending(self) -> list[Id]:
    """The ids that were asked and have no answer since."""
    with self._lock:
      return [self._ids[self._row_of[id_]] for id_ in self._state.pending]

  @property
  def num_left(self) -> int:
    """The number of rows that can be asked."""
    with self._lock:
      return int(self._candidates().sum())

  @property
  def round(self) -> int:
    """The number of queries so far."""
    with self._lock:
      return len(self._state.asked)

  @property
  def class_names(self) -> tuple[str, ...] | tuple[int, ...]:
    """All classes so far, in the order of the columns of `probs`.

    Names are those given at the start, then the others sorted; numbers are 0,
    1, ... up to the largest label.
    """
    with self._lock:
      if self._parser.kind is int:
        return tuple(range(self._parser.num_numbers))
      return name_classes(self._known_classes, self._state.labels)

  def ask(
    self,
    budget: int,
    *,
    probs: Any = None,
    head: Any = None,
    previous_probs: Any = None,
    auxiliary: Any = None,
    groups: Any = None,
    max_per_group: int = 1,
    strata: Any = None,
    quotas: Mapping[Any, int] | None = None,
  ) -> list[Id]:
    """Selects rows to label; they are pending until there is an answer.

    A model is trained on the labels so far if the strategy needs one and
    neither `probs` nor `head` is given.

    Args:
      budget: Rows to select, at least 1 and at most `num_left`.
      probs: [rows, classes], what the user's model predicts for all rows, with
        columns as in `class_names`.
      head: The user's linear classifier of the features, as for `select`.
      previous_probs: As for `select`.
      auxiliary: As for `select`.
      groups: As for `select`; so are the other limits.
      max_per_group: Largest number of rows of one group.
      strata: The stratum of each row, or "predicted".
      quotas: How many rows to select of each stratum.

    Returns:
      The ids, in the order of selection.

    Raises:
      ValueError: If a value is not valid, or fewer rows are left; then nothing
        has changed.
      RuntimeError: If the training diverges.
    """
    with self._lock:
      budget = check_integer("budget", budget, low=1)
      candidates = self._candidates()
      num_left = int(candidates.sum())
      if budget > num_left:
        raise ValueError(
          f"Expected `budget` <= {num_left} rows that are left: of"
          f" {len(self._ids)}, {len(self._state.labels)} have a label and"
          f" {len(self._state.pending)} wait for one, got {budget}."
        )
      has_model = probs is not None or head is not None
      self._check_width(probs, head)
      strategy = self._choose_strategy(
        has_model or auxiliary is not None, has_model
      )
      is_initial = strategy is not self._strategy
      wanted = {*strategy.needs} & {"probs", "head"}
      if isinstance(strata, str) and strata == "predicted":
        wanted.add("probs")
      if wanted and not has_model and self._can_train():
        head = self.train()
      # Labels that came before any query are those of round 0.
      first = [] if self._state.asked else [*self._state.labels]
      round_num = len(self._state.asked) + bool(first)
      key = (
        keys.round_key(self._seed, "query", round_num - 1)
        if round_num
        else keys.seed_key(self._seed, "initial")
      )
      indices = select(
        strategy.name,
        budget=budget,
        features=self._features,
        probs=probs,
        head=head,
        labels=self._label_array(),
        pending=self._mask(self._state.pending),
        previous_probs=previous_probs,
        auxiliary=auxiliary,
        is_multi_label=self._parser.is_multi_label,
        groups=groups,
        max_per_group=max_per_group,
        strata=strata,
        quotas=quotas,
        options={} if is_initial else self._options,
        key=key,
      )
      if first:
        self._state.ask(first)
      chosen = [self._ids[index] for index in indices]
      self._state.ask(map(str, chosen))
      return chosen

  def tell(self, ids: Iterable[Id], labels: Any, *, annotator: str = "") -> int:
    """Adds answers, in any order. They may be late, incomplete or repeated.

    An answer that differs from the person's last one about a row corrects it.
    Where people disagree, the majority wins, and the latest answer breaks a
    tie. Rows that were never asked may be answered too.

    Args:
      ids: Distinct ids of rows.
      labels: The answer for each id: the name or the number of a class. If a
        row may have several labels: a list of them, which may be empty, or for
        all ids an array [ids, classes] of 0 and 1, with columns as in
        `class_names`. None for a row that was skipped, which may then be asked
        again.
      annotator: Name of the person.

    Returns:
      The number of answers that were new or changed.

    Raises:
      ValueError: If an id is unknown or repeated, or an answer is not valid;
        shows it. Then none of the answers is taken.
    """
    with self._lock:
      known = self._parse_ids(ids)
      names = [*map(str, self.class_names)]
      if not isinstance(annotator, str):
        raise ValueError(f"Expected `annotator` as text, got {annotator!r}.")
      answers = self._parser.parse(labels, len(known), names)
      return sum(
        self._state.answer(Answer(id_, names, annotator))
        for id_, names in zip(known, answers, strict=True)
      )

  def add(self, features: Any, ids: Iterable[Id] | None = None) -> None:
    """Adds rows to the pool.

    Args:
      features: [rows, dim].
      ids: Ids of the new rows. By default the next numbers, if ids are numbers.

    Raises:
      ValueError: If a value is not valid or an id exists already; then
        nothing has changed.
    """
    with self._lock:
      rows = _check_features(features)
      dim = self._features.shape[1]
      if rows.shape[1] != dim:
        raise ValueError(
          f"Expected `features` [rows, {dim}], got the shape {rows.shape}."
        )
      start = None
      if isinstance(self._ids[0], int):
        numbers = [id_ for id_ in self._ids if isinstance(id_, int)]
        start = max(numbers) + 1
      new = check_ids(ids, len(rows), start=start, like=self._ids[0])
      twice = [id_ for id_ in new if str(id_) in self._row_of]
      if twice:
        raise ValueError(
          f"Expected new ids, got {shorten(map(repr, twice))} again."
        )
      for row, id_ in enumerate(new, start=len(self._ids)):
        self._row_of[str(id_)] = row
      self._ids += new
      self._features = np.concatenate([self._features, rows])

  def train(self) -> LinearHead:
    """Trains a linear head on the labels so far, as `ask` does.

    Returns:
      The head, with classes as in `class_names`.

    Raises:
      ValueError: If there are not yet a label and two classes.
      RuntimeError: If the training diverges.
    """
    with self._lock:
      if not self._can_train():
        raise ValueError(
          "Expected a label and two classes to train on, got"
          f" {len(self._state.labels)} labels of the classes"
          f" {[*self.class_names]}."
        )
      labels = self._label_array()
      is_labeled = (labels if labels.ndim == 1 else labels[:, 0]) >= 0
      indices = np.flatnonzero(is_labeled)
      capacity = max(SMALLEST_CAPACITY, 1 << (len(indices) - 1).bit_length())
      padded = np.zeros(capacity, np.int64)
      padded[: len(indices)] = indices
      trained, losses = train_head(
        self._features[padded],
        labels[padded].astype(np.int32),
        len(indices),
        seed=self._seed,
        round_num=max(len(self._state.asked) - 1, 0),
        num_classes=len(self.class_names),
        recipe=self._recipe,
      )
      if not np.isfinite(losses).all():
        raise RuntimeError(
          f"The training loss became {losses[~np.isfinite(losses)][0]}; a lower"
          " `learning_rate` of the recipe may help."
        )
      return trained

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes everything to a file, which appears complete or not at all.

    Args:
      path: The file; one that exists is replaced.

    Raises:
      OSError: If it cannot be written.
    """
    path = pathlib.Path(path)
    with self._lock:
      content = json.dumps(self._to_json()).encode("ascii")
      scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
      try:
        with open(scratch, "wb") as file:
          state = np.frombuffer(content, np.uint8)
          np.savez(file, features=self._features, state=state)
          file.flush()
          os.fsync(file.fileno())
        os.replace(scratch, path)
      finally:
        scratch.unlink(missing_ok=True)

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> Self:
    """Reads a file of `save`; the loop continues as the saved one would.

    Raises:
      ValueError: If it is not such a file.
      OSError: If it cannot be read.
    """
    try:
      with open(path, "rb") as opened, np.load(opened) as file:
        features = file["features"]
        content = json.loads(file["state"].tobytes())
      if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']}")
      made = cls(
        features,
        ids=content["ids"],
        recipe=Recipe(**content["recipe"]),
        **content["settings"],
      )
      made._parser.kind = {"int": int, "str": str, None: None}[content["kind"]]
      made._parser.num_numbers = content["num_numbers"]
      made._state = LabelingState(
        [Asked(tuple(ids), count) for ids, count in content["asked"]],
        [
          Answer(id_, None if names is None else tuple(names), annotator)
          for id_, names, annotator in content["answers"]
        ],
      )
      return made
    except (
      ValueError,
      KeyError,
      TypeError,
      EOFError,
      zipfile.BadZipFile,
    ) as error:
      raise ValueError(
        f"Expected a file of `Loop.save` in {os.fspath(path)!r}, got {error}."
      ) from None

  def _to_json(self) -> dict[str, Any]:
    """Returns everything except the features."""
    return {
      "format": _FORMAT,
      "ids": self._ids,
      "settings": {
        "strategy": self._strategy.name,
        "initial_strategy": self._initial.name,
        "class_names": self.class_names
        if self._parser.kind is int
        else self._known_classes,
        "is_multi_label": self._parser.is_multi_label,
        "options": self._options,
        "seed": self._seed,
      },
      "recipe": dataclasses.asdict(self._recipe),
      "kind": self._parser.kind and self._parser.kind.__name__,
      "num_numbers": self._parser.num_numbers,
      "asked": self._state.asked,
      "answers": [[a.id, a.labels, a.annotator] for a in self._state.answers],
    }

  def _can_train(self) -> bool:
    return self._state.can_train([*map(str, self.class_names)])

  def _choose_strategy(self, is_given: bool, has_model: bool) -> Strategy:
    """Returns the strategy of the next query, or the initial one.

    Args:
      is_given: Whether the user gives what a model predicts.
      has_model: Whether that replaces the trained head.
    """
    needs = {*self._strategy.needs}
    has_labels = bool(self._state.labels)
    needs_head = bool(needs & {"probs", "head"}) and not has_model
    if needs_head and not self._can_train():
      return self._initial
    if not has_labels and ("labels" in needs or not is_given):
      return self._initial
    return self._strategy

  def _mask(self, ids: Iterable[str]) -> np.ndarray:
    mask = np.zeros(len(self._ids), bool)
    mask[[self._row_of[id_] for id_ in ids]] = True
    return mask

  def _candidates(self) -> np.ndarray:
    """Returns the mask of the rows that can be asked."""
    return ~self._mask([*self._state.labels, *self._state.pending])

  def _label_array(self) -> np.ndarray:
    """Returns the classes, int [rows] or 0 and 1 [rows, classes]; else -1."""
    place = {str(name): index for index, name in enumerate(self.class_names)}
    shape = (len(self._ids), max(len(place), 1))
    found = np.full(shape if self._parser.is_multi_label else shape[:1], -1)
    for id_, names in self._state.labels.items():
      row, classes = self._row_of[id_], [place[name] for name in names]
      if self._parser.is_multi_label:
        found[row] = 0
        found[row, classes] = 1
      else:
        (found[row],) = classes
    return found

  def _check_width(self, probs: Any, head: Any) -> None:
    """Checks that a user's model has the classes of the labels."""
    shape = np.shape(probs) if probs is not None else ()
    if len(shape) != 2:
      return
    num_classes = len(self.class_names)
    # Names have no place for a class that no label has, but numbers do.
    is_open = self._parser.kind is not str and not self._parser.is_multi_label
    if shape[1] != num_classes and not (is_open and shape[1] > num_classes):
      raise ValueError(
        f"Expected `probs` [rows, {num_classes}], with a column for each of"
        f" `class_names` {shorten(map(repr, self.class_names))}, got the shape"
        f" {shape}."
      )

  def _parse_ids(self, ids: Iterable[Id]) -> list[str]:
    """Returns ids of rows as the state keeps them."""
    kind, known = type(self._ids[0]), []
    for id_ in as_list("ids", ids):
      if type(id_) is not kind or str(id_) not in self._row_of:
        raise ValueError(f"Expected ids of the loop's rows, got {id_!r}.")
      known.append(str(id_))
    twice = repeated(known)
    if twice:
      raise ValueError(f"Expected distinct `ids`, got {shorten(twice)} twice.")
    return known


def _find(name: str, is_multi_label: bool) -> Strategy:
  """Returns a strategy that supports the labels of a loop."""
  strategy = find_strategy(name)
  strategy.require_form(is_multi_label=is_multi_label)
  return strategy


def _check_features(features: Any) -> np.ndarray:
  array = np.array(as_numbers("features", features, ("rows", "dim")))
  if 0 in array.shape:
    raise ValueError(
      f"Expected at least one row in `features`, got the shape {array.shape}."
    )
  return array
