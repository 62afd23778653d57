"""The table of strategies: each module of this package registers its own."""

import importlib
import pathlib
import pkgutil

from decern_jax.strategies.base import STRATEGIES, Option, declared_options

# A new strategy needs no entry anywhere: its module is found here.
for _module in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)]):
  importlib.import_module(f"decern_jax.strategies.{_module.name}")


def default_options() -> dict[str, int | float | str]:
  """Returns the defaults of all strategies' options by name."""
  return {name: option.default for name, option in declared_options().items()}


__all__ = ["STRATEGIES", "Option", "declared_options", "default_options"]
