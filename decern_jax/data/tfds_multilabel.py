"""Data sets of tfds in which an image has several labels."""

from collections.abc import Callable, Mapping, Sequence
import os
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds

from decern_jax.data import band_image, tfds_builder
from decern_jax.data.band_image import BandRange
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.decoding import decode_image
from decern_jax.data.tfds_source import hex_digest

Example = Mapping[str, Any]


class _Reader(NamedTuple):
  """How an example is read.

  Attributes:
    class_names: Name of each label.
    read_labels: Gives its labels, int32 [classes], 0 or 1.
    read_image: Gives its image, uint8 [height, width, channels].
    size_of: Gives a number that tells images apart without decoding them.
  """

  class_names: tuple[str, ...]
  read_labels: Callable[[Example], np.ndarray]
  read_image: Callable[[Example], np.ndarray]
  size_of: Callable[[Example], int]


def load_tfds_multilabel(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  train_split: str = "train",
  test_split: str = "test",
  val_split: str | None = None,
  image_keys: Sequence[str] = ("image",),
  band_range: BandRange | None = None,
  label_key: str = "labels",
  num_classes: int | None = None,
  num_examples: Mapping[str, int] | None = None,
) -> Dataset:
  """Opens a data set of tfds with several labels per image.

  As `load_tfds` does, which see for the ids: nothing is downloaded, and the
  examples are read once for their labels. These are a sequence of classes, or a
  vector with an entry, 0 or 1, per label.

  Args:
    name: Name in tfds, with its config: "bigearthnet/rgb".
    data_dir: Where tfds keeps prepared data; None for its default.
    train_split: Split, or part of one ("train[:60%]"), that labels are bought
      from.
    test_split: Split, or part of one, that metrics are reported on.
    val_split: Split of further held-out examples, or None.
    image_keys: The feature that holds the image; or those that hold one band
      each, in this order: smaller bands are enlarged to the largest.
    band_range: What becomes 0 and 255 of the bands, see
      `band_image.scale_bands`; None where there is one image.
    label_key: Feature that holds the labels.
    num_classes: Expected number of labels, or None.
    num_examples: Expected number of examples of each split that is named,
      compared with the record of the preparation, where there is one.

  Returns:
    The data set; its labels are int32 [examples, classes], 0 or 1. The labels
    of a vector are named "0", "1", …

  Raises:
    ValueError: If the data are unknown, not prepared, in another format, lack a
      split or a feature, have a label outside the classes, or differ in number
      from what is expected.
  """
  builder = tfds_builder.open_builder(name, data_dir)
  splits = [train_split, test_split] + ([val_split] if val_split else [])
  sources = [tfds_builder.open_split(builder, split) for split in splits]
  reader = _make_reader(builder, image_keys, band_range, label_key)
  tfds_builder.check_counts(
    builder, reader.class_names, num_classes, num_examples or {}
  )
  parts = [
    _make_split(split, source, reader)
    for split, source in zip(splits, sources, strict=True)
  ]
  digests = [digest for _, digest in parts]
  content = [builder.info.full_name, repr((tuple(image_keys), band_range))]
  return Dataset(
    name=builder.info.name,
    class_names=reader.class_names,
    train=parts[0][0],
    test=parts[1][0],
    val=parts[2][0] if val_split else None,
    fingerprint=hex_digest([*content, *digests]),
  )


def _make_reader(
  builder: tfds.core.DatasetBuilder,
  image_keys: Sequence[str],
  band_range: BandRange | None,
  label_key: str,
) -> _Reader:
  """Checks the features and returns how to read them."""
  class_names, read_labels = _label_reader(builder, label_key)
  keys = tuple(image_keys)
  if band_range is None:
    if len(keys) != 1:
      raise ValueError(
        f"Expected `band_range`, what becomes 0 and 255 of the bands "
        f"{list(keys)}, got None. Set `config.dataset.band_range`."
      )
    tfds_builder.check_features(builder, {keys[0]: tfds.features.Image})
    return _Reader(
      class_names,
      read_labels,
      lambda example: decode_image(example[keys[0]]),
      lambda example: len(example[keys[0]]),
    )
  tfds_builder.check_features(
    builder, dict.fromkeys(keys, tfds.features.Tensor)
  )
  band_image.check_band_range(band_range, num_bands=len(keys))
  return _Reader(
    class_names,
    read_labels,
    lambda example: stack_bands([example[key] for key in keys], band_range),
    lambda example: int(np.size(example[keys[0]])),
  )


