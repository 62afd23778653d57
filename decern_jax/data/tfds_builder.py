"""Data sets of tfds: found, checked and opened without TensorFlow."""

from collections.abc import Mapping, Sequence
import os
import shlex

import tensorflow_datasets as tfds

FILE_FORMAT = "array_record"
"""The one format of tfds that is read at random positions without TensorFlow
and without loss: of 300 examples written as parquet, tfds 4.9.10 reads 200."""


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


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
  """Says whether a data set is there, in whatever format.

  The method of that name of tfds looks for the same file, but logs a warning
  where there is none.

  Args:
    builder: The builder of the data set.
  """
  info_file = builder.data_path / tfds.core.constants.DATASET_INFO_FILENAME
  return info_file.exists()


def check_prepared(builder: tfds.core.DatasetBuilder) -> None:
  """Checks that a data set is there and can be read.

  Args:
    builder: The builder of the data set.

  Raises:
    ValueError: If it is not prepared, or in another format than `FILE_FORMAT`;
      tells what to do.
  """
  if not is_prepared(builder):
    raise ValueError(
      f"Expected prepared data in {builder.data_path}, got none. To download "
      f"and prepare them: pip install 'decern_jax[prepare]' && "
      f"{_prepare_command(builder)}"
    )
  formats = [fmt.value for fmt in builder.info.available_file_formats()]
  if FILE_FORMAT not in formats:
    raise ValueError(
      f"Expected {FILE_FORMAT} files in {builder.data_path}, got "
      f"{sorted(formats)}. Move them away or choose another folder, then "
      f"prepare them again: pip install 'decern_jax[prepare]' && "
      f"{_prepare_command(builder)}"
    )


def open_split(
  builder: tfds.core.DatasetBuilder, split: str
) -> Sequence[Mapping[str, object]]:
  """Opens a split; images stay encoded.

  Args:
    builder: The builder of the data set.
    split: Name of the split, or a part of one ("train[:90%]").

  Returns:
    Its examples by position, each a mapping from features to values; may be
    read by several threads.

  Raises:
    ValueError: If the data are not prepared, in another format than
      `FILE_FORMAT`, or lack the split.
  """
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


def check_features(
  builder: tfds.core.DatasetBuilder, kinds: Mapping[str, type]
) -> None:
  """Checks that the examples of a data set hold what is to be read.

  Args:
    builder: The builder of the data set.
    kinds: Type of each feature that is needed, by its key.

  Raises:
    ValueError: If a feature is missing or of another type.
  """
  features = dict(builder.info.features.items())
  for key, kind in kinds.items():
    if not isinstance(features.get(key), kind):
      raise ValueError(
        f"Expected feature {key!r} of {builder.name} to be of type "
        f"{kind.__name__}, got {type(features.get(key)).__name__} among "
        f"{sorted(features)}."
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


def check_counts(
  builder: tfds.core.DatasetBuilder,
  class_names: Sequence[str],
  num_classes: int | None,
  num_examples: Mapping[str, int],
) -> None:
  """Refuses data of other sizes than the published ones.

  Args:
    builder: The data set.
    class_names: Its classes.
    num_classes: Expected number of classes, or None.
    num_examples: Expected number of examples by split, compared with the record
      of the preparation, where there is one.

  Raises:
    ValueError: If a number differs; shows both.
  """
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
