"""Opens any data set of the table by name."""

from collections.abc import Callable
import os
from typing import NamedTuple

from decern_jax.data.bronze_ding import load_bronze_ding
from decern_jax.data.dataset import Dataset
from decern_jax.data.image_folder import load_image_folder
from decern_jax.data.label_columns import Columns
from decern_jax.data.label_file import load_label_file
from decern_jax.data.rendered import load_rendered
from decern_jax.data.rendered_land_cover import load_rendered_land_cover
from decern_jax.data.specs import DATASETS, DatasetSpec
from decern_jax.data.tfds_label_file import load_tfds_label_file
from decern_jax.data.tfds_multilabel import load_tfds_multilabel
from decern_jax.data.tfds_resplit import load_tfds_resplit
from decern_jax.data.tfds_source import load_tfds
from decern_jax.data.unlabeled_folder import load_unlabeled_folder

PathLike = str | os.PathLike[str]


class Labels(NamedTuple):
  """How a file of labels is read.

  Attributes:
    file: The file; None where it is the data set's own `path`.
    columns: Which column holds what, as far as the names do not tell.
    band_range: What becomes 0 and 255 of the bands of images; None: they are
      uint8, or colors.
    test_share: Share of the images that are drawn for the test part where the
      file does not tell the parts, in (0, 1).
    split_seed: Seed of that draw.
    is_multi_label: Whether images of a folder without labels may have several.
  """

  file: PathLike | None = None
  columns: Columns = Columns()
  band_range: tuple[float, float] | None = None
  test_share: float = 0.2
  split_seed: int = 0
  is_multi_label: bool = False


_NAMED_AS_USUAL = Labels()


class _Options(NamedTuple):
  """What the user chose, for whichever loader reads it."""

  path: PathLike | None
  num_workers: int
  cache_dir: PathLike | None
  split_file: PathLike | None
  labels: Labels


def load(
  name: str,
  *,
  path: PathLike | None = None,
  num_workers: int,
  cache_dir: PathLike | None = None,
  split_file: PathLike | None = None,
  labels: Labels = _NAMED_AS_USUAL,
) -> Dataset:
  """Opens a data set by its name in `DATASETS`.

  Args:
    name: Key of the table.
    path: For "image_folder", the folder of images; for "bronze_ding", that of
      its release; for "label_file", the file. For a data set of tfds, its
      `data_dir`, or None for the default. None for what is rendered.
    num_workers: Threads that check the images of a folder, at least 1.
    cache_dir: Where the outcome of that check is kept, or None.
    split_file: For a data set whose row has a `split_file_url`, what is
      published there. None for all others.
    labels: How the file of labels is read, for "label_file" and "uc_merced".

  Returns:
    The data set; its images are decoded when they are read.

  Raises:
    ValueError: If the name is unknown, `path` or `split_file` is missing or not
      wanted, or the data are not what they should be.
  """
  if name not in DATASETS:
    raise ValueError(
      f"Unknown dataset {name!r}; expected one of {sorted(DATASETS)}."
    )
  spec = DATASETS[name]
  if split_file and spec.split_file_url is None:
    raise ValueError(
      f"Expected no `split_file` for {name}, whose split is known, got "
      f"{os.fspath(split_file)!r}. Leave out `config.dataset.split_file`."
    )
  options = _Options(
    path or None, num_workers, cache_dir, split_file or None, labels
  )
  return _LOADERS[spec.source](spec, options)


def _load_bronze_ding(spec: DatasetSpec, options: _Options) -> Dataset:
  return load_bronze_ding(
    _required_path(options, "the folder of BronzeDing"),
    num_workers=options.num_workers,
    num_classes=spec.num_classes,
    num_examples=_sizes(spec, "train", "test"),
    cache_dir=options.cache_dir,
  )


def _load_image_folder(spec: DatasetSpec, options: _Options) -> Dataset:
  del spec  # says nothing about a folder
  return load_image_folder(
    _required_path(options, "the folder of images"),
    num_workers=options.num_workers,
    cache_dir=options.cache_dir,
  )


def _load_label_file(spec: DatasetSpec, options: _Options) -> Dataset:
  del spec  # says nothing about a file
  labels = options.labels
  return load_label_file(
    _required_path(options, "the file of paths and labels"),
    columns=labels.columns,
    test_share=labels.test_share,
    split_seed=labels.split_seed,
    band_range=labels.band_range,
    num_workers=options.num_workers,
    cache_dir=options.cache_dir,
  )


