"""Broken files: answers and problems, or a `ValueError`; never another error.

Damage of every kind, drawn from seeds, to files that tools and people wrote.
"""

import copy
import io
import json
import pathlib
import zipfile

import numpy as np

from decern_jax.annotation import answers, formats
from decern_jax.annotation.answers import Answer
from tests.annotation.formats import queries
from tests.table import each

GOLDEN = pathlib.Path(__file__).parent / "golden"

ROWS = [(f"folder {n}/ü{n}.jpg", f"class {n % 3}") for n in range(40)]
TABLE = "id,label\n" + "".join(f'"{i}",{n}\n' for i, n in ROWS)
LINES = b"".join(answers.to_line(Answer(id_, (name,))) for id_, name in ROWS)


def zipped(*paths):
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
    for path in paths:
      opened.write(path, path.name)
  return out.getvalue()


GOLDENS = sorted(p for p in GOLDEN.iterdir() if p.suffix in (".json", ".xml"))
FILES = {
  **{path.name: path.read_bytes() for path in GOLDENS},
  "table.csv": TABLE.encode(),
  "excel.tsv": TABLE.replace(",", "\t").encode("utf-16"),
  "lines.jsonl": LINES,
  "all.zip": zipped(*GOLDENS),
}

JUNK = (
  b"\0",
  b'"',
  b"\n",
  b"\r",
  b",",
  b"<",
  b"&a;",
  b"\xff\xfe",
  b"\xed\xa0\x80",
  b"\\ud800",
  b"9" * 5000,
  b"1e999",
  b"[" * 3000,
  b"{" * 3000,
  b"<x>" * 3000,
  b"<!DOCTYPE a>",
  b"NaN",
)

VALUES = (
  None,
  True,
  -1,
  10**40,
  float("nan"),
  "",
  " ",
  "\ud800",
  "?",
  "-",
  [],
  [[]],
  {},
  ["cat", None],
  {"choices": 3},
)


def damage(random, content):
  """Bytes changed, cut out, cut off, doubled or put in."""
  content = bytearray(content) or bytearray(1)
  start, end = sorted(random.integers(len(content) + 1, size=2))
  match random.integers(5):
    case 0:
      for place in random.integers(len(content), size=random.integers(1, 9)):
        content[place] = random.integers(256)
    case 1:
      del content[start : min(end, start + 50)]
    case 2:
      del content[start:]
    case 3:
      content[start:start] = content[start:end]
    case 4:
      content[start:start] = JUNK[random.integers(len(JUNK))]
  return bytes(content)


def places(value, found):
  """Every place of a JSON value: what holds it, and by which key."""
  keys = range(len(value)) if isinstance(value, list) else [*value]
  for key in keys:
    found.append((value, key))
    if isinstance(value[key], list | dict):
      places(value[key], found)
  return found


def drawn(random):
  """A value of its own, as others are put into it."""
  return copy.deepcopy(VALUES[random.integers(len(VALUES))])


def check(name, content):
  """Reads a file, and checks that what was read is in order."""
  try:
    found = formats.read(name, content)
  except ValueError:
    return answers.ParsedAnswers((), ())
  for given in found.answers:
    line = json.loads(answers.to_line(given))
    assert answers.from_json(line) == given
    assert given.source == name
  for problem in found.problems:
    assert ": " in problem
  return found


class TestDamage:
  @each("name", FILES)
  def test_is_never_another_error(self, name):
    for seed in range(300):
      random = np.random.default_rng(seed)
      content = FILES[name]
      for _ in range(random.integers(1, 4)):
        content = damage(random, content)
      check(name, content)
      check("no ending", content)

  @each("path", GOLDENS)
  def test_other_kinds_of_values_are_never_another_error(self, path):
    if path.suffix != ".json":
      return
    for seed in range(200):
      random = np.random.default_rng(seed)
      value = json.loads(path.read_bytes())
      for _ in range(random.integers(1, 4)):
        found = places(value, [])
        if found:
          holder, key = found[random.integers(len(found))]
          holder[key] = drawn(random)
      check(path.name, json.dumps(value).encode())

  @each("name", FILES)
  def test_whole_files_have_no_problems(self, name):
    found = check(name, FILES[name])
    assert found.answers
    assert found.problems == ()


class TestLines:
  """What comes before the damage, and whole lines after it, is kept."""

  @each("name", ["table.csv", "lines.jsonl"])
  def test_a_file_that_is_cut_off_keeps_what_is_before(self, name):
    whole = check(name, FILES[name]).answers
    ends = [n + 1 for n, byte in enumerate(FILES[name]) if byte == ord("\n")]
    ends = ends[len(ends) - len(ROWS) :]
    for length in range(ends[0], len(FILES[name])):
      kept = sum(end <= length for end in ends)
      found = check(name, FILES[name][:length]).answers
      assert found[:kept] == whole[:kept]
      assert len(found) <= kept + 1

  @each("name", ["table.csv", "lines.jsonl"])
  @each("junk", JUNK)
  def test_junk_in_a_line_costs_that_line_alone(self, name, junk):
    whole = check(name, FILES[name]).answers
    lines = FILES[name].splitlines(keepends=True)
    skipped = len(lines) - len(ROWS)
    for place in (0, 17, len(ROWS) - 1):
      line = lines[skipped + place]
      for at in (0, len(line) // 2, len(line) - 1):
        damaged = line[:at] + junk + line[at:]
        content = [*lines]
        content[skipped + place] = damaged
        found = check(name, b"".join(content)).answers
        assert found[:place] == whole[:place]
        assert [a for a in found if a in whole[place + 1 :]] == [
          *whole[place + 1 :]
        ]

  def test_images_before_the_damage_are_kept(self):
    content = FILES["cvat_several.xml"]
    whole = check("a.xml", content).answers
    for length in range(content.index(b"<image"), len(content)):
      found = check("a.xml", content[:length])
      kept = content[:length].count(b"</image>")
      # The fourth image has no tags.
      assert found.answers == whole[: kept - (kept >= 4)]
      assert found.problems


class TestNothingIsLost:
  def test_each_line_is_an_answer_or_a_problem(self):
    for seed in range(200):
      random = np.random.default_rng(seed)
      lines = LINES.splitlines()
      for place in random.integers(len(lines), size=3):
        lines[place] = damage(random, lines[place]).replace(b"\n", b"")
      lines = [line for line in lines if line.strip() and b"\r" not in line]
      found = check("lines.jsonl", b"\n".join(lines))
      assert len(found.answers) + len(found.problems) == len(lines)

  def test_each_task_is_an_answer_or_a_problem(self):
    tasks = json.loads(FILES["label_studio_single.json"])
    tasks = [task for task in tasks if len(task["annotations"]) == 1]
    for seed in range(200):
      random = np.random.default_rng(seed)
      value = json.loads(json.dumps(tasks))
      (annotation,) = value[0]["annotations"]
      holder, key = places(annotation, [])[seed % len(places(annotation, []))]
      holder[key] = drawn(random)
      found = check("a.json", json.dumps(value).encode())
      assert len(found.answers) + len(found.problems) >= len(tasks)
      kept = {given.id: given.labels for given in found.answers}
      for task in tasks[1:]:
        id_ = task["data"]["id"]
        assert kept[id_] == queries.SINGLE[id_]
