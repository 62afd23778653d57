"""The help of a verb: what it does, its flags, the fields of a configuration.

Nothing is written twice: what a verb does is the docstring of its module, the
meaning of a field is the comment above it in `configs/common.py` or
`configs/pretrain_common.py`, the values that it may have are those of
`decern_jax/runs/config.py`, and strategies declare their own options.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import inspect
import math
import re
import textwrap
import types
import typing
from typing import Any

from absl import flags

from decern_jax import strategies
from decern_jax.cli import config_files
from decern_jax.runs import config as run_fields
from decern_jax.runs.config import Distinct, OneOf, Range, Section

WIDTH = 79

_KINDS = {
  bool: "True or False",
  int: "an integer",
  float: "a number",
  str: "text",
}


@dataclasses.dataclass(frozen=True)
class Field:
  """A field of a configuration, or a section of it.

  Attributes:
    name: Name, such as `selection.budget`.
    meaning: What it is, in sentences; "" for a section that tells nothing.
    values: The values that it may have; "" for a section.
  """

  name: str
  meaning: str
  values: str


def describe(
  documentation: str,
  flag_list: Sequence[flags.Flag],
  configurations: Mapping[str, str],
  values: Mapping[str, Mapping[str, Any]],
) -> str:
  """Returns the help of a verb.

  Args:
    documentation: The docstring of its module.
    flag_list: Its flags.
    configurations: The kind of configuration that each flag of one takes.
    values: The configuration of each of these flags, as nested dicts.
  """
  lines = [inspect.cleandoc(documentation), "", "Flags:", ""]
  for flag in sorted(flag_list, key=lambda flag: flag.name):
    lines += [_head_of(flag), *_wrap(flag.help or "")]
  for name, kind in configurations.items():
    lines += ["", f"Fields of the configuration, after --{name}:"]
    for field in fields(kind):
      if not field.values:
        lines += ["", f"{field.name}:", *_wrap(field.meaning, 2), ""]
        continue
      lines.append(
        f"  --{name}.{field.name}={_value(values[name], field.name)}"
      )
      lines += [*_wrap(field.meaning), *_wrap(field.values)]
  lines += ["", *_wrap("--helpfull shows the flags of absl too.", 0)]
  return "\n".join(lines)


@functools.cache
def fields(kind: str) -> tuple[Field, ...]:
  """Returns the sections and fields of a kind of configuration, in order.

  Args:
    kind: `config_files.RUN` or `config_files.PRETRAINING`.
  """
  if kind == config_files.RUN:
    hints: type = run_fields.Config
  else:
    # It imports more than the help of other verbs needs.
    from decern_jax.runs import pretraining

    hints = pretraining.Config
  return tuple(_fields_of(hints, meanings(kind)))


def meanings(kind: str) -> dict[str, str]:
  """Returns the comment above each field and section of a file of all fields.

  Args:
    kind: As for `fields`.

  Returns:
    The comments by the names of the fields, in the order of the file. A section
    that is another file's has that file's.
  """
  path = config_files.folder() / f"{kind}.py"
  texts: dict[str, str] = {}
  comment: list[str] = []
  for line in path.read_text("utf-8").splitlines():
    stripped = line.strip()
    if stripped.startswith("#"):
      comment.append(stripped.lstrip("# "))
      continue
    if assigned := re.match(r"  ([a-z_]+)\.([a-z_]+) = ", line):
      section, name = assigned.groups()
      full = name if section == "config" else f"{section}.{name}"
      texts[full] = " ".join(comment)
      if re.search(r"= common\.", line):
        inherited = meanings(config_files.RUN)
        prefix = f"{full}."
        texts |= {k: v for k, v in inherited.items() if k.startswith(prefix)}
    comment = []
  return texts


def _fields_of(
  hints: type, texts: Mapping[str, str], prefix: str = ""
) -> Iterator[Field]:
  """Yields the fields of a class, and after them its sections."""
  typed = typing.get_type_hints(hints, include_extras=True)
  sections = {}
  for name, hint in typed.items():
    full = f"{prefix}{name}"
    if Section in getattr(hint, "__mro__", ()):
      sections[full] = hint
    else:
      yield Field(full, texts[full], describe_values(hint))
  for full, hint in sections.items():
    yield Field(full, texts.get(full, ""), "")
    if hint is run_fields.Options:
      yield from _options(full)
    else:
      yield from _fields_of(hint, texts, f"{full}.")


def _options(section: str) -> Iterator[Field]:
  """Yields the options of all strategies, with the strategies of each."""
  for name, option in strategies.declared_options().items():
    users = [
      row.name
      for row in strategies.STRATEGIES.values()
      if name in row.option_names
    ]
    limits = (
      OneOf("", option.choices)
      if option.choices
      else Range(option.low, option.high)
    )
    yield Field(
      f"{section}.{name}",
      f"{option.meaning.rstrip('.')}. Of {', '.join(sorted(users))}.",
      describe_values(typing.Annotated[type(option.default), limits]),
    )


def describe_values(hint: Any) -> str:
  """Returns the values of a type, which may be `Annotated` with limits.

  Args:
    hint: A type of `decern_jax.runs.config`.

  Returns:
    A phrase such as "An integer of at least 1, or None."
  """
  hint, *limits = (
    typing.get_args(hint)
    if typing.get_origin(hint) is typing.Annotated
    else (hint,)
  )
  is_optional = isinstance(hint, types.UnionType)
  if is_optional:
    (hint,) = set(typing.get_args(hint)) - {types.NoneType}
  is_tuple = typing.get_origin(hint) is tuple
  kind = typing.get_args(hint)[0] if is_tuple else hint
  text = _KINDS[kind]
  for limit in limits:
    if isinstance(limit, OneOf):
      text = f"one of {', '.join(map(str, sorted(limit.names)))}"
    elif isinstance(limit, Range):
      text += _bounds(limit)
  if is_tuple:
    what = ", not empty and without repetitions"
    text = f"a tuple{what if Distinct() in limits else ''}; each {text}"
  text += ", or None" if is_optional else ""
  return f"{text[0].upper()}{text[1:]}."


def _bounds(limit: Range) -> str:
  low, high = (f"{x:.10g}" for x in (limit.low, limit.high))
  if math.isinf(limit.high):
    return "" if math.isinf(limit.low) else f" of at least {low}"
  return f" from {low} to {high}"


def _head_of(flag: flags.Flag) -> str:
  """Returns a flag with its default."""
  if flag.boolean:
    return f"  --[no]{flag.name}" if not flag.default else f"  --{flag.name}"
  default = "..." if flag.default is None else flag.default
  return f"  --{flag.name}={default}"


def _value(values: Any, name: str) -> Any:
  for part in name.split("."):
    values = values[part]
  return values


def _wrap(text: str, indent: int = 6) -> list[str]:
  space = " " * indent
  return textwrap.wrap(
    text,
    WIDTH,
    initial_indent=space,
    subsequent_indent=space,
    break_on_hyphens=False,
  )
