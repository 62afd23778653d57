"""The saved model of a run, with its classes and its image transform."""

import dataclasses
from typing import Any

from etils import epath

from decern_jax import models
from decern_jax.io import storage
from decern_jax.models import pretrained
from decern_jax.runs import workdir
from decern_jax.training.learner import Fit

FILE_NAME = "model.safetensors"

_SETTINGS = (
  "dataset.image_size",
  "dataset.interpolation",
  "dataset.resize_size",
  "model.dtype",
  "model.name",
)
_DATA = ("class_names", "is_multi_label")


@dataclasses.dataclass(frozen=True)
class TrainedModel:
  """The model of a run's last round.

  Attributes:
    backbone: The backbone, with its trained variables and its trained head.
    class_names: Name of each class, in the order of the head's outputs.
    transform: Keyword arguments of `resize_and_center_crop`.
    is_multi_label: Whether an image may have several of the classes.
  """

  backbone: models.Backbone
  class_names: tuple[str, ...]
  transform: dict[str, Any]
  is_multi_label: bool


def save(directory: epath.PathLike, model: Fit) -> None:
  """Writes a model as safetensors, in this project's own format.

  `models.create` loads the file as weights; the trained head is then
  `Backbone.head`.
  """
  pretrained.save_safetensors(
    storage.as_path(directory) / FILE_NAME,
    {**model.variables, "head": model.head._asdict()},
  )


def load(directory: epath.PathLike) -> TrainedModel:
  """Loads the model of a finished run.

  Raises:
    ValueError: If the directory does not hold a finished run of this version.
      The message names the missing files or settings.
  """
  directory = storage.as_path(directory)
  names = (FILE_NAME, workdir.CONFIG_FILE, workdir.DATA_FILE)
  missing = [name for name in names if not (directory / name).exists()]
  if missing:
    raise ValueError(
      f"Expected the folder of a finished run, got {directory} without"
      f" {', '.join(missing)}."
    )
  settings = workdir.read_settings(
    directory / workdir.CONFIG_FILE, names=_SETTINGS
  )
  data = workdir.read_settings(directory / workdir.DATA_FILE, names=_DATA)
  backbone = models.create(
    settings["model.name"],
    weights=directory / FILE_NAME,
    image_size=settings["dataset.image_size"],
    dtype=settings["model.dtype"],
  )
  class_names = tuple(data["class_names"])
  _check_head(backbone, class_names, directory / FILE_NAME)
  return TrainedModel(
    backbone=backbone,
    class_names=class_names,
    transform={
      name: settings[f"dataset.{name}"]
      for name in ("resize_size", "image_size", "interpolation")
    },
    is_multi_label=data["is_multi_label"],
  )


def _check_head(
  backbone: models.Backbone, class_names: tuple[str, ...], path: epath.Path
) -> None:
  """Raises unless the head in the file has one output per class."""
  found = 0 if backbone.head is None else backbone.head.bias.size
  if found != len(class_names):
    raise ValueError(
      f"Expected a head of {len(class_names)} classes in {path}, got {found}."
    )
