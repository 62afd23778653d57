"""A data set: splits of examples with stable ids, read when needed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
  """One split of a data set; images are decoded when they are read.

  Attributes:
    ids: Stable name of each example, unique within the split. The order is the
      same on every machine.
    labels: int32 [examples], the class of each example as an index into
      `Dataset.class_names`; if an example may have several labels, int32
      [examples, classes], 0 or 1.
    read: Decodes the image of the example with an index: uint8 [height, width,
      bands], RGB for three bands. Safe to call from several threads.
  """

  ids: tuple[str, ...]
  labels: np.ndarray
  read: Callable[[int], np.ndarray]


class Dataset(NamedTuple):
  """A labeled image data set.

  Attributes:
    name: Name of the data set, or of its folder, for messages.
    class_names: Name of each class.
    train: The pool, whose labels are acquired.
    test: The split that accuracy is reported on. None if people label the pool
      and no images are held out.
    val: Further held-out examples, or None.
    fingerprint: Hex digest that changes when the images change. It is part of
      the key of cached features.
  """

  name: str
  class_names: tuple[str, ...]
  train: Split
  test: Split | None
  val: Split | None
  fingerprint: str
