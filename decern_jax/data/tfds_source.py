"""Data sets that tfds has prepared as array_record, read without TensorFlow."""

from collections.abc import Iterable, Mapping, Sequence
import hashlib
import os
import shlex

import numpy as np
import tensorflow_datasets as tfds

from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.decoding import decode_image

FILE_FORMAT = "array_record"
"""The one format of tfds that is read at random positions without TensorFlow
and without loss: of 300 examples written as parquet, tfds 4.9.10 reads 200."""


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
  builder = open_builder(name, data_dir)
  splits = [train_split, test_split] + ([val_split] if val_split else [])
  sources = [_open_split(builder, split) for split in splits]
  class_names = _class_names(builder, image_key, label_key)
  _check_counts(builder, class_names, num_classes, num_examples or {})
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
    fingerprint=_hex_digest([builder.info.full_name, *digests]),
  )


def open_builder(
  name: str, data_dir: str | os.PathLike[str] | None
) -> tfds.core.DatasetBuilder:
  """Finds a data set in tfds, whether it is prepared or not.

  Args:
    name: Name in tfds.
    data_dir: Where tfds keeps prepared data; None for its default.

  Returns:
    Its builder.

  Raises:
    ValueError: If tfds does not know the name.
  """
  try:
    return tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError:  # lists more than a thousand names
    raise ValueError(
      f"Expected the name of a data set of tfds, got {name!r}; "
      "https://www.tensorflow.org/datasets/catalog lists them."
    ) from None


def check_prepared(builder: tfds.core.DatasetBuilder) -> None:
  """Checks that a data set is there and can be read.

  Args:
    builder: The builder of the data set.

  Raises:
    ValueError: If it is not prepared, or in another format than `FILE_FORMAT`;
      tells what to do.
  """
  if not builder.is_prepared():
    raise ValueError(
      f"Expected prepared data in {builder.data_path}, got none. To download "
      f"and prepare them: pip install 'decern_jax[prepare]' && "
      f"{_prepare_command(builder)}"
    )
  formats = [fmt.value for fmt in builder.info.available_file_formats()]
  if FILE_FORMAT not in formats:
    raise ValueError(
      f"Expected {FILE_FORMAT} files in {builder.data_path}, got "
      f"{sorted(formats)}. Move them away or choose another `data_dir`, then "
      f"prepare them again: pip install 'decern_jax[prepare]' && "
      f"{_prepare_command(builder)}"
    )


def _prepare_command(builder: tfds.core.DatasetBuilder) -> str:
  """Returns the command that prepares the data where they are looked for."""
  command = ["python", "-m", "decern_jax.prepare", _name_of(builder)]
  data_dir = os.fspath(builder.data_dir_root)
  if data_dir != os.path.expanduser(tfds.core.constants.DATA_DIR):
    command.append(f"--data_dir={data_dir}")
  return shlex.join(command)


def _name_of(builder: tfds.core.DatasetBuilder) -> str:
  """Returns the name, with the config if there is one."""
  config = builder.builder_config
  return f"{builder.name}/{config.name}" if config else builder.name


def _open_split(
  builder: tfds.core.DatasetBuilder, split: str
) -> Sequence[Mapping[str, object]]:
  """Opens a split; images stay encoded."""
  decoders = {
    key: tfds.decode.SkipDecoding()
    for key, feature in builder.info.features.items()
    if isinstance(feature, tfds.features.Image)
  }
  try:
    return builder.as_data_source(
      split, decoders=decoders, file_format=FILE_FORMAT
    )
  except (NotImplementedError, ValueError) as error:
    check_prepared(builder)
    raise ValueError(
      f"Expected a split among {sorted(builder.info.splits)}, got {split!r}."
    ) from error


def _class_names(
  builder: tfds.core.DatasetBuilder, image_key: str, label_key: str
) -> tuple[str, ...]:
  """Returns the class names, after checking that the features are there."""
  features = dict(builder.info.features.items())
  for key, kind in (
    (image_key, tfds.features.Image),
    (label_key, tfds.features.ClassLabel),
  ):
    if not isinstance(features.get(key), kind):
      raise ValueError(
        f"Expected feature {key!r} of {builder.name} to be of type "
        f"{kind.__name__}, got {type(features.get(key)).__name__} among "
        f"{sorted(features)}."
      )
  return tuple(features[label_key].names)


def _check_counts(
  builder: tfds.core.DatasetBuilder,
  class_names: Sequence[str],
  num_classes: int | None,
  num_examples: Mapping[str, int],
) -> None:
  """Refuses data of other sizes than the published ones."""
  if num_classes is not None and len(class_names) != num_classes:
    raise ValueError(
      f"Expected {num_classes} classes in {builder.info.full_name}, got "
      f"{len(class_names)}."
    )
  recorded = builder.info.splits  # empty for the mock data of tfds.testing
  for split, expected in num_examples.items() if recorded else ():
    if recorded[split].num_examples != expected:
      raise ValueError(
        f"Expected {expected} examples in split {split!r} of "
        f"{builder.info.full_name}, got {recorded[split].num_examples}."
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
  return split, _hex_digest([name, labels.tobytes(), sizes.tobytes()])


def _hex_digest(parts: Iterable[str | bytes]) -> str:
  """Returns one digest of several parts, whatever their lengths."""
  hasher = hashlib.sha256()
  for part in parts:
    part = part.encode() if isinstance(part, str) else part
    hasher.update(len(part).to_bytes(8, "little") + part)
  return hasher.hexdigest()
