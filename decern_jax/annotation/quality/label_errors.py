"""Finds labels that are likely wrong, by confident learning."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
import numpy as np

from decern_jax.features import embedding
from decern_jax.training.head import fit_head, init_head
from decern_jax.training.recipe import PUBLISHED

NUM_FOLDS = 5

# Lower bound of a class threshold: a mean probability below it says nothing.
MIN_THRESHOLD = 2e-6
# A probability may be this far below its threshold and still pass it.
ROUNDING = 1e-6


class LabelErrors(NamedTuple):
  """Examples whose label is likely wrong, the most suspicious first.

  Attributes:
    indices: int [found].
    suggested: int [found], the likeliest other class of each.
    margins: float [found], the probability of the given label minus that of
      the suggested class, in [-1, 0].
  """

  indices: np.ndarray
  suggested: np.ndarray
  margins: np.ndarray


def find_label_errors(
  probs: Float[np.ndarray, "rows classes"], labels: Int[np.ndarray, " rows"]
) -> LabelErrors:
  """Finds labels that are likely wrong.

  The threshold of a class is its mean probability over the examples with its
  label. An example belongs to the class whose threshold its probability passes,
  or to the likeliest class if it passes several. Its label is likely wrong if
  it belongs to another class, and another class is also the likeliest. This is
  cleanlab's `find_label_issues` with `filter_by="confident_learning"`, in the
  order of its "normalized_margin".

  Args:
    probs: Predictions of each row by a model that was trained without it.
    labels: The given class of each row.

  Raises:
    ValueError: If the shapes do not fit.

  References:
    Northcutt, Jiang and Chuang, "Confident learning: Estimating uncertainty in
    dataset labels", JAIR 2021, sections 3.1 and 3.2.
  """
  probs = np.asarray(probs, np.float64)
  labels = np.asarray(labels)
  if probs.ndim != 2 or labels.shape != (len(probs),):
    raise ValueError(
      "Expected `probs` [rows, classes] and `labels` [rows], got shapes"
      f" {probs.shape} and {labels.shape}."
    )
  passes = probs >= _thresholds(probs, labels) - ROUNDING
  likeliest = probs.argmax(axis=1)
  confident = np.where(passes.sum(axis=1) > 1, likeliest, passes.argmax(axis=1))
  is_wrong = passes.any(axis=1) & (confident != labels) & (likeliest != labels)
  found = np.flatnonzero(is_wrong)
  rows = np.arange(len(found))
  others = probs[found].copy()
  others[rows, labels[found]] = -1.0
  margins = probs[found, labels[found]] - others.max(axis=1, initial=-1.0)
  order = np.argsort(margins, kind="stable")
  return LabelErrors(found[order], others.argmax(axis=1)[order], margins[order])


def _thresholds(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the threshold of each class; infinite without labels."""
  thresholds = np.full(probs.shape[1], np.inf)
  for label in np.unique(labels):
    mean = probs[labels == label, label].mean()
    thresholds[label] = max(mean, MIN_THRESHOLD)
  return thresholds


def predict_out_of_sample(
  key: Key[Array, ""],
  features: Float[np.ndarray, "rows dim"],
  labels: Int[np.ndarray, "rows ..."],
  *,
  num_classes: int,
) -> Float[np.ndarray, "rows classes"]:
  """Predicts each example by a head that was trained without its fold.

  The examples of each class are spread evenly over the folds.

  Args:
    key: Random key of the folds and of the training.
    features: float32 features of the examples.
    labels: int32 class of each example, or 0 and 1 for each class.
    num_classes: Number of classes.

  Raises:
    ValueError: If there are fewer examples than folds.
  """
  if len(features) < NUM_FOLDS:
    raise ValueError(
      f"Expected at least {NUM_FOLDS} examples, got {len(features)}."
    )
  fold_key, head_key, order_key = jax.random.split(key, 3)
  folds = _assign_folds(fold_key, labels)
  head = init_head(head_key, dim=features.shape[1], num_classes=num_classes)
  probs = np.zeros((len(features), num_classes), np.float32)
  for fold in range(NUM_FOLDS):
    is_out = folds == fold
    trained, _ = fit_head(
      jax.random.fold_in(order_key, fold),
      head,
      *_move_first(features, labels, ~is_out),
      recipe=PUBLISHED,
    )
    found = embedding.predict(
      trained, jnp.asarray(features), is_multi_label=labels.ndim > 1
    )
    probs[is_out] = np.asarray(found)[is_out]
  return probs


def _assign_folds(key: Key[Array, ""], labels: np.ndarray) -> np.ndarray:
  """Returns the fold of each example."""
  order = np.asarray(jax.random.permutation(key, len(labels)))
  if labels.ndim == 1:
    order = order[np.argsort(labels[order], kind="stable")]
  folds = np.zeros(len(labels), int)
  folds[order] = np.arange(len(labels)) % NUM_FOLDS
  return folds


def _move_first(features: np.ndarray, labels: np.ndarray, mask: np.ndarray):
  """Moves the rows of a mask before the others, and returns their number.

  The number of rows is padded to a power of two, so that runs of all sizes
  share few compiled programs.
  """
  order = np.argsort(~mask, kind="stable")
  padding = (1 << (len(features) - 1).bit_length()) - len(features)
  order = np.pad(order, (0, padding))
  return (
    jnp.asarray(features[order]),
    jnp.asarray(labels[order], jnp.int32),
    jnp.asarray(int(mask.sum())),
  )


