"""The table of data sets: where each comes from, and how it is opened."""

import abc
import dataclasses
import os

from decern_jax.data.dataset import Dataset
from decern_jax.data.label_table import Columns

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """The user's options; each source reads those that it needs.

  Attributes:
    path: The folder of images or of a release, the label file, or the
      `data_dir` of tfds (None for its default).
    num_workers: Threads that check the images of a folder, at least 1.
    cache_dir: Folder that keeps the result of that check, or None.
    split_file: Published split file, for data sets with a `split_file_url`.
    label_file: Label file, if it is not `path`.
    columns: What the columns of the label file hold whose names do not say it.
    band_range: Values of image bands that become 0 and 255. None if the images
      are uint8 or have three colors.
    test_share: Share of the images that are drawn for the test split if the
      label file has no splits, in (0, 1).
    split_seed: Seed of that draw.
    is_multi_label: Whether an image of a folder without labels may have several
      labels.
  """

  path: PathLike | None = None
  num_workers: int
  cache_dir: PathLike | None = None
  split_file: PathLike | None = None
  label_file: PathLike | None = None
  columns: Columns = Columns()
  band_range: tuple[float, float] | None = None
  test_share: float = 0.2
  split_seed: int = 0
  is_multi_label: bool = False

  def required_path(self, meaning: str) -> PathLike:
    """Returns `path` for a source that needs it.

    Args:
      meaning: What the path leads to.

    Raises:
      ValueError: If there is no path.
    """
    if self.path is None:
      raise ValueError(
        f"Expected `path`, {meaning}, got None. Set `config.dataset.path`."
      )
    return self.path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(abc.ABC):
  """Row of the table. Each kind of source is a subclass, which may add fields.

  Attributes:
    num_classes: Published number of classes, or None.
    num_train: Published number of examples in the pool, or None.
    num_test: Published number of test examples, or None.
    split_file_url: Address of the published split file that the data set needs,
      or None if it needs none.
    tfds_name: Name in tfds, where `decern-jax prepare` finds the data
      set; "" if it comes from elsewhere.
    preparation: What the user does instead of that command.
    is_unlabeled: Whether people label the pool while the run goes on.
  """

  num_classes: int | None = None
  num_train: int | None = None
  num_test: int | None = None
  split_file_url: str | None = None
  tfds_name: str = ""
  preparation: str = ""
  is_unlabeled: bool = False

  @abc.abstractmethod
  def load(self, options: Options) -> Dataset:
    """Opens the data set.

    Returns:
      The data set; its images are decoded when they are read.

    Raises:
      ValueError: If an option is missing or not wanted, or the data are not as
        expected.
    """

  def sizes(self, train: str = "train", test: str = "test") -> dict[str, int]:
    """Returns the published numbers of examples, by the name of the split."""
    sizes = {train: self.num_train, test: self.num_test}
    return {name: size for name, size in sizes.items() if size is not None}


# Filled by the modules of `decern_jax.data.sources`.
DATASETS: dict[str, Source] = {}


def register(name: str, source: Source) -> None:
  """Adds a data set to the table.

  Args:
    name: Name of the data set, as `config.dataset.name` gives it.
    source: Its row.

  Raises:
    ValueError: If there is a data set of this name.
  """
  if name in DATASETS:
    raise ValueError(f"Expected a new name of a data set, got {name!r} again.")
  DATASETS[name] = source


def load(name: str, options: Options) -> Dataset:
  """Opens a data set of the table.

  Args:
    name: Name of the data set.
    options: The user's options. Empty paths count as None.

  Returns:
    The data set; its images are decoded when they are read.

  Raises:
    ValueError: If the name is unknown, an option is missing or not wanted, or
      the data are not as expected.
  """
  if name not in DATASETS:
    raise ValueError(
      f"Unknown dataset {name!r}; expected one of {sorted(DATASETS)}."
    )
  source = DATASETS[name]
  if options.split_file and source.split_file_url is None:
    raise ValueError(
      f"Expected no `split_file` for {name}, whose split is known, got "
      f"{os.fspath(options.split_file)!r}. Leave out"
      " `config.dataset.split_file`."
    )
  return source.load(
    dataclasses.replace(
      options, path=options.path or None, split_file=options.split_file or None
    )
  )


def is_unlabeled(name: str) -> bool:
  """Returns whether people label the pool of a data set.

  Args:
    name: Name of the data set; those that are not in the table have labels.
  """
  return name in DATASETS and DATASETS[name].is_unlabeled
