"""Which parameters of a model are trained, by the name of a scope."""

from collections.abc import Mapping
import fnmatch
from typing import Any

from flax import traverse_util

from decern_jax.models.registry import find_spec

SCOPES = ("head", "published", "all")


def trainable_mask(
  name: str, params: Mapping[str, Any], scope: str
) -> dict[str, Any]:
  """Tells of each parameter of a model whether it is trained.

  The classifier is no parameter of a model: every scope trains it.

  Args:
    name: Name of the model in the table.
    params: The collection `params` of its variables, or their shapes.
    scope: `"head"`: nothing of the model; `"published"`: what matches the
      patterns `ModelSpec.published`; `"all"`: everything.

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
  return traverse_util.unflatten_dict(
    {
      path: any(
        fnmatch.fnmatchcase(".".join(path), pattern) for pattern in patterns
      )
      for path in traverse_util.flatten_dict(params)
    }
  )
