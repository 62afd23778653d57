"""Thins a pool to a long tail of labels."""

import hashlib

import numpy as np

from decern_jax.data.dataset import Dataset


def thin_to_long_tail(dataset: Dataset, *, ratio: float, seed: int) -> Dataset:
  """Removes examples from the pool until its labels have a long tail.

  Test and val do not change. `long_tail_indices` chooses the examples.

  Args:
    dataset: The data set, of one label per example or several.
    ratio: Frequency of the most frequent label divided by that of the rarest,
      at least 1.
    seed: Seed of the draw, at least 0.

  Returns:
    The data set with a smaller pool, in the same order, and another
    fingerprint.

  Raises:
    ValueError: If the ratio is outside its range, or a label has no positive in
      the pool.
  """
  train = dataset.train
  labels = train.labels
  if labels.ndim == 1:
    labels = labels[:, None] == np.arange(len(dataset.class_names))
  kept = long_tail_indices(labels, ratio=ratio, seed=seed)
  content = [dataset.fingerprint.encode(), kept.astype("<i8").tobytes()]
  return dataset._replace(
    train=train._replace(
      ids=tuple(train.ids[index] for index in kept),
      labels=train.labels[kept],
      read=lambda index: train.read(int(kept[index])),
    ),
    fingerprint=hashlib.sha256(b"\0".join(content)).hexdigest(),
  )


def long_tail_targets(counts: np.ndarray, *, ratio: float) -> np.ndarray:
  """Returns the largest number of positives that each label keeps.

  With the C labels sorted by their counts, of which n_0 is the largest, label r
  keeps

    n_0 ratio^(-r / (C - 1)),

  rounded, and at least one. Frequencies thus fall exponentially, as in the
  long-tailed versions of CIFAR. This form is the project's choice, because the
  papers do not give theirs.

  Args:
    counts: Int [classes], positives of each label, at least 1.
    ratio: As for `thin_to_long_tail`.

  Returns:
    int [classes]. Labels with equal counts are sorted by their index.

  Raises:
    ValueError: If the ratio is outside its range, or a label has no positive.

  References:
    Cui, Jia, Lin, Song and Belongie, "Class-Balanced Loss Based on Effective
    Number of Samples", CVPR 2019, https://arxiv.org/abs/1901.05555.
  """
  if not 1.0 <= ratio < float("inf"):
    raise ValueError(f"Expected a finite `ratio` >= 1, got {ratio}.")
  empty = np.flatnonzero(counts < 1)
  if empty.size:
    raise ValueError(
      "Expected a positive of every label in the pool, got none of label "
      f"{empty[0]}."
    )
  ranks = np.empty(len(counts), np.int64)
  ranks[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
  exponents = -ranks / max(len(counts) - 1, 1)
  targets = np.rint(np.max(counts) * np.power(float(ratio), exponents))
  return np.maximum(targets.astype(np.int64), 1)


def long_tail_indices(
  labels: np.ndarray, *, ratio: float, seed: int
) -> np.ndarray:
  """Returns the examples to keep for a long tail of labels.

  The labels are visited from the smallest target to the largest. If a label has
  more positives than `long_tail_targets` allows, random examples are removed,
  but only examples without a label that was visited before. A label therefore
  ends with exactly its target, unless

  * it had fewer positives, or lost some together with a rarer label, or
  * more of its positives have a rarer label: then it keeps exactly these.

  Examples without any label are always kept.

  Args:
    labels: [examples, classes], 0 or 1.
    ratio: As for `long_tail_targets`.
    seed: Seed of the draw, at least 0.

  Returns:
    Their indices, increasing.

  Raises:
    ValueError: As `long_tail_targets` does.
  """
  labels = np.asarray(labels, bool)
  targets = long_tail_targets(labels.sum(axis=0), ratio=ratio)
  rng = np.random.default_rng(seed)
  kept = np.ones(len(labels), bool)
  has_rarer = np.zeros(len(labels), bool)
  # Of equal targets the last label comes first, as in the order of the counts.
  for label in np.argsort(-targets, kind="stable")[::-1]:
    is_label = labels[:, label]
    excess = int(np.sum(kept & is_label)) - int(targets[label])
    spare = np.flatnonzero(kept & is_label & ~has_rarer)
    # A prefix of one random order, so that a larger excess removes a superset.
    dropped = rng.permutation(spare)[: max(excess, 0)]
    kept[dropped] = False
    has_rarer |= is_label
  return np.flatnonzero(kept)
