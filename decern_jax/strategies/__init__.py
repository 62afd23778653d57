"""Query strategies: which examples of a pool to label next."""

from decern_jax.strategies.base import (
  NEEDS,
  Auxiliary,
  Option,
  Pool,
  Selection,
  Strategy,
  register,
)
from decern_jax.strategies.registry import (
  STRATEGIES,
  declared_options,
  default_options,
)

__all__ = [
  "NEEDS",
  "STRATEGIES",
  "Auxiliary",
  "Option",
  "Pool",
  "Selection",
  "Strategy",
  "declared_options",
  "default_options",
  "register",
]