def _load_rendered(spec: DatasetSpec, options: _Options) -> Dataset:
  del spec  # the renderer has defaults of its own
  _check_no_path(options)
  return load_rendered()


def _load_rendered_land_cover(spec: DatasetSpec, options: _Options) -> Dataset:
  del spec  # likewise
  _check_no_path(options)
  return load_rendered_land_cover()


def _check_no_path(options: _Options) -> None:
  if options.path is not None:
    raise ValueError(
      "Expected no `path`, as rendered images are in no file, "
      f"got {os.fspath(options.path)!r}. Leave out `config.dataset.path`."
    )


def _load_tfds(spec: DatasetSpec, options: _Options) -> Dataset:
  if spec.split_file_url is not None:
    return _load_tfds_resplit(spec, options)
  return load_tfds(
    spec.tfds_name,
    data_dir=options.path,
    train_split=spec.train_split,
    test_split=spec.test_split,
    val_split=spec.val_split,
    image_key=spec.image_key,
    label_key=spec.label_key,
    num_classes=spec.num_classes,
    num_examples=_sizes(spec, spec.train_split, spec.test_split),
  )


def _load_tfds_resplit(spec: DatasetSpec, options: _Options) -> Dataset:
  if options.split_file is None:
    raise ValueError(
      f"Expected `split_file`, the published split of {spec.tfds_name}, got "
      f"None. Download it from {spec.split_file_url} and set "
      "`config.dataset.split_file`."
    )
  return load_tfds_resplit(
    spec.tfds_name,
    options.split_file,
    data_dir=options.path,
    splits=(spec.train_split, spec.test_split),
    image_key=spec.image_key,
    label_key=spec.label_key,
    file_key=spec.file_key,
    num_classes=spec.num_classes,
    num_examples=_sizes(spec, "train", "test"),
  )


def _load_tfds_multilabel(spec: DatasetSpec, options: _Options) -> Dataset:
  return load_tfds_multilabel(
    spec.tfds_name,
    data_dir=options.path,
    train_split=spec.train_split,
    test_split=spec.test_split,
    val_split=spec.val_split,
    image_keys=spec.band_keys or (spec.image_key,),
    band_range=spec.band_range,
    label_key=spec.label_key,
    num_classes=spec.num_classes,
  )


def _load_tfds_label_file(spec: DatasetSpec, options: _Options) -> Dataset:
  labels = options.labels
  if labels.file is None:
    raise ValueError(
      f"Expected `label_file`, the labels of {spec.tfds_name}, got None. Set"
      " `config.dataset.label_file`."
    )
  return load_tfds_label_file(
    spec.tfds_name,
    labels.file,
    data_dir=options.path,
    image_key=spec.image_key,
    file_key=spec.file_key,
    columns=labels.columns,
    test_share=labels.test_share,
    split_seed=labels.split_seed,
    num_classes=spec.num_classes,
    num_examples=spec.num_train,
  )


def _load_unlabeled_folder(spec: DatasetSpec, options: _Options) -> Dataset:
  del spec  # says nothing about a folder
  return load_unlabeled_folder(
    _required_path(options, "the folder of images"),
    is_multi_label=options.labels.is_multi_label,
    num_workers=options.num_workers,
    cache_dir=options.cache_dir,
  )


def _required_path(options: _Options, meaning: str) -> PathLike:
  """Returns `path`, which the data set cannot do without."""
  if options.path is None:
    raise ValueError(
      f"Expected `path`, {meaning}, got None. Set `config.dataset.path`."
    )
  return options.path


def _sizes(spec: DatasetSpec, train: str, test: str) -> dict[str, int]:
  """Returns the published sizes, as far as they are known, by name."""
  sizes = {train: spec.num_train, test: spec.num_test}
  return {name: size for name, size in sizes.items() if size is not None}


_LOADERS: dict[str, Callable[[DatasetSpec, _Options], Dataset]] = {
  "bronze_ding": _load_bronze_ding,
  "image_folder": _load_image_folder,
  "label_file": _load_label_file,
  "rendered": _load_rendered,
  "rendered_land_cover": _load_rendered_land_cover,
  "tfds": _load_tfds,
  "tfds_label_file": _load_tfds_label_file,
  "tfds_multilabel": _load_tfds_multilabel,
  "unlabeled_folder": _load_unlabeled_folder,
}
