"""Data sets that tfds has prepared as array_record, read without TensorFlow."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
from typing import TYPE_CHECKING

import cv2
from jaxtyping import Int
import numpy as np

from decern_jax.data import decoding, tfds_builder
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.decoding import BandRange, decode_image
from decern_jax.data.registry import Options, Source, register
from decern_jax.data.tfds_builder import Example, hex_digest

if TYPE_CHECKING:
  import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class _Reader:
  """The functions that read an example.

  Attributes:
    class_names: Name of each label.
    read_labels: Returns the label of an example, or the labels, int32
      [classes], 0 or 1.
    read_image: Returns the image, uint8 [height, width, channels].
    size_of: Returns a number that tells most images apart, without decoding
      them.
  """

  class_names: tuple[str, ...]
  read_labels: Callable[[Example], int | np.ndarray]
  read_image: Callable[[Example], np.ndarray]
  size_of: Callable[[Example], int]


def load_tfds(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  train_split: str = "train",
  test_split: str = "test",
  val_split: str | None = None,
  image_keys: Sequence[str] = ("image",),
  band_range: BandRange | None = None,
  label_key: str = "label",
  num_classes: int | None = None,
  num_examples: Mapping[str, int] | None = None,
) -> Dataset:
  """Opens a data set of tfds that `decern-jax prepare` has written.

  Nothing is downloaded. The examples are read once for their labels; images
  are decoded when they are read. Ids are "<split>/<index>": tfds shuffles the
  examples when it writes them, in an order that only their keys determine, so
  that the indices are the same wherever this version of the data set was
  prepared.

  Args:
    name: Name in tfds, with its config if it has one: "bigearthnet/rgb".
    data_dir: Where tfds keeps prepared data; None for its default.
    train_split: Split of the pool, or a slice of one ("train[:90%]").
    test_split: Split, or slice of one, that metrics are reported on.
    val_split: Split of further held-out examples, or None.
    image_keys: The feature that holds the image; or the features that hold one
      band each, in this order. Smaller bands are enlarged to the largest.
    band_range: Values of the bands that become 0 and 255, see
      `decoding.scale_bands`; None if one feature holds the image.
    label_key: Feature that holds the class; or, where an example may have
      several labels, a sequence of classes or a vector of 0 and 1 per label.
    num_classes: Expected number of classes, or None.
    num_examples: Expected number of examples by split. It is compared with the
      record of the preparation, if there is one.

  Returns:
    The data set. Several labels per example are int32 [examples, classes], 0 or
    1; those of a vector are named "0", "1", ...

  Raises:
    ValueError: If the data are unknown, not prepared, in another format, lack a
      split or a feature, have a label outside the classes, or differ in number
      from what is expected.
  """
  builder = tfds_builder.open_builder(name, data_dir)
  splits = [
    (split, tfds_builder.open_split(builder, split))
    for split in (train_split, test_split, val_split)
    if split
  ]
  reader = _make_reader(builder, image_keys, band_range, label_key)
  tfds_builder.check_counts(
    builder, reader.class_names, num_classes, num_examples or {}
  )
  made = [_make_split(split, examples, reader) for split, examples in splits]
  content = [
    builder.info.full_name,
    repr((tuple(image_keys), band_range)),
    *(digest for _, digest in made),
  ]
  return Dataset(
    name=builder.info.name,
    class_names=reader.class_names,
    train=made[0][0],
    test=made[1][0],
    val=made[2][0] if val_split else None,
    fingerprint=hex_digest(content),
  )


def _make_split(
  name: str, source: Sequence[Example], reader: _Reader
) -> tuple[Split, str]:
  """Reads the labels; returns the split and a digest of its examples."""
  labels, sizes = [], np.zeros(len(source), np.int64)
  for index in range(len(source)):
    example = source[index]
    sizes[index] = reader.size_of(example)
    try:
      labels.append(reader.read_labels(example))
    except ValueError as error:
      raise ValueError(f"{error} At position {index} of split {name!r}.") from (
        error
      )
  labels = np.array(labels, np.int32)
  split = Split(
    ids=tuple(f"{name}/{index:08d}" for index in range(len(source))),
    labels=labels,
    read=lambda index: reader.read_image(source[index]),
  )
  return split, hex_digest([name, labels.tobytes(), sizes.tobytes()])


def _check_label(label: int, num_classes: int) -> int:
  """Checks the range of a class."""
  if not 0 <= label < num_classes:
    raise ValueError(f"Expected labels in [0, {num_classes}), got {label}.")
  return int(label)


def _make_reader(
  builder: "tfds.core.DatasetBuilder",
  image_keys: Sequence[str],
  band_range: BandRange | None,
  label_key: str,
) -> _Reader:
  """Checks the features and returns the functions that read them."""
  class_names, read_labels = _label_reader(builder, label_key)
  keys = tuple(image_keys)
  if band_range is None:
    if len(keys) != 1:
      raise ValueError(
        f"Expected `band_range`, what becomes 0 and 255 of the bands "
        f"{list(keys)}, got None. Set `config.dataset.band_range`."
      )
    tfds_builder.check_features(builder, {keys[0]: "Image"})
    return _Reader(
      class_names,
      read_labels,
      lambda example: decode_image(example[keys[0]]),
      lambda example: len(example[keys[0]]),
    )
  tfds_builder.check_features(builder, dict.fromkeys(keys, "Tensor"))
  decoding.check_band_range(band_range, num_bands=len(keys))
  return _Reader(
    class_names,
    read_labels,
    lambda example: stack_bands([example[key] for key in keys], band_range),
    lambda example: int(np.size(example[keys[0]])),
  )


def _label_reader(
  builder: "tfds.core.DatasetBuilder", key: str
) -> tuple[tuple[str, ...], Callable[[Example], int | np.ndarray]]:
  """Returns the names of the labels, and the function that reads them."""
  import tensorflow_datasets as tfds

  feature = tfds_builder.features_of(builder).get(key)
  if isinstance(feature, tfds.features.ClassLabel):
    names = tuple(feature.names)
    return names, lambda example: _check_label(example[key], len(names))
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
    f"Expected feature {key!r} of {builder.name} to be a class, a sequence of "
    f"classes or a vector with an entry per label, got {feature} among "
    f"{sorted(tfds_builder.features_of(builder))}."
  )


def multi_hot(
  classes: Sequence[int], num_classes: int
) -> Int[np.ndarray, " classes"]:
  """Converts classes to a vector with an entry per class.

  Args:
    classes: Each in [0, num_classes).
    num_classes: Number of classes.

  Returns:
    int32 [num_classes], 1 at the classes, else 0.

  Raises:
    ValueError: If a class is outside the range.
  """
  found = np.asarray(classes, np.int64)
  outside = found[(found < 0) | (found >= num_classes)]
  if outside.size:
    raise ValueError(
      f"Expected labels in [0, {num_classes}), got {outside[0]}."
    )
  labels = np.zeros(num_classes, np.int32)
  labels[found] = 1
  return labels


def _check_vector(values: np.ndarray, num_classes: int) -> np.ndarray:
  """Checks a vector of 0 and 1, and returns it as int32."""
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
  """Stacks bands of several resolutions to one image.

  Args:
    bands: Each [height, width], of any type of number. The image has the size
      of the largest.
    band_range: Values that become 0 and 255, see `decoding.scale_bands`.

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
  return decoding.scale_bands(np.stack(bands, axis=-1), band_range=band_range)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _BigEarthNet(Source):
  """BigEarthNet, whose only split is sliced: several labels per image."""

  num_classes: int | None = 43
  image_keys: tuple[str, ...] = ("image",)
  band_range: BandRange | None = None

  def load(self, options: Options) -> Dataset:
    return load_tfds(
      self.tfds_name,
      data_dir=options.path,
      train_split="train[:60%]",
      val_split="train[60%:80%]",
      test_split="train[80%:]",
      image_keys=self.image_keys,
      band_range=self.band_range,
      label_key="labels",
      num_classes=self.num_classes,
    )


register("bigearthnet", _BigEarthNet(tfds_name="bigearthnet/rgb"))
register(
  "bigearthnet_all",
  _BigEarthNet(
    tfds_name="bigearthnet/all",
    image_keys=(
      *("B01", "B02", "B03", "B04", "B05", "B06"),
      *("B07", "B08", "B8A", "B09", "B11", "B12"),
    ),
    # This project's choice; tfds clips the colors at 2000.
    band_range=(0.0, 4000.0),
  ),
)
