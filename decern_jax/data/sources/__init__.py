"""One module per kind of source, which adds its data sets to the table."""

import importlib
import pkgutil

from decern_jax.data.registry import (
  DATASETS,
  Options,
  Source,
  is_unlabeled,
  load,
  register,
)

__all__ = ["DATASETS", "Options", "Source", "is_unlabeled", "load", "register"]

for _info in pkgutil.iter_modules(__path__):
  importlib.import_module(f"{__name__}.{_info.name}")
