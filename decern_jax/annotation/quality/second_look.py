"""Labels that are worth a second look."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from decern_jax.annotation.quality.cross_validation import NUM_FOLDS
from decern_jax.annotation.quality.findings import SecondLook, Suspect
from decern_jax.annotation.quality.label_errors import find_label_errors


def check(
  probs: np.ndarray | None,
  ids: Sequence[str],
  labels: Mapping[str, tuple[str, ...]],
  *,
  class_names: Sequence[str],
  said_by: Mapping[str, tuple[str, ...]],
  is_multi_label: bool,
) -> SecondLook | None:
  """Compares labels with what a model says that did not see them.

  A class of fewer labels than folds is left out: a fold of the model may have
  seen none of it. Where an image may have several labels, each class is a
  question of its own, yes or no.

  Args:
    probs: [images, classes], the probabilities; None: there are none.
    ids: Id of each image.
    labels: The labels of each image.
    class_names: Name of each class.
    said_by: Who labeled each image.
    is_multi_label: Whether an image may have several labels, or none.

  Returns:
    What was found; None where no class has enough labels.
  """
  if probs is None:
    return None
  place = {name: index for index, name in enumerate(class_names)}
  given = np.zeros((len(ids), len(place)), bool)
  for row, id_ in enumerate(ids):
    given[row, [place[name] for name in labels[id_]]] = True
  counts = given.sum(axis=0)
  is_checked = counts >= NUM_FOLDS
  if is_multi_label:
    is_checked &= len(ids) - counts >= NUM_FOLDS
  # Of two classes: one alone is never wrong.
  if is_checked.sum() < (1 if is_multi_label else 2):
    return None
  find = _several_labels if is_multi_label else _one_label
  suspects, num_checked, accuracy = find(
    np.asarray(probs), given, np.flatnonzero(is_checked)
  )
  named = [
    Suspect(
      ids[row],
      *("" if label is None else class_names[label] for label in pair),
      *(round(float(p), 4) for p in of_pair),
      said_by.get(ids[row], ()),
    )
    for row, pair, of_pair in suspects
  ]
  unchecked = tuple(
    name
    for name, count, is_in in zip(class_names, counts, is_checked, strict=True)
    if count and not is_in
  )
  return SecondLook(tuple(named), num_checked, accuracy, unchecked)


def _one_label(probs: np.ndarray, given: np.ndarray, classes: np.ndarray):
  """Returns the suspects, how many were checked, and how many are right."""
  rows = np.flatnonzero(given[:, classes].any(axis=1))
  labels = given[np.ix_(rows, classes)].argmax(axis=1)
  own = probs[np.ix_(rows, classes)]
  own = own / np.maximum(own.sum(axis=1, keepdims=True), np.finfo(float).tiny)
  errors = find_label_errors(own, labels)
  suspects = [
    (
      rows[at],
      (classes[labels[at]], classes[suggested]),
      (own[at, labels[at]], own[at, suggested]),
    )
    for at, suggested in zip(errors.positions, errors.suggested, strict=True)
  ]
  accuracy = float(np.mean(own.argmax(axis=1) == labels))
  return suspects, len(rows), accuracy


def _several_labels(probs: np.ndarray, given: np.ndarray, classes: np.ndarray):
  """As `_one_label`, each class for itself."""
  found = [
    suspect
    for label in classes
    for suspect in _of_class(probs[:, label], given[:, label], label)
  ]
  found.sort(key=lambda suspect: suspect[0])
  right = (probs[:, classes] >= 0.5) == given[:, classes]
  suspects = [suspect[1:] for suspect in found]
  return suspects, right.size, float(np.mean(right))


def _of_class(probs: np.ndarray, given: np.ndarray, label: int) -> Iterator:
  """Yields the margin, row, labels and probabilities of each suspect."""
  both = np.stack([1.0 - probs, probs], axis=1)
  errors = find_label_errors(both, given.astype(int))
  for at, margin in zip(errors.positions, errors.margins, strict=True):
    pair = (label, None) if given[at] else (None, label)
    is_given = int(given[at])
    yield margin, at, pair, (both[at, is_given], both[at, 1 - is_given])