class Suspect(NamedTuple):
  """A label that is likely wrong.

  Attributes:
    id: Id of the image.
    given: The class that the image was given. Where images may have several
      labels, "" if the suspect is a missing label `suggested`.
    suggested: The class that is likelier. Where images may have several labels,
      "" if the suspect is a wrong label `given`.
    p_given: The probability of what was given.
    p_suggested: The probability of what is suggested.
    annotators: The people who gave the label.
  """

  id: str
  given: str
  suggested: str
  p_given: float
  p_suggested: float
  annotators: tuple[str, ...]


class LabelCheck(NamedTuple):
  """A comparison of labels with out-of-sample predictions.

  Attributes:
    suspects: The labels that are likely wrong, the most suspicious first.
    num_checked: Number of labels that were checked.
    accuracy: Share of them that the model predicts correctly. Where images may
      have several labels, each pair of an image and a class counts.
    unchecked: Classes with too few labels to check.
  """

  suspects: tuple[Suspect, ...]
  num_checked: int
  accuracy: float
  unchecked: tuple[str, ...]


def check_labels(
  probs: Float[np.ndarray, "images classes"] | None,
  ids: Sequence[str],
  labels: Mapping[str, tuple[str, ...]],
  *,
  class_names: Sequence[str],
  annotators: Mapping[str, tuple[str, ...]],
  is_multi_label: bool,
) -> LabelCheck | None:
  """Compares labels with the predictions of models trained without them.

  A class with fewer labels than folds is left out, since the training data of a
  fold may have none of it. Where images may have several labels, each class is
  checked on its own, as a yes or no question.

  Args:
    probs: Out-of-sample predictions, or None if there are none.
    ids: Id of each image.
    labels: The labels of each image, by id.
    class_names: Name of each class.
    annotators: The people who labeled each image, by id.
    is_multi_label: Whether an image may have any number of labels.

  Returns:
    The comparison, or None if too few classes have enough labels.
  """
  if probs is None:
    return None
  index_of = {name: index for index, name in enumerate(class_names)}
  given = np.zeros((len(ids), len(index_of)), bool)
  for row, id_ in enumerate(ids):
    given[row, [index_of[name] for name in labels[id_]]] = True
  counts = given.sum(axis=0)
  is_checked = counts >= NUM_FOLDS
  if is_multi_label:
    is_checked &= len(ids) - counts >= NUM_FOLDS
  # With one label per image, the label of a single class is never wrong.
  if is_checked.sum() < (1 if is_multi_label else 2):
    return None
  check = _check_each_class if is_multi_label else _check_single_labels
  suspects, num_checked, accuracy = check(
    np.asarray(probs), given, np.flatnonzero(is_checked)
  )
  named = [
    Suspect(
      id=ids[row],
      given="" if label is None else class_names[label],
      suggested="" if other is None else class_names[other],
      p_given=round(float(p_label), 4),
      p_suggested=round(float(p_other), 4),
      annotators=annotators.get(ids[row], ()),
    )
    for row, (label, other), (p_label, p_other) in suspects
  ]
  unchecked = tuple(
    name
    for name, count, is_in in zip(class_names, counts, is_checked, strict=True)
    if count and not is_in
  )
  return LabelCheck(tuple(named), num_checked, accuracy, unchecked)


_Suspect = tuple[int, tuple[int | None, int | None], tuple[float, float]]
"""The row, the given and the suggested class, and their probabilities."""


def _check_single_labels(
  probs: np.ndarray, given: np.ndarray, classes: np.ndarray
) -> tuple[list[_Suspect], int, float]:
  """Checks one label per image.

  Returns:
    The suspects, the number of labels checked, and the accuracy of the model.
  """
  rows = np.flatnonzero(given[:, classes].any(axis=1))
  labels = given[np.ix_(rows, classes)].argmax(axis=1)
  own = probs[np.ix_(rows, classes)]
  own = own / np.maximum(own.sum(axis=1, keepdims=True), np.finfo(float).tiny)
  errors = find_label_errors(own, labels)
  suspects: list[_Suspect] = [
    (
      int(rows[index]),
      (int(classes[labels[index]]), int(classes[suggested])),
      (own[index, labels[index]], own[index, suggested]),
    )
    for index, suggested in zip(errors.indices, errors.suggested, strict=True)
  ]
  accuracy = float(np.mean(own.argmax(axis=1) == labels))
  return suspects, len(rows), accuracy


def _check_each_class(
  probs: np.ndarray, given: np.ndarray, classes: np.ndarray
) -> tuple[list[_Suspect], int, float]:
  """Checks each class on its own; returns as `_check_single_labels`."""
  found = [
    suspect
    for label in classes
    for suspect in _check_class(probs[:, label], given[:, label], label)
  ]
  found.sort(key=lambda pair: pair[0])
  right = (probs[:, classes] >= 0.5) == given[:, classes]
  suspects = [suspect for _, suspect in found]
  return suspects, right.size, float(np.mean(right))


def _check_class(
  probs: np.ndarray, given: np.ndarray, label: int
) -> Iterator[tuple[float, _Suspect]]:
  """Yields the margin of each suspect, and the suspect."""
  both = np.stack([1.0 - probs, probs], axis=1)
  errors = find_label_errors(both, given.astype(int))
  for row, margin in zip(errors.indices, errors.margins, strict=True):
    pair = (label, None) if given[row] else (None, label)
    is_given = int(given[row])
    yield margin, (row, pair, (both[row, is_given], both[row, 1 - is_given]))
