"""The data set that a configuration names."""

import os

from decern_jax.data import imbalance, label_columns, sources
from decern_jax.data.dataset import Dataset
from decern_jax.distributed import processes
from decern_jax.io.validation import check_integer, check_number


def check_dataset(dataset) -> None:
  """Checks the numbers of the section `dataset` that all commands share.

  Args:
    dataset: The section.

  Raises:
    ValueError: If a value is out of range; shows it.
  """
  check_number(
    "dataset.test_share", dataset.test_share, low=1e-6, high=1 - 1e-6
  )
  check_integer("dataset.split_seed", dataset.split_seed, low=0)
  check_integer("dataset.long_tail_seed", dataset.long_tail_seed, low=0)
  if dataset.long_tail_ratio is not None:
    check_number("dataset.long_tail_ratio", dataset.long_tail_ratio, low=1.0)
  if len(dataset.band_range) not in (0, 2):
    raise ValueError(
      "Expected `dataset.band_range` as (low, high) or (), got"
      f" {dataset.band_range}."
    )


def count_workers(config) -> int:
  """Returns how many threads read images: by default one per core.

  Args:
    config: The configuration.
  """
  return config.system.num_workers or os.cpu_count() or 1


def load_dataset(config, *, num_workers: int) -> Dataset:
  """Opens the data set of a configuration.

  Of several processes, the first checks the images and the others find what it
  has kept.

  Args:
    config: The configuration, checked; its sections `dataset` and `system` are
      read.
    num_workers: Threads that check images.

  Returns:
    The data set, its pool thinned to a long tail if the configuration says so.

  Raises:
    ValueError: If the data are not what they should be.
  """
  chosen = config.dataset
  dataset = processes.process_zero_first(
    lambda: sources.load(
      chosen.name,
      path=chosen.path,
      split_file=chosen.split_file,
      num_workers=num_workers,
      cache_dir=config.system.cache_dir,
      labels=_label_options(chosen),
    )
  )
  if chosen.long_tail_ratio is None:
    return dataset
  return imbalance.thin_to_long_tail(
    dataset, ratio=chosen.long_tail_ratio, seed=chosen.long_tail_seed
  )


def _label_options(chosen) -> sources.Labels:
  """Returns how a file of labels is read."""
  return sources.Labels(
    file=chosen.label_file,
    columns=label_columns.Columns(
      path=chosen.path_column,
      split=chosen.split_column,
      names=chosen.label_column,
      binary=tuple(chosen.binary_columns),
      ignored=tuple(chosen.ignored_columns),
    ),
    band_range=tuple(chosen.band_range) or None,
    test_share=chosen.test_share,
    split_seed=chosen.split_seed,
    is_multi_label=chosen.is_multi_label,
  )
