"""The commands, a module each, and the flags they share."""

import sys

from decern_jax.io import extras

# The modules that the extra `run` installs.
RUN_MODULES = (
  "PIL",
  "absl",
  "cv2",
  "etils",
  "filelock",
  "flax",
  "fsspec",
  "jinja2",
  "markupsafe",
  "matplotlib",
  "ml_collections",
  "orbax",
  "safetensors",
  "scipy",
  "tensorboardX",
  "tqdm",
)

try:
  extras.check_installed(RUN_MODULES, "run", "A command of decern_jax")
except extras.MissingExtraError as error:
  # Here, because the modules of the commands import these packages.
  sys.exit(f"error: {error}")
