"""Images of tfds whose labels or splits are in a file of their own."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib

import numpy as np

from decern_jax.data import tfds_builder
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.decoding import decode_image
from decern_jax.data.label_table import (
  SPLITS,
  Columns,
  find_splits,
  read_label_table,
)
from decern_jax.data.registry import Options, Source, register
from decern_jax.data.split_file import SplitFile, read_split_file
from decern_jax.data.tfds_builder import (
  Example,
  Place,
  hex_digest,
  index_images,
)
from decern_jax.io.validation import shorten


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
  """Opens a data set of tfds whose splits and classes a split file lists.

  An image of the file is the image of tfds with the same file name, and with
  the name of the folder, in any case, as its class. It may be in any of the
  splits of tfds, which may differ between machines. Labels, class names and
  order are those of the file. Ids are "<split>/<path>":
  "train/pagoda/image_0002.jpg".

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
    The data set, without `val`.

  Raises:
    ValueError: If the file is malformed or of an unexpected size,
      the data cannot be opened, two images have the same name, or an image of
      the file is not among them.
  """
  listed = read_split_file(split_file)
  _check_split_sizes(split_file, listed, num_classes, num_examples or {})
  builder = tfds_builder.open_builder(name, data_dir)
  sources = [tfds_builder.open_split(builder, split) for split in splits]
  tfds_builder.check_features(
    builder, {image_key: "Image", label_key: "ClassLabel", file_key: "Text"}
  )
  folders = [
    name.lower() for name in tfds_builder.features_of(builder)[label_key].names
  ]

  def key_of(example: Example) -> str:
    # tfds gives bytes
    return f"{folders[example[label_key]]}/{os.fsdecode(example[file_key])}"

  places = index_images(builder, sources, image_key, key_of)
  images = [image for split in listed.splits.values() for image in split]
  _check_all_found(
    split_file,
    builder.info.full_name,
    [image.path for image in images if image.key not in places],
    len(images),
  )
  made, digests = {}, []
  for split, images in listed.splits.items():
    found = [places[image.key] for image in images]
    ids = tuple(f"{split}/{image.path}" for image in images)
    labels = np.array([image.label for image in images], np.int32)
    sizes = np.array([place.size for place in found], np.int64)
    made[split] = _make_split(ids, labels, found, image_key)
    digests.append(hex_digest([split, *map(os.fsencode, ids), sizes.tobytes()]))
  return Dataset(
    name=builder.info.name,
    class_names=listed.class_names,
    train=made["train"],
    test=made["test"],
    val=None,
    fingerprint=hex_digest([builder.info.full_name, *digests]),
  )


def _check_split_sizes(
  split_file: str | os.PathLike[str],
  listed: SplitFile,
  num_classes: int | None,
  num_examples: Mapping[str, int],
) -> None:
  """Checks that a split file has the published sizes."""
  if num_classes is not None and len(listed.class_names) != num_classes:
    raise ValueError(
      f"Expected {num_classes} classes in {split_file}, got "
      f"{len(listed.class_names)}."
    )
  for split, expected in num_examples.items():
    if len(listed.splits[split]) != expected:
      raise ValueError(
        f"Expected {expected} images of {split!r} in {split_file}, got "
        f"{len(listed.splits[split])}."
      )


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
  """Opens images of tfds with the labels of a table, see `read_label_table`.

  For UC Merced, Chaudhuri et al. publish a table of 17 labels of land cover. An
  image of the table is the image of tfds whose file has the same name, in any
  case and with any extension, in any of the splits. Ids are the names in the
  table.

  Args:
    name: Name in tfds: "uc_merced".
    label_file: The table; its paths are names of files.
    data_dir: Where tfds keeps prepared data; None for its default.
    splits: Splits of tfds that hold the images.
    image_key: Feature that holds the image.
    file_key: Feature that holds the name of the image's file.
    columns: What the columns hold whose names do not say it.
    is_multi_label: As for `read_label_table`.
    test_share: Share of the images that are drawn for the test split if no
      column holds the splits, see `label_table.random_splits`.
    split_seed: Seed of that draw.
    num_classes: Expected number of labels, or None.
    num_examples: Expected number of images in the table, or None.

  Raises:
    ValueError: If the table or the data are not as expected, two images have
      the same name, an image of the table is not in tfds, or a split is empty.

  References:
    Chaudhuri, Demir, Chaudhuri and Bruzzone, "Multilabel Remote Sensing Image
    Retrieval Using a Semisupervised Graph-Theoretic Method", IEEE TGRS 2018.
  """
  table = read_label_table(
    label_file, columns=columns, is_multi_label=is_multi_label
  )
  for what, expected, found in (
    ("labels", num_classes, len(table.class_names)),
    ("images", num_examples, len(table.paths)),
  ):
    if expected is not None and found != expected:
      raise ValueError(
        f"Expected {expected} {what} in {label_file}, got {found}."
      )
  builder = tfds_builder.open_builder(name, data_dir)
  sources = [tfds_builder.open_split(builder, split) for split in splits]
  tfds_builder.check_features(builder, {image_key: "Image", file_key: "Text"})
  places = index_images(
    builder,
    sources,
    image_key,
    lambda example: _stem(os.fsdecode(example[file_key])),  # tfds gives bytes
  )
  missing = [
    f"{path} (row {row})"
    for path, row in zip(table.paths, table.rows, strict=True)
    if _stem(path) not in places
  ]
  _check_all_found(
    label_file, builder.info.full_name, missing, len(table.paths)
  )
  found = [places[_stem(path)] for path in table.paths]
  split_of = find_splits(
    label_file, table, test_share=test_share, split_seed=split_seed
  )
  made = {}
  for split in SPLITS:
    rows = np.flatnonzero(split_of == split)
    made[split] = _make_split(
      tuple(table.paths[row] for row in rows),
      table.labels[rows],
      [found[row] for row in rows],
      image_key,
    )
  sizes = np.array([place.size for place in found], np.int64)
  content = [builder.info.full_name, *table.paths, *split_of, sizes.tobytes()]
  return Dataset(
    name=builder.info.name,
    class_names=table.class_names,
    train=made["train"],
    test=made["test"],
    val=made["val"] if made["val"].ids else None,
    fingerprint=hex_digest(content),
  )


def _stem(name: str) -> str:
  """Returns the name of a file without folder and extension, in lower case."""
  return pathlib.PurePosixPath(name).stem.lower()


def _check_all_found(
  file: str | os.PathLike[str], data: str, missing: list[str], count: int
) -> None:
  """Checks that tfds has all images of a file."""
  if missing:
    raise ValueError(
      f"Expected every image of {file} in {data}, got none for {len(missing)} "
      f"of {count}: {shorten(missing)}."
    )


def _make_split(
  ids: tuple[str, ...],
  labels: np.ndarray,
  places: Sequence[Place],
  image_key: str,
) -> Split:
  """Returns examples with these images."""

  def read(index: int) -> np.ndarray:
    place = places[index]
    return decode_image(place.split[place.index][image_key])

  return Split(ids=ids, labels=labels, read=read)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _UCMerced(Source):
  """UC Merced, with the labels of land cover in the user's label file."""

  tfds_name: str = "uc_merced"
  num_classes: int | None = 17
  num_train: int | None = 2100

  def load(self, options: Options) -> Dataset:
    if options.label_file is None:
      raise ValueError(
        f"Expected `label_file`, the labels of {self.tfds_name}, got None. Set"
        " `config.dataset.label_file`."
      )
    return load_tfds_label_file(
      self.tfds_name,
      options.label_file,
      data_dir=options.path,
      columns=options.columns,
      test_share=options.test_share,
      split_seed=options.split_seed,
      num_classes=self.num_classes,
      num_examples=self.num_train,
    )


register("uc_merced", _UCMerced())
