"""The paper's data sets, from their authors' releases or from tfds."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import io
from typing import Any

from etils import epath
import numpy as np

from decern_jax.data import image_files
from decern_jax.data.dataset import Dataset
from decern_jax.data.image_files import ImageFile
from decern_jax.data.registry import Options, Source, register
from decern_jax.data.sources.folder import without_unreadable
from decern_jax.data.sources.tfds import load_tfds
from decern_jax.data.sources.tfds_files import load_tfds_resplit
from decern_jax.data.split_file import read_split_file
from decern_jax.data.tfds_builder import NotPreparedError
from decern_jax.io import storage
from decern_jax.io.validation import shorten


@dataclasses.dataclass(frozen=True)
class Listing:
  """The images of a release.

  Attributes:
    class_names: Name of each class.
    splits: Path and class of the images of "train" and "test". Paths are
      relative to the folder of images.
  """

  class_names: Sequence[str]
  splits: Mapping[str, Sequence[tuple[str, int]]]


@dataclasses.dataclass(frozen=True)
class Release:
  """The layout of the authors' unpacked archives.

  Attributes:
    folder: Folder that the archive contains, or "" if it has none.
    markers: Files and folders by which the layout is recognized.
    images: Folder of images.
    read: Reads the lists of images in the folder of the release, or in the
      split file for a data set that has one.
  """

  folder: str
  markers: tuple[str, ...]
  images: str
  read: Callable[[epath.Path], Listing]

  def find(self, path: epath.PathLike | None) -> epath.Path | None:
    """Returns the folder of the release, or None if it is not there.

    Args:
      path: That folder, or the one that the archive was unpacked into.
    """
    if path is None:
      return None
    root = storage.as_path(path).expanduser()
    for folder in (root, root / self.folder):
      if all((folder / marker).exists() for marker in self.markers):
        return folder
    return None


def load_release(
  release: Release,
  root: epath.Path,
  *,
  name: str,
  num_workers: int,
  split_file: epath.PathLike | None = None,
  cache_dir: epath.PathLike | None = None,
  num_classes: int | None = None,
  num_examples: Mapping[str, int] | None = None,
) -> Dataset:
  """Opens a data set in the folder of its authors' release.

  Ids are "<split>/<path in the folder of images>".

  Args:
    release: The layout.
    root: The folder.
    name: Name of the data set.
    num_workers: Threads that check the images, at least 1.
    split_file: Published split file, for a layout that needs one.
    cache_dir: Folder that keeps the result of the check, or None.
    num_classes: Published number of classes, or None.
    num_examples: Published numbers of "train" and "test", if known.

  Returns:
    The data set.

  Raises:
    ValueError: If a list is malformed or does not have the published size, an
      image is missing, or more than `MAX_UNREADABLE_SHARE` of the images cannot
      be read.
  """
  try:
    listing = release.read(storage.as_path(split_file or root))
  except (KeyError, IndexError, UnicodeDecodeError, TypeError) as error:
    raise ValueError(
      f"Expected the lists of {name} as published in {root}, got one that"
      f" cannot be read: {type(error).__name__}: {error}."
    ) from error
  found = {split: len(listed) for split, listed in listing.splits.items()}
  found["classes"] = len(listing.class_names)
  for what, expected in (
    {**(num_examples or {}), "classes": num_classes}
  ).items():
    if expected is not None and found[what] != expected:
      raise ValueError(
        f"Expected {expected} {what} of {name} in {root}, got {found[what]}."
      )
  files = _find_files(root / release.images, listing)
  files = without_unreadable(root, files, num_workers, cache_dir, True)
  label_of = {
    f"{split}/{path}": label
    for split, listed in listing.splits.items()
    for path, label in listed
  }
  splits = {
    split: image_files.make_split(
      kept, np.array([label_of[file.id] for file in kept], np.int32)
    )
    for split, kept in files.items()
  }
  return Dataset(
    name=name,
    class_names=tuple(listing.class_names),
    train=splits["train"],
    test=splits["test"],
    val=None,
    fingerprint=image_files.digest([*files["train"], *files["test"]]),
  )


def _find_files(
  folder: epath.Path, listing: Listing
) -> dict[str, list[ImageFile]]:
  """Finds the listed images; refuses a list with missing images."""
  paths = [path for listed in listing.splits.values() for path, _ in listed]
  parents = sorted({path.rpartition("/")[0] for path in paths})
  entries = {}
  for parent in parents:
    try:
      scanned = storage.scan(folder / parent if parent else folder)
    except (FileNotFoundError, NotADirectoryError):
      continue
    prefix = f"{parent}/" if parent else ""
    entries |= {f"{prefix}{entry.name}": entry for entry in scanned}
  missing = [path for path in paths if path not in entries]
  if missing:
    raise ValueError(
      f"Expected all {len(paths)} listed images in {folder}, got none for"
      f" {len(missing)}: {shorten(missing)}."
    )
  return {
    split: [
      ImageFile(
        f"{split}/{path}",
        folder / path,
        listing.class_names[label],
        entries[path].size,
        entries[path].mtime_ns,
      )
      for path, label in listed
    ]
    for split, listed in listing.splits.items()
  }


def _rows(path: epath.Path) -> list[list[str]]:
  """Returns the words of each line, except empty lines and comments."""
  lines = storage.read_bytes(path).decode("utf-8").splitlines()
  return [line.split() for line in lines if line.strip() and line[0] != "#"]


def _matlab(path: epath.Path) -> dict[str, Any]:
  """Returns the variables of a MATLAB file."""
  import scipy.io

  return scipy.io.loadmat(io.BytesIO(storage.read_bytes(path)))


def _read_birds(root: epath.Path) -> Listing:
  """Reads CUB-200-2011: number and value of each image, in four lists."""
  tables = [
    dict(_rows(root / f"{name}.txt"))
    for name in ("images", "image_class_labels", "train_test_split", "classes")
  ]
  path_of, class_of, is_train, name_of = tables
  classes = sorted(name_of, key=int)
  label_of = {number: label for label, number in enumerate(classes)}
  splits = {"train": [], "test": []}
  for image, path in path_of.items():
    split = {"1": "train", "0": "test"}[is_train[image]]
    splits[split].append((path, label_of[class_of[image]]))
  return Listing([name_of[number] for number in classes], splits)


def _read_flowers(root: epath.Path) -> Listing:
  """Reads Flowers102, whose validation images the paper leaves out."""
  labels = _matlab(root / "imagelabels.mat")["labels"].ravel()
  ids = _matlab(root / "setid.mat")
  splits = {
    split: [
      (f"image_{number:05d}.jpg", int(labels[number - 1]) - 1)
      for number in ids[key].ravel().tolist()
    ]
    for split, key in (("train", "trnid"), ("test", "tstid"))
  }
  # The release has numbers in place of names.
  return Listing([str(i + 1) for i in range(int(labels.max()))], splits)


def _read_pets(root: epath.Path) -> Listing:
  """Reads Oxford-IIIT Pet: name of the image, number of the class."""
  lists = {
    split: _rows(root / "annotations" / f"{name}.txt")
    for split, name in (("train", "trainval"), ("test", "test"))
  }
  names = {
    int(row[1]) - 1: row[0].rpartition("_")[0]
    for rows in lists.values()
    for row in rows
  }
  splits = {
    split: [(f"{row[0]}.jpg", int(row[1]) - 1) for row in rows]
    for split, rows in lists.items()
  }
  return Listing([names[label] for label in range(len(names))], splits)


def _read_dogs(root: epath.Path) -> Listing:
  """Reads Stanford Dogs: a path and the number of a class."""
  splits, names = {}, {}
  for split in ("train", "test"):
    lists = _matlab(root / f"{split}_list.mat")
    paths = [str(cell[0]) for cell in lists["file_list"].ravel()]
    labels = [int(number) - 1 for number in lists["labels"].ravel()]
    splits[split] = list(zip(paths, labels, strict=True))
    names |= {
      label: path.split("/")[0].partition("-")[2]
      for path, label in splits[split]
    }
  return Listing([names[label] for label in range(len(names))], splits)


def _read_food(root: epath.Path) -> Listing:
  """Reads Food-101: paths without their ending, which start with the class."""
  names = [row[0] for row in _rows(root / "meta" / "classes.txt")]
  label_of = {name: label for label, name in enumerate(names)}
  splits = {
    split: [
      (f"{row[0]}.jpg", label_of[row[0].split("/")[0]])
      for row in _rows(root / "meta" / f"{split}.txt")
    ]
    for split in ("train", "test")
  }
  return Listing(names, splits)


def _read_objects(split_file: epath.Path) -> Listing:
  """Reads Caltech101, whose split is in CoOp's file."""
  listed = read_split_file(split_file)
  splits = {
    split: [(image.path, image.label) for image in images]
    for split, images in listed.splits.items()
  }
  return Listing(listed.class_names, splits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published(Source):
  """A data set of the paper.

  Attributes:
    release: The layout of the authors' release.
    test_split: Split of tfds that accuracy is reported on.
  """

  release: Release
  test_split: str = "test"

  def load(self, options: Options) -> Dataset:
    """Opens the release in `options.path`, or else the data of tfds there."""
    if self.split_file_url is not None:
      self._check_split_file(options.split_file)
    root = self.release.find(options.path)
    if root is not None:
      return load_release(
        self.release,
        root,
        name=self.tfds_name,
        num_workers=options.num_workers,
        split_file=options.split_file,
        cache_dir=options.cache_dir,
        num_classes=self.num_classes,
        num_examples=self.sizes(),
      )
    try:
      return self._load_tfds(options)
    except NotPreparedError as error:
      raise ValueError(
        f"{error}. Or set `config.dataset.path` to the folder of the authors'"
        f" release, which holds {' and '.join(self.release.markers)}."
      ) from error

  def _load_tfds(self, options: Options) -> Dataset:
    """Opens the data that tfds has prepared."""
    if options.split_file is not None:
      return load_tfds_resplit(
        self.tfds_name,
        options.split_file,
        data_dir=options.path,
        file_key="image/file_name",
        num_classes=self.num_classes,
        num_examples=self.sizes(),
      )
    return load_tfds(
      self.tfds_name,
      data_dir=options.path,
      test_split=self.test_split,
      num_classes=self.num_classes,
      num_examples=self.sizes(test=self.test_split),
    )

  def _check_split_file(self, split_file: epath.PathLike | None) -> None:
    """Refuses a missing split file."""
    if (
      split_file is None
      or not storage.as_path(split_file).expanduser().exists()
    ):
      found = "None" if split_file is None else f"{split_file}, not a file"
      raise ValueError(
        f"Expected `split_file`, the published split of {self.tfds_name}, got"
        f" {found}. Download it from {self.split_file_url} and set"
        " `config.dataset.split_file`."
      )


register(
  "caltech101",
  Published(
    tfds_name="caltech101",
    # split_zhou_Caltech101.json, without background images and the second class
    # of faces.
    split_file_url=(
      "https://drive.google.com/file/d/1hyarUivQE36mY6jSomru6Fjd-JzwcCzN/view"
    ),
    num_classes=100,
    num_train=4128,
    num_test=2465,
    release=Release(
      "caltech-101",
      ("101_ObjectCategories",),
      "101_ObjectCategories",
      _read_objects,
    ),
  ),
)
register(
  "caltech_birds2011",
  Published(
    tfds_name="caltech_birds2011",
    num_classes=200,
    num_train=5994,
    num_test=5794,
    release=Release(
      "CUB_200_2011",
      ("images.txt", "train_test_split.txt"),
      "images",
      _read_birds,
    ),
  ),
)
register(
  "food101",
  Published(
    tfds_name="food101",
    num_classes=101,
    num_train=75750,
    num_test=25250,
    test_split="validation",
    release=Release("food-101", ("meta/train.txt",), "images", _read_food),
  ),
)
register(
  "oxford_flowers102",
  Published(
    tfds_name="oxford_flowers102",
    num_classes=102,
    num_train=1020,
    num_test=6149,
    release=Release("", ("setid.mat",), "jpg", _read_flowers),
  ),
)
register(
  "oxford_iiit_pet",
  Published(
    tfds_name="oxford_iiit_pet",
    num_classes=37,
    num_train=3680,
    num_test=3669,
    release=Release("", ("annotations/trainval.txt",), "images", _read_pets),
  ),
)
register(
  "stanford_dogs",
  Published(
    tfds_name="stanford_dogs",
    num_classes=120,
    num_train=12000,
    num_test=8580,
    release=Release("", ("train_list.mat",), "Images", _read_dogs),
  ),
)
