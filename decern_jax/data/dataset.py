"""What every data source is: parts of examples with stable ids."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
  """One part of a data set; images are decoded when they are read.

  Attributes:
    ids: Stable name of each example, unique within the part. The order is the
      order of positions, and is the same on every machine.
    labels: int32 [examples], the class of each example as a position in
      `Dataset.class_names`; where an example has several labels, int32
      [examples, classes], 0 or 1.
    read: Decodes the image at a position: uint8 [height, width, bands], RGB
      where there are three. Safe to call from several threads.
  """

  ids: tuple[str, ...]
  labels: np.ndarray
  read: Callable[[int], np.ndarray]


class Dataset(NamedTuple):
  """A labeled image data set.

  Attributes:
    name: Name for people: the data set's own, or its folder's.
    class_names: Name of each class.
    train: The pool that labels are bought from.
    test: The part that accuracy is reported on; None where labels come from
      people and none are held out.
    val: Further held-out examples, or None; never part of the pool.
    fingerprint: Hex digest that changes when the images do: the key under
      which features are cached.
  """

  name: str
  class_names: tuple[str, ...]
  train: Split
  test: Split | None
  val: Split | None
  fingerprint: str
