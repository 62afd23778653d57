"""Label formats: queries are written and answers are read in each of them."""

from collections.abc import Iterable
import importlib
import io
import os
import pkgutil
from typing import IO

from etils import epath

from decern_jax.annotation.answers import ParsedAnswers
from decern_jax.annotation.formats import archive, naming
from decern_jax.annotation.formats.format import Format, parse_json
from decern_jax.annotation.query import Item
from decern_jax.io import storage


def _find_formats() -> dict[str, Format]:
  """Collects the `FORMAT` of each module of this package, sorted by module."""
  names = sorted(module.name for module in pkgutil.iter_modules(__path__))
  modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
  found = [m.FORMAT for m in modules if hasattr(m, "FORMAT")]
  return {format_.name: format_ for format_ in found}


FORMATS: dict[str, Format] = _find_formats()
"""All formats by name, in the order in which they are tried on a file."""


def detect(name: str, content: bytes) -> str:
  """Finds the format of a file by its content.

  Args:
    name: Name of the file. Its ending counts only if the content fits no
      format.
    content: The file. For a zip, the first file in it that has a format counts.

  Returns:
    The name of the format in `FORMATS`.

  Raises:
    ValueError: If the file has no known format, or is a broken zip.
  """
  if not archive.is_archive(content):
    return _detect_file(name, content)
  for inner, unpacked, _ in archive.unpack(io.BytesIO(content)):
    found, _ = _identify(inner, unpacked or b"")
    if found:
      return found
  raise _unknown_format(name, "a zip without such a file")


def read(name: str, content: bytes) -> ParsedAnswers:
  """Reads the answers of a file.

  Args:
    name: Name of the file, which becomes the source of the answers.
    content: The file, or a zip of such files.

  Returns:
    The answers, and a sentence for each part that could not be read.

  Raises:
    ValueError: If nothing can be read.
  """
  if archive.is_archive(content):
    return _with_source(_read_archive(name, io.BytesIO(content)), name)
  return _with_source(FORMATS[_detect_file(name, content)].read(content), name)


def read_file(
  path: epath.PathLike, *, items: Iterable[Item] = ()
) -> ParsedAnswers:
  """Reads the answers of a file on a disk or in a store.

  Args:
    path: The file. The images in a zip are not read.
    items: All images that file names in it may refer to, for tools that change
      the names; see `naming.to_ids`.

  Returns:
    The answers, and a sentence for each part that could not be read.

  Raises:
    OSError: If the file cannot be read.
    ValueError: If nothing in it can be read, or it is larger than
      `archive.MAX_BYTES`.
  """
  name = storage.as_path(path).name
  with storage.local_input(path) as local, open(local, "rb") as file:
    is_archive = archive.is_archive(file.read(4))
    file.seek(0)
    if is_archive:
      found = _with_source(_read_archive(name, file), name)
    else:
      found = read(name, _read_limited(name, file))
  return naming.to_ids(found, items)


def _read_limited(name: str, file: IO[bytes]) -> bytes:
  size = os.fstat(file.fileno()).st_size
  if size > archive.MAX_BYTES:
    raise ValueError(
      f"Expected {name!r} of <= {archive.MAX_BYTES} bytes, got {size}."
    )
  return file.read()


def _read_archive(name: str, file: IO[bytes]) -> ParsedAnswers:
  """Reads all files of a zip that have a format."""
  answers, problems, has_format = [], [], False
  for inner, content, problem in archive.unpack(file):
    format_name, why = _identify(inner, content or b"")
    if format_name and not problem:
      has_format = True
      found = _read_member(inner, format_name, content or b"")
      answers += found.answers
      problems += found.problems
    elif problem or why:
      problems.append(f"{inner!r}: {problem or why}")
  if not has_format:
    raise _unknown_format(
      name, "; ".join(["a zip without such a file", *problems])
    )
  return ParsedAnswers(tuple(answers), tuple(problems))


def _read_member(inner: str, format_name: str, content: bytes) -> ParsedAnswers:
  try:
    found = FORMATS[format_name].read(content)
  except ValueError as error:
    return ParsedAnswers((), (f"{inner!r}: {error}",))
  return found._replace(
    problems=tuple(f"{inner!r}: {problem}" for problem in found.problems)
  )


def _with_source(found: ParsedAnswers, name: str) -> ParsedAnswers:
  answers = tuple(answer._replace(source=name) for answer in found.answers)
  return found._replace(answers=answers)


def _detect_file(name: str, content: bytes) -> str:
  found, why = _identify(name, content)
  if not found:
    start = f"one that begins with {content[:40]!r}" if content else "nothing"
    raise _unknown_format(name, f"{start}. {why}".rstrip(" ."))
  return found


def _identify(name: str, content: bytes) -> tuple[str | None, str]:
  """Returns the format of a file; or None, and what is wrong if it is known.

  JSON of other programs has no format and nothing wrong: exports contain it.
  """
  value, why = None, ""
  try:
    value = parse_json(content)
  except ValueError as error:
    why = str(error) if name.lower().endswith(".json") else ""
  for key, format_ in FORMATS.items():
    if format_.matches(content, value):
      return key, ""
  for key, format_ in FORMATS.items():
    if name.lower().endswith(format_.endings):
      return key, ""
  return None, why


def _unknown_format(name: str, got: str) -> ValueError:
  titles = ", ".join(format_.title for format_ in FORMATS.values())
  return ValueError(f"Expected {name!r} as one of: {titles}; got {got}.")