def _label_reader(
  builder: tfds.core.DatasetBuilder, key: str
) -> tuple[tuple[str, ...], Callable[[Example], np.ndarray]]:
  """Returns the names of the labels, and how to read them."""
  feature = dict(builder.info.features.items()).get(key)
  if isinstance(feature, tfds.features.Sequence):
    inner = feature.feature
    if isinstance(inner, tfds.features.ClassLabel):
      names = tuple(inner.names)
      return names, lambda example: multi_hot(example[key], len(names))
  shape = getattr(feature, "shape", None) or ()
  is_number = getattr(feature, "np_dtype", None) is not None
  if is_number and len(shape) == 1 and shape[0]:
    names = tuple(str(label) for label in range(shape[0]))
    return names, lambda example: _check_vector(example[key], len(names))
  raise ValueError(
    f"Expected feature {key!r} of {builder.name} to be a sequence of classes "
    f"or a vector with an entry per label, got {feature} among "
    f"{sorted(builder.info.features)}."
  )


def multi_hot(classes: Sequence[int], num_classes: int) -> np.ndarray:
  """Returns classes as a vector with an entry per class.

  Args:
    classes: Int [any number], each in [0, num_classes).
    num_classes: Number of classes.

  Returns:
    int32 [num_classes], 1 at the classes, else 0.

  Raises:
    ValueError: If a class is outside the range.
  """
  classes = np.asarray(classes, np.int64)
  outside = classes[(classes < 0) | (classes >= num_classes)]
  if outside.size:
    raise ValueError(
      f"Expected labels in [0, {num_classes}), got {outside[0]}."
    )
  labels = np.zeros(num_classes, np.int32)
  labels[classes] = 1
  return labels


def _check_vector(values: np.ndarray, num_classes: int) -> np.ndarray:
  """Returns a vector of 0 and 1 as int32."""
  values = np.asarray(values)
  if values.shape != (num_classes,):
    raise ValueError(f"Expected {num_classes} labels, got {values.shape}.")
  outside = values[(values != 0) & (values != 1)]
  if outside.size:
    raise ValueError(f"Expected labels 0 or 1, got {outside[0]}.")
  return values.astype(np.int32)


def stack_bands(
  bands: Sequence[np.ndarray], band_range: BandRange
) -> np.ndarray:
  """Puts bands of several resolutions into one image.

  Args:
    bands: Each [height, width], of any type of number; the first axis of the
      largest is the height of the image.
    band_range: What becomes 0 and 255, see `band_image.scale_bands`.

  Returns:
    uint8 [height, width, bands], smaller bands enlarged bilinearly.

  Raises:
    ValueError: If a value is not finite, or the range does not fit.
  """
  height, width = max((np.shape(band) for band in bands), key=np.prod)
  bands = [
    cv2.resize(
      np.asarray(band, np.float32),
      (width, height),
      interpolation=cv2.INTER_LINEAR,
    )
    for band in bands
  ]
  return band_image.scale_bands(np.stack(bands, axis=-1), band_range=band_range)


def _make_split(
  name: str, source: Sequence[Example], reader: _Reader
) -> tuple[Split, str]:
  """Reads the labels; returns the split and a digest of its examples."""
  labels = np.zeros((len(source), len(reader.class_names)), np.int32)
  sizes = np.zeros(len(source), np.int64)
  for position in range(len(source)):
    example = source[position]
    sizes[position] = reader.size_of(example)
    try:
      labels[position] = reader.read_labels(example)
    except ValueError as error:
      raise ValueError(
        f"{error} At position {position} of split {name!r}."
      ) from error
  split = Split(
    ids=tuple(f"{name}/{position:08d}" for position in range(len(source))),
    labels=labels,
    read=lambda position: reader.read_image(source[position]),
  )
  return split, hex_digest([name, labels.tobytes(), sizes.tobytes()])
