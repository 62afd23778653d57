"""Tests that decern_jax/runs/config.py has the fields of configs/common.py."""

import types
import typing

from configs import common
from decern_jax import strategies
from decern_jax.runs import config as fields
from tests import tiny


def declared(section: type, prefix: str = "") -> dict[str, typing.Any]:
  """Returns the declared types by dotted name, with what annotates them."""
  found = {}
  hints = typing.get_type_hints(section, include_extras=True)
  for name, hint in hints.items():
    if fields.Section in getattr(hint, "__mro__", ()):
      found |= declared(hint, f"{prefix}{name}.")
    else:
      found[f"{prefix}{name}"] = hint
  return found


def plain(hint) -> type:
  """Returns a type without what annotates it."""
  is_annotated = typing.get_origin(hint) is typing.Annotated
  return typing.get_args(hint)[0] if is_annotated else hint


DECLARED = declared(fields.Config)
REQUIRED = ("dataset.name", "model.name")


class TestConfig:
  def test_has_exactly_the_fields_of_the_configurations(self):
    found = dict(tiny.leaves(common.get_config().to_dict()))
    # These are declared by the strategies.
    options = {
      f"selection.options.{name}" for name in strategies.declared_options()
    }
    assert sorted({*DECLARED, *options}) == sorted(found)

  def test_has_their_types(self):
    config = common.get_config()
    for name, hint in DECLARED.items():
      *path, field = name.split(".")
      section = config[path[0]] if path else config
      kind, default = plain(hint), section[field]
      if default is None and name not in REQUIRED:
        assert isinstance(kind, types.UnionType), name
        assert types.NoneType in typing.get_args(kind), name
        (kind,) = set(typing.get_args(kind)) - {types.NoneType}
      expected = section.get_ref(field).get_type()
      assert (typing.get_origin(kind) or kind) is expected, name
      if expected is tuple:
        assert isinstance(default, tuple), name
        for entry in default:
          assert type(entry) is typing.get_args(kind)[0], name

  def test_bounds_every_number(self):
    for name, hint in DECLARED.items():
      kinds = {plain(hint), *typing.get_args(plain(hint))}
      is_bounded = any(
        isinstance(limit, fields.Range) for limit in typing.get_args(hint)
      )
      # Bands have any values; a rule of its own checks how many they are.
      if name != "dataset.band_range":
        assert is_bounded == bool(kinds & {int, float}), name
