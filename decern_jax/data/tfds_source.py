"""Data sets that tfds has prepared as array_record, read without TensorFlow."""

from collections.abc import Iterable, Mapping, Sequence
import hashlib
import os

import numpy as np
import tensorflow_datasets as tfds

from decern_jax.data import tfds_builder
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.decoding import decode_image


def load_tfds(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  train_split: str = "train",
  test_split: str = "test",
  val_split: str | None = None,
  image_key: str = "image",
  label_key: str = "label",
  num_classes: int | None = None,
  num_examples: Mapping[str, int] | None = None,
) -> Dataset:
  """Opens a data set of tfds that `python -m decern_jax.prepare` has written.

  Nothing is downloaded. The examples are read once for their labels; images
  are decoded when they are asked for. Ids are "<split>/<position>": tfds
  shuffles the examples when it writes them, in an order that their keys alone
  determine, so that positions are the same wherever the same version of the
  data set was prepared.

  Args:
    name: Name in tfds, with its config if it has one: "food101".
    data_dir: Where tfds keeps prepared data; None for its default.
    train_split: Split, or part of one ("train[:90%]"), that labels are bought
      from.
    test_split: Split that accuracy is reported on.
    val_split: Split of further held-out examples, or None.
    image_key: Feature that holds the image.
    label_key: Feature that holds the class.
    num_classes: Expected number of classes, or None.
    num_examples: Expected number of examples of each split that is named. It is
      compared with the record of the preparation, where there is one.

  Returns:
    The data set.

  Raises:
    ValueError: If the data are unknown, not prepared, in another format, lack a
      split or a feature, have a label outside the classes, or differ in number
      from what is expected.
  """
  builder = tfds_builder.open_builder(name, data_dir)
  splits = [train_split, test_split] + ([val_split] if val_split else [])
  sources = [tfds_builder.open_split(builder, split) for split in splits]
  tfds_builder.check_features(
    builder,
    {image_key: tfds.features.Image, label_key: tfds.features.ClassLabel},
  )
  class_names = tuple(builder.info.features[label_key].names)
  tfds_builder.check_counts(
    builder, class_names, num_classes, num_examples or {}
  )
  parts = [
    _make_split(split, source, len(class_names), image_key, label_key)
    for split, source in zip(splits, sources, strict=True)
  ]
  digests = [digest for _, digest in parts]
  return Dataset(
    name=builder.info.name,
    class_names=class_names,
    train=parts[0][0],
    test=parts[1][0],
    val=parts[2][0] if val_split else None,
    fingerprint=hex_digest([builder.info.full_name, *digests]),
  )


def _make_split(
  name: str,
  source: Sequence[Mapping[str, object]],
  num_classes: int,
  image_key: str,
  label_key: str,
) -> tuple[Split, str]:
  """Reads the labels; returns the split and a digest of its examples."""
  labels = np.empty(len(source), np.int32)
  sizes = np.empty(len(source), np.int64)
  for position in range(len(source)):
    example = source[position]
    labels[position] = example[label_key]
    sizes[position] = len(example[image_key])
  outside = labels[(labels < 0) | (labels >= num_classes)]
  if outside.size:
    raise ValueError(
      f"Expected labels in [0, {num_classes}) in split {name!r}, "
      f"got {outside[0]}."
    )
  split = Split(
    ids=tuple(f"{name}/{position:08d}" for position in range(len(source))),
    labels=labels,
    read=lambda position: decode_image(source[position][image_key]),
  )
  return split, hex_digest([name, labels.tobytes(), sizes.tobytes()])


def hex_digest(parts: Iterable[str | bytes]) -> str:
  """Returns one hex digest of several parts, whatever their lengths."""
  hasher = hashlib.sha256()
  for part in parts:
    part = part.encode() if isinstance(part, str) else part
    hasher.update(len(part).to_bytes(8, "little") + part)
  return hasher.hexdigest()
