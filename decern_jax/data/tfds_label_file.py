"""Data sets of tfds whose labels are in a table of their own."""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from decern_jax.data import tfds_builder
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.decoding import decode_image
from decern_jax.data.label_columns import Columns
from decern_jax.data.label_parts import PARTS, find_parts
from decern_jax.data.label_table import LabelTable, read_label_table
from decern_jax.data.tfds_source import hex_digest
from decern_jax.io.validation import shorten


class _Place(NamedTuple):
  """Where an image is in tfds, and its length in bytes."""

  source: Sequence[Mapping[str, Any]]
  position: int
  size: int


def load_tfds_label_file(
  name: str,
  label_file: str | os.PathLike[str],
  *,
  data_dir: str | os.PathLike[str] | None = None,
  splits: Sequence[str] = ("train",),
  image_key: str = "image",
  file_key: str = "filename",
  columns: Columns | None = None,
  is_multi_label: bool | None = None,
  test_share: float = 0.2,
  split_seed: int = 0,
  num_classes: int | None = None,
  num_examples: int | None = None,
) -> Dataset:
  """Opens images of tfds with the labels of a table, `read_label_table`'s.

  So UC Merced gets the 17 labels of land cover that Chaudhuri et al. gave its
  images, in the file that they publish. An image of the table is that of tfds
  whose file has the same name, in whatever case and with whatever ending. The
  splits of tfds are searched together. Ids are the names in the table.

  Args:
    name: Name in tfds: "uc_merced".
    label_file: The table; its paths are names of files.
    data_dir: Where tfds keeps prepared data; None for its default.
    splits: Splits of tfds that hold the images.
    image_key: Feature that holds the image.
    file_key: Feature that holds the name of the image's file.
    columns: Which column of the table holds what, as far as the names do not
      tell.
    is_multi_label: As for `read_label_table`.
    test_share: Share of the images that are drawn for the test part, where no
      column of the table tells the parts; see
      `label_parts.random_parts`.
    split_seed: Seed of that draw.
    num_classes: Expected number of labels, or None.
    num_examples: Expected number of images in the table, or None.

  Returns:
    The data set.

  Raises:
    ValueError: If the table or the data are not as expected, two images have
      the same name, one of the table is not in tfds, or a part is empty.

  References:
    Chaudhuri, Demir, Chaudhuri and Bruzzone, "Multilabel Remote Sensing Image
    Retrieval Using a Semisupervised Graph-Theoretic Method", IEEE TGRS 2018.
  """
  table = read_label_table(
    label_file, columns=columns, is_multi_label=is_multi_label
  )
  _check_sizes(label_file, table, num_classes, num_examples)
  builder = tfds_builder.open_builder(name, data_dir)
  sources = [tfds_builder.open_split(builder, split) for split in splits]
  tfds_builder.check_features(
    builder, {image_key: tfds.features.Image, file_key: tfds.features.Text}
  )
  places = _find(label_file, builder, table, sources, image_key, file_key)
  parts = find_parts(
    label_file, table, test_share=test_share, split_seed=split_seed
  )
  made = {
    part: _make_split(table, places, np.flatnonzero(parts == part), image_key)
    for part in PARTS
  }
  sizes = np.array([place.size for place in places], np.int64)
  content = [builder.info.full_name, *table.paths, *parts, sizes.tobytes()]
  return Dataset(
    name=builder.info.name,
    class_names=table.class_names,
    train=made["train"],
    test=made["test"],
    val=made["val"] if len(made["val"].ids) else None,
    fingerprint=hex_digest(content),
  )


def _check_sizes(
  label_file: str | os.PathLike[str],
  table: LabelTable,
  num_classes: int | None,
  num_examples: int | None,
) -> None:
  """Refuses a table of another size than the published one."""
  for what, expected, found in (
    ("labels", num_classes, len(table.class_names)),
    ("images", num_examples, len(table.paths)),
  ):
    if expected is not None and found != expected:
      raise ValueError(
        f"Expected {expected} {what} in {label_file}, got {found}."
      )


def _key(name: str) -> str:
  """Returns what tells the images apart: the name without folder and ending."""
  return pathlib.PurePosixPath(name).stem.lower()


def _find(
  label_file: str | os.PathLike[str],
  builder: tfds.core.DatasetBuilder,
  table: LabelTable,
  sources: Sequence[Sequence[Mapping[str, Any]]],
  image_key: str,
  file_key: str,
) -> list[_Place]:
  """Returns where each image of the table is in tfds."""
  places = {}
  for source in sources:
    for position in range(len(source)):
      example = source[position]
      key = _key(os.fsdecode(example[file_key]))  # tfds gives bytes
      if key in places:
        raise ValueError(
          f"Expected every image once in {builder.info.full_name}, got {key} "
          "twice."
        )
      places[key] = _Place(source, position, len(example[image_key]))
  missing = [
    f"{path} (row {row})"
    for path, row in zip(table.paths, table.rows, strict=True)
    if _key(path) not in places
  ]
  if missing:
    raise ValueError(
      f"Expected every image of {label_file} in {builder.info.full_name}, got "
      f"none for {len(missing)} of {len(table.paths)}: {shorten(missing)}."
    )
  return [places[_key(path)] for path in table.paths]


def _make_split(
  table: LabelTable,
  places: Sequence[_Place],
  rows: np.ndarray,
  image_key: str,
) -> Split:
  """Returns the examples at some rows of the table."""

  def read(position: int) -> np.ndarray:
    place = places[rows[position]]
    return decode_image(place.source[place.position][image_key])

  return Split(
    ids=tuple(table.paths[row] for row in rows),
    labels=table.labels[rows],
    read=read,
  )
