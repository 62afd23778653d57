"""Formats of labels from people, by name: queries out, answers in."""

from collections.abc import Iterable
import io
import os
from typing import IO

from etils import epath

from decern_jax.annotation.answer import Found
from decern_jax.annotation.formats import (
  archive,
  csv_table,
  cvat,
  datumaro,
  fiftyone,
  json_lines,
  label_studio,
  naming,
)
from decern_jax.annotation.formats.format import Format
from decern_jax.annotation.formats.reading import parse_json
from decern_jax.annotation.query import Item
from decern_jax.io import storage

FORMATS: dict[str, Format] = {
  "label_studio": Format(
    "an export of Label Studio (JSON or JSON-MIN)",
    (),
    label_studio.matches,
    label_studio.read,
    label_studio.write,
  ),
  "datumaro": Format(
    "Datumaro JSON", (), datumaro.matches, datumaro.read, datumaro.write
  ),
  "fiftyone": Format(
    "the samples.json of a FiftyOneDataset",
    (),
    fiftyone.matches,
    fiftyone.read,
    fiftyone.write,
  ),
  "cvat": Format(
    "CVAT for images 1.1 XML", (".xml",), cvat.matches, cvat.read, cvat.write
  ),
  "jsonl": Format(
    "lines of JSON with id and labels",
    (".jsonl",),
    json_lines.matches,
    json_lines.read,
    json_lines.write,
  ),
  "csv": Format(
    "a table with the columns id (or path) and label (or labels)",
    (".csv", ".tsv"),
    csv_table.matches,
    csv_table.read,
    csv_table.write,
  ),
}
"""In the order in which they are tried on a file."""


def detect(name: str, content: bytes) -> str:
  """Says which format a file has, by its content.

  Args:
    name: Name of the file; its ending counts only if the content says nothing.
    content: The file. Of a zip, the first file that has a format counts.

  Returns:
    The name of the format in `FORMATS`.

  Raises:
    ValueError: If it has none of them, or is a broken zip.
  """
  if not archive.is_archive(content):
    return _detect(name, content)
  for inner, unpacked, _ in archive.files(io.BytesIO(content)):
    found, _ = _identify(inner, unpacked or b"")
    if found:
      return found
  raise _unknown(name, "a zip without such a file")


def read(name: str, content: bytes) -> Found:
  """Reads the answers of a file.

  Args:
    name: Name of the file: the source of the answers.
    content: The file, or a zip with such files.

  Returns:
    The answers, and a sentence for each part that is none.

  Raises:
    ValueError: If nothing of it can be read.
  """
  if archive.is_archive(content):
    return _with_source(_read_archive(name, io.BytesIO(content)), name)
  return _with_source(FORMATS[_detect(name, content)].read(content), name)


def read_file(path: epath.PathLike, *, items: Iterable[Item] = ()) -> Found:
  """Reads the answers of a file.

  Args:
    path: The file. A zip may hold images too: they are not read.
    items: All images that its names may mean, for tools that change them:
      see `naming.to_ids`.

  Returns:
    The answers, whose source is the name of the file, and a sentence for each
    part that is none.

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
      found = read(name, _content(name, file))
  return naming.to_ids(found, items)


def _content(name: str, file: IO[bytes]) -> bytes:
  size = os.fstat(file.fileno()).st_size
  if size > archive.MAX_BYTES:
    raise ValueError(
      f"Expected {name!r} of <= {archive.MAX_BYTES} bytes, got {size}."
    )
  return file.read()


def _read_archive(name: str, file: IO[bytes]) -> Found:
  """Reads all files of a zip that have a format."""
  answers, problems, is_known = [], [], False
  for inner, content, problem in archive.files(file):
    format_, why = _identify(inner, content or b"")
    if format_ and not problem:
      is_known = True
      found = _read_member(inner, format_, content)
      answers += found.answers
      problems += found.problems
    elif problem or why:
      problems.append(f"{inner!r}: {problem or why}")
  if not is_known:
    raise _unknown(name, "; ".join(["a zip without such a file", *problems]))
  return Found(tuple(answers), tuple(problems))


def _read_member(inner: str, format_: str, content: bytes) -> Found:
  try:
    found = FORMATS[format_].read(content)
  except ValueError as error:
    return Found((), (f"{inner!r}: {error}",))
  return found._replace(
    problems=tuple(f"{inner!r}: {problem}" for problem in found.problems)
  )


def _with_source(found: Found, name: str) -> Found:
  answers = tuple(answer._replace(source=name) for answer in found.answers)
  return found._replace(answers=answers)


def _detect(name: str, content: bytes) -> str:
  found, why = _identify(name, content)
  if not found:
    start = f"one that begins with {content[:40]!r}" if content else "nothing"
    raise _unknown(name, f"{start}. {why}".rstrip(" ."))
  return found


def _identify(name: str, content: bytes) -> tuple[str | None, str]:
  """Returns the format of a file, or None and what is wrong with it, if known.

  Other files of JSON are in order, and in many zips.
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


def _unknown(name: str, got: str) -> ValueError:
  titles = ", ".join(format_.title for format_ in FORMATS.values())
  return ValueError(f"Expected {name!r} as one of: {titles}; got {got}.")
