"""Strong imbalance: the labels of a pool, thinned to a long tail."""

import hashlib

import numpy as np

from decern_jax.data.dataset import Dataset


def thin_to_long_tail(dataset: Dataset, *, ratio: float, seed: int) -> Dataset:
  """Leaves examples out of the pool until its labels have a long tail.

  Test and val stay as they are. See `long_tail_positions` for what is left out.

  Args:
    dataset: The data set, of one label per example or several.
    ratio: How many times as frequent the first label is to be as the last, at
      least 1.
    seed: Seed of the draw, at least 0.

  Returns:
    The data set with a smaller pool, in the order it had, and another
    fingerprint.

  Raises:
    ValueError: If the ratio is outside its range, or a label has no positive in
      the pool.
  """
  train = dataset.train
  labels = train.labels
  if labels.ndim == 1:
    labels = labels[:, None] == np.arange(len(dataset.class_names))
  kept = long_tail_positions(labels, ratio=ratio, seed=seed)
  content = [dataset.fingerprint.encode(), kept.astype("<i8").tobytes()]
  return dataset._replace(
    train=train._replace(
      ids=tuple(train.ids[position] for position in kept),
      labels=train.labels[kept],
      read=lambda position: train.read(int(kept[position])),
    ),
    fingerprint=hashlib.sha256(b"\0".join(content)).hexdigest(),
  )


def long_tail_targets(counts: np.ndarray, *, ratio: float) -> np.ndarray:
  """Returns how many positives each label is to keep at most.

  With the labels in the order of their counts, n_0 the largest, label r of C
  keeps

    n_0 ratio^(-r / (C - 1)),

  rounded, and never less than one: frequencies fall exponentially, as in the
  long-tailed versions of CIFAR. This form is the project's choice; the papers
  do not say theirs.

  Args:
    counts: Int [classes], positives of each label, at least 1.
    ratio: How many times as frequent the first label is as the last, at least
      1.

  Returns:
    int [classes]; of labels with equal counts the first comes first in order.

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


def long_tail_positions(
  labels: np.ndarray, *, ratio: float, seed: int
) -> np.ndarray:
  """Returns which examples to keep for labels with a long tail.

  The labels are gone through from the rarest target to the most frequent one.
  Of a label with more positives than `long_tail_targets` allows, examples are
  left out at random, but only those without any rarer label: what these have
  left stays. So a label ends with exactly its target, unless

  * it had fewer, or lost them together with rarer ones, or
  * more than that carry a rarer label too: then with exactly these.

  An example without any label is always kept.

  Args:
    labels: [examples, classes], 0 or 1.
    ratio: As for `long_tail_targets`.
    seed: Seed of the draw, at least 0.

  Returns:
    Int positions, rising.

  Raises:
    ValueError: As `long_tail_targets` does.
  """
  labels = np.asarray(labels, bool)
  targets = long_tail_targets(labels.sum(axis=0), ratio=ratio)
  rng = np.random.default_rng(seed)
  kept = np.ones(len(labels), bool)
  has_rarer = np.zeros(len(labels), bool)
  # From the last in the order of the targets: equal ones end with the first.
  for label in np.argsort(-targets, kind="stable")[::-1]:
    is_label = labels[:, label]
    excess = int(np.sum(kept & is_label)) - int(targets[label])
    spare = np.flatnonzero(kept & is_label & ~has_rarer)
    # All of them in random order: a larger excess leaves out the same and more.
    dropped = rng.permutation(spare)[: max(excess, 0)]
    kept[dropped] = False
    has_rarer |= is_label
  return np.flatnonzero(kept)
