"""From a configuration to the experiment that a driver runs.

The only modules that read the configuration.
"""

from decern_jax.runs.experiment.build import build
from decern_jax.runs.experiment.check import check
from decern_jax.runs.experiment.dataset import (
  check_dataset,
  count_workers,
  load_dataset,
)
from decern_jax.runs.experiment.load import (
  Assets,
  first_features,
  load,
  with_labels,
)

__all__ = [
  "Assets",
  "build",
  "check",
  "check_dataset",
  "count_workers",
  "first_features",
  "load",
  "load_dataset",
  "with_labels",
]
