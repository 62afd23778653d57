"""The table of models, and which of their parameters train."""

from collections.abc import Callable, Mapping
import dataclasses
import fnmatch
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax

from decern_jax.models import pretrained

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

# Variable collection, and the name in it, where modules keep their stages.
KEPT, STAGES = "intermediates", "stages"

SCOPES = ("head", "published", "all")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
  """Row of the table: how to build a model and how to read its weights.

  Attributes:
    module: Makes the Flax module, which maps float images [batch, height,
      width, 3] to float32 features [batch, dim]. It takes the option `dtype`,
      the type that it computes in. A module with `batch_stats` is called with
      the option `train`. It passes the output of each stage, from the first to
      the last, to `keep_stage`.
    dim: Length of a feature.
    stage_dims: Length of each stage's output.
    mean: Mean of each channel, on the scale 0..255. Images are normalized by it
      before the module.
    std: Standard deviation of each channel, on the same scale.
    torch_name: Maps a variable's path, such as `("params", "stem", "kernel")`,
      to the tensor's name in a PyTorch file. The classifier is the collection
      `"head"`. None for models that have weights only in this project's own
      format, which all models can read.
    hugging_face_name: The same for a file of Hugging Face's `transformers`.
      None for models that cannot be read from such a file.
    adapt: Converts the tensors of a variant of PyTorch files to the names and
      shapes of `torch_name`, and leaves other files unchanged. None if there is
      no variant.
    ignorable: Patterns of further tensor names that a PyTorch file may hold.
    published: Patterns of the parameters that DECERN's published training
      updates, matched against dotted paths such as `layer4_0.conv1.kernel`.
      The paper trains no MobileNet; its row has the last inverted residual
      block and the last convolution.
    packaged: Name of the weights that ship with the package, or None.
    origin: Address of the published weights, for a model whose weights are not
      on the Hugging Face Hub; "" for the others.
  """

  module: Callable[..., nn.Module]
  dim: int
  stage_dims: tuple[int, ...]
  mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
  std: tuple[float, float, float] = (127.5, 127.5, 127.5)
  torch_name: pretrained.TensorName | None = None
  hugging_face_name: pretrained.TensorName | None = None
  adapt: Callable[[pretrained.Tensors], pretrained.Tensors] | None = None
  ignorable: tuple[str, ...] = ()
  published: tuple[str, ...] = ()
  packaged: str | None = None
  origin: str = ""


# Filled by the modules of `decern_jax.models.backbones`.
MODELS: dict[str, ModelSpec] = {}


def register(name: str, spec: ModelSpec) -> None:
  """Adds a model to the table.

  Args:
    name: Name of the model, as `config.model.name` gives it.
    spec: Its row.

  Raises:
    ValueError: If there is a model of this name.
  """
  if name in MODELS:
    raise ValueError(f"Expected a new name of a model, got {name!r} again.")
  MODELS[name] = spec


def find_spec(name: str) -> ModelSpec:
  """Returns the row of a model in the table.

  Raises:
    ValueError: If the name is unknown.
  """
  if name not in MODELS:
    raise ValueError(
      f"Unknown model {name!r}; expected one of {sorted(MODELS)}."
    )
  return MODELS[name]


def keep_stage(module: nn.Module, output: jax.Array) -> None:
  """Records the output of a stage of a module, for `Backbone.stage_apply`.

  Args:
    module: The module that computes the stage, while it is called.
    output: [batch, height, width, dim], or float32 [batch, dim].
  """
  module.sow(KEPT, STAGES, output)


def trainable_mask(
  name: str, params: Mapping[str, Any], scope: str
) -> dict[str, Any]:
  """Returns which parameters of a model are trained.

  The classifier is not a parameter of the model: every scope trains it.

  Args:
    name: Name of the model in the table.
    params: The collection `params` of its variables, or their shapes.
    scope: `"head"` trains nothing of the model, `"published"` what matches the
      patterns `ModelSpec.published`, `"all"` everything.

  Returns:
    A bool for each parameter, in a tree like `params`.

  Raises:
    ValueError: If the model or the scope is unknown.
  """
  if scope not in SCOPES:
    raise ValueError(
      f"Unknown training scope {scope!r}; expected one of {sorted(SCOPES)}."
    )
  patterns = {
    "head": (),
    "published": find_spec(name).published,
    "all": ("*",),
  }[scope]
  flat = traverse_util.flatten_dict(params, sep=".")
  return traverse_util.unflatten_dict(
    {
      path: any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)
      for path in flat
    },
    sep=".",
  )
