"""Data sets of tfds: found, checked and opened without TensorFlow."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import hashlib
import os
import shlex
from typing import TYPE_CHECKING, Any, cast

from decern_jax.io import extras

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

Example = Mapping[str, Any]

FILE_FORMAT = "array_record"
"""The only format of tfds that is read in any order, without TensorFlow, and
without loss: of 300 examples written as parquet, tfds 4.9.10 reads 200."""


class NotPreparedError(ValueError):
  """A data set of tfds that is not prepared; the message shows how to."""


def open_builder(
  name: str, data_dir: str | os.PathLike[str] | None
) -> "tfds.core.DatasetBuilder":
  """Finds a data set in tfds, whether it is prepared or not.

  Args:
    name: Name in tfds.
    data_dir: Where tfds keeps prepared data; None for its default.

  Raises:
    ValueError: If tfds does not know the name, or is not installed.
  """
  with extras.needed("tfds", f"The data set {name}"):
    import tensorflow_datasets as tfds

  try:
    return tfds.builder(name, data_dir=data_dir)
  except tfds.core.DatasetNotFoundError:  # lists more than a thousand names
    raise ValueError(
      f"Expected the name of a data set of tfds, got {name!r}; "
      "https://www.tensorflow.org/datasets/catalog lists them."
    ) from None


def is_prepared(builder: "tfds.core.DatasetBuilder") -> bool:
  """Returns whether a data set is prepared, in any format.

  The method of this name of tfds looks for the same file, but logs a warning if
  there is none.
  """
  from tensorflow_datasets.core import constants

  info_file = builder.data_path / constants.DATASET_INFO_FILENAME
  return info_file.exists()


def check_prepared(builder: "tfds.core.DatasetBuilder") -> None:
  """Checks that a data set is prepared and can be read.

  Raises:
    NotPreparedError: If it is not prepared.
    ValueError: If it is in another format than `FILE_FORMAT`. Both messages
      show what to do.
  """
  if not is_prepared(builder):
    raise NotPreparedError(
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
  builder: "tfds.core.DatasetBuilder", split: str
) -> Sequence[Example]:
  """Opens a split; images stay encoded.

  Args:
    builder: The builder of the data set.
    split: Name of the split, or a slice of one ("train[:90%]").

  Returns:
    Its examples, each a mapping from features to values. Several threads may
    read them.

  Raises:
    ValueError: If the data are not prepared, in another format than
      `FILE_FORMAT`, or lack the split.
  """
  import tensorflow_datasets as tfds

  decoders = {
    key: tfds.decode.SkipDecoding()
    for key, feature in features_of(builder).items()
    if isinstance(feature, tfds.features.Image)
  }
  try:
    # Its decorator hides the arguments.
    return cast(Any, builder).as_data_source(
      split, decoders=decoders, file_format=FILE_FORMAT
    )
  except (NotImplementedError, ValueError) as error:
    check_prepared(builder)
    raise ValueError(
      f"Expected a split among {sorted(builder.info.splits)}, got {split!r}."
    ) from error


def features_of(builder: "tfds.core.DatasetBuilder") -> dict[str, Any]:
  """Returns the features of a data set by their keys."""
  return dict(cast(Any, builder.info.features).items())


def check_features(
  builder: "tfds.core.DatasetBuilder", kinds: Mapping[str, str]
) -> None:
  """Checks that the examples of a data set have the features that are read.

  Args:
    builder: The builder of the data set.
    kinds: Name of the type in `tfds.features` of each feature, by its key.

  Raises:
    ValueError: If a feature is missing or of another type.
  """
  import tensorflow_datasets as tfds

  features = features_of(builder)
  for key, kind in kinds.items():
    if not isinstance(features.get(key), getattr(tfds.features, kind)):
      raise ValueError(
        f"Expected feature {key!r} of {builder.name} to be of type "
        f"{kind}, got {type(features.get(key)).__name__} among "
        f"{sorted(features)}."
      )


def _prepare_command(builder: "tfds.core.DatasetBuilder") -> str:
  """Returns the command that prepares the data in the folder of the builder."""
  from tensorflow_datasets.core import constants

  command = ["decern-jax", "prepare", _name_of(builder)]
  data_dir = os.fspath(builder.data_dir_root)
  if data_dir != os.path.expanduser(constants.DATA_DIR):
    command.append(f"--data_dir={data_dir}")
  return shlex.join(command)


def _name_of(builder: "tfds.core.DatasetBuilder") -> str:
  """Returns the name, with that of the config if there is one."""
  config = builder.builder_config
  return f"{builder.name}/{config.name}" if config else builder.name


def check_counts(
  builder: "tfds.core.DatasetBuilder",
  class_names: Sequence[str],
  num_classes: int | None,
  num_examples: Mapping[str, int],
) -> None:
  """Checks that the data have the published sizes.

  Args:
    builder: The builder of the data set.
    class_names: Its classes.
    num_classes: Expected number of classes, or None.
    num_examples: Expected number of examples by split. It is compared with the
      record of the preparation, if there is one.

  Raises:
    ValueError: If a number differs. The message shows both.
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


def hex_digest(parts: Iterable[str | bytes]) -> str:
  """Returns a hex digest of several strings, which depends on their lengths."""
  hasher = hashlib.sha256()
  for part in parts:
    part = part.encode() if isinstance(part, str) else part
    hasher.update(len(part).to_bytes(8, "little") + part)
  return hasher.hexdigest()


@dataclasses.dataclass(frozen=True)
class Place:
  """Where an image is in tfds.

  Attributes:
    split: The split that holds it.
    index: Its index in the split.
    size: Its length in bytes.
  """

  split: Sequence[Example]
  index: int
  size: int


def index_images(
  builder: "tfds.core.DatasetBuilder",
  splits: Sequence[Sequence[Example]],
  image_key: str,
  key_of: Callable[[Example], str],
) -> dict[str, Place]:
  """Finds every image of several splits by a key.

  Args:
    builder: The builder of the data set.
    splits: The splits, as `open_split` opens them.
    image_key: Feature that holds the image.
    key_of: Returns the key of an example.

  Raises:
    ValueError: If two images have the same key.
  """
  places = {}
  for split in splits:
    for index in range(len(split)):
      example = split[index]
      key = key_of(example)
      if key in places:
        raise ValueError(
          f"Expected every image once in {builder.info.full_name}, got {key} "
          "twice."
        )
      places[key] = Place(split, index, len(example[image_key]))
  return places
