"""Data sets of tfds that a split file divides anew."""

from collections.abc import Mapping, Sequence
import os
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from decern_jax.data import tfds_builder
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.decoding import decode_image
from decern_jax.data.split_file import ListedImage, SplitFile, read_split_file
from decern_jax.data.tfds_source import hex_digest
from decern_jax.io.validation import shorten


class _Place(NamedTuple):
  """Where an image is in tfds, and its length in bytes."""

  source: Sequence[Mapping[str, Any]]
  position: int
  size: int


def load_tfds_resplit(
  name: str,
  split_file: str | os.PathLike[str],
  *,
  data_dir: str | os.PathLike[str] | None = None,
  splits: Sequence[str] = ("train", "test"),
  image_key: str = "image",
  label_key: str = "label",
  file_key: str,
  num_classes: int | None = None,
  num_examples: Mapping[str, int] | None = None,
) -> Dataset:
  """Opens a data set of tfds whose parts and classes a split file lists.

  An image of the file is that of tfds with the same file name, whose class has
  the name of its folder, in whatever case. The splits of tfds are searched
  together: which image is in which of them does not matter, so that it may
  differ between machines. Labels, class names and order are those of the file.
  Ids are "<part>/<path>": "train/pagoda/image_0002.jpg".

  Args:
    name: Name in tfds: "caltech101".
    split_file: The file, in the format of `read_split_file`.
    data_dir: Where tfds keeps prepared data; None for its default.
    splits: Splits of tfds that hold the images.
    image_key: Feature that holds the image.
    label_key: Feature that holds the class, named after the folder.
    file_key: Feature that holds the name of the image's file.
    num_classes: Expected number of classes of the file, or None.
    num_examples: Expected number of images of "train" and "test", if known.

  Returns:
    The data set, without a part `val`.

  Raises:
    ValueError: If the file is malformed or of another size than is expected,
      the data cannot be opened, two images have the same name, or an image of
      the file is not among them.
  """
  listed = read_split_file(split_file)
  _check_sizes(split_file, listed, num_classes, num_examples or {})
  builder = tfds_builder.open_builder(name, data_dir)
  sources = [tfds_builder.open_split(builder, split) for split in splits]
  tfds_builder.check_features(
    builder,
    {
      image_key: tfds.features.Image,
      label_key: tfds.features.ClassLabel,
      file_key: tfds.features.Text,
    },
  )
  places = _index(builder, sources, image_key, label_key, file_key)
  _check_all_found(split_file, builder, listed, places)
  parts = {
    part: _make_split(part, images, places, image_key)
    for part, images in listed.parts.items()
  }
  digests = [digest for _, digest in parts.values()]
  return Dataset(
    name=builder.info.name,
    class_names=listed.class_names,
    train=parts["train"][0],
    test=parts["test"][0],
    val=None,
    fingerprint=hex_digest([builder.info.full_name, *digests]),
  )


def _check_sizes(
  split_file: str | os.PathLike[str],
  listed: SplitFile,
  num_classes: int | None,
  num_examples: Mapping[str, int],
) -> None:
  """Refuses a split of other sizes than the published one."""
  if num_classes is not None and len(listed.class_names) != num_classes:
    raise ValueError(
      f"Expected {num_classes} classes in {split_file}, got "
      f"{len(listed.class_names)}."
    )
  for part, expected in num_examples.items():
    if len(listed.parts[part]) != expected:
      raise ValueError(
        f"Expected {expected} images of {part!r} in {split_file}, got "
        f"{len(listed.parts[part])}."
      )


def _index(
  builder: tfds.core.DatasetBuilder,
  sources: Sequence[Sequence[Mapping[str, Any]]],
  image_key: str,
  label_key: str,
  file_key: str,
) -> dict[tuple[str, str], _Place]:
  """Finds every image of tfds by its `ListedImage.key`."""
  folders = [name.lower() for name in builder.info.features[label_key].names]
  places = {}
  for source in sources:
    for position in range(len(source)):
      example = source[position]
      file_name = os.fsdecode(example[file_key])  # tfds gives bytes
      key = folders[example[label_key]], file_name
      if key in places:
        raise ValueError(
          f"Expected every image once in {builder.info.full_name}, got "
          f"{'/'.join(key)} twice."
        )
      places[key] = _Place(source, position, len(example[image_key]))
  return places


def _check_all_found(
  split_file: str | os.PathLike[str],
  builder: tfds.core.DatasetBuilder,
  listed: SplitFile,
  places: Mapping[tuple[str, str], _Place],
) -> None:
  """Refuses a split file that lists images which tfds does not have."""
  images = [image for part in listed.parts.values() for image in part]
  missing = [image.path for image in images if image.key not in places]
  if missing:
    raise ValueError(
      f"Expected every image of {split_file} in {builder.info.full_name}, got "
      f"none for {len(missing)} of {len(images)}: {shorten(missing)}."
    )


def _make_split(
  part: str,
  images: Sequence[ListedImage],
  places: Mapping[tuple[str, str], _Place],
  image_key: str,
) -> tuple[Split, str]:
  """Returns the split and a digest of its images."""
  found = [places[image.key] for image in images]

  def read(position: int) -> np.ndarray:
    place = found[position]
    return decode_image(place.source[place.position][image_key])

  ids = tuple(f"{part}/{image.path}" for image in images)
  labels = np.array([image.label for image in images], np.int32)
  sizes = np.array([place.size for place in found], np.int64)
  digest = hex_digest([part, *map(os.fsencode, ids), sizes.tobytes()])
  return Split(ids=ids, labels=labels, read=read), digest
