"""Broken files: answers and problems, or a `ValueError`; never another error.

Damage of every kind to files that tools and people wrote.
"""

import copy
import io
import json
import pathlib
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st

from decern_jax.annotation import answers, formats
from decern_jax.annotation.answers import Answer, ParsedAnswers
from tests.annotation.formats import queries
from tests.table import each

GOLDEN = pathlib.Path(__file__).parent / "golden"
ENDINGS = (".json", ".xml", ".csv", ".tsv", ".jsonl")
GOLDENS = sorted(p for p in GOLDEN.iterdir() if p.suffix in ENDINGS)

ROWS = [(f"folder {n}/ü{n}.jpg", f"class {n % 3}") for n in range(20)]
TABLE = "id,label\n" + "".join(f'"{i}",{n}\n' for i, n in ROWS)
LINES = b"".join(answers.to_line(Answer(id_, (name,))) for id_, name in ROWS)
LINE_FILES = {"table.csv": TABLE.encode(), "lines.jsonl": LINES}


def zipped(*paths):
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
    for path in paths:
      opened.write(path, path.name)
  return out.getvalue()


FILES = {
  **{path.name: path.read_bytes() for path in GOLDENS},
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


def examples(count):
  return settings(max_examples=count, deadline=None, derandomize=True)


@st.composite
def damaged(draw, content: bytes) -> bytes:
  """Changes, cuts out, cuts off, doubles or inserts bytes, once or more."""
  for _ in range(draw(st.integers(1, 3))):
    start, end = sorted(draw(st.integers(0, len(content))) for _ in range(2))
    some = st.binary(max_size=8) | st.sampled_from(JUNK)
    content = draw(
      st.sampled_from(
        [
          content[:start] + draw(some) + content[end:],
          content[:start] + draw(some) + content[start:],
          content[:start] + content[min(end, start + 50) :],
          content[:start],
          content[:end] + content[start:],
        ]
      )
    )
  return content


def places(value, found):
  """Every place of a JSON value: what holds it, and by which key."""
  keys = range(len(value)) if isinstance(value, list) else [*value]
  for key in keys:
    found.append((value, key))
    if isinstance(value[key], list | dict):
      places(value[key], found)
  return found


@st.composite
def with_other_values(draw, value):
  """Puts values of other types into some places of a JSON value."""
  value = copy.deepcopy(value)
  for _ in range(draw(st.integers(1, 3))):
    found = places(value, [])
    if found:
      holder, key = draw(st.sampled_from(found))
      holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
  return value


def check(name, content):
  """Reads a file, and checks that what was read is in order."""
  try:
    found = formats.read(name, content)
  except ValueError:
    return ParsedAnswers((), ())
  for answer in found.answers:
    line = json.loads(answers.to_line(answer))
    assert answers.from_json(line) == answer
    assert answer.source == name
  for problem in found.problems:
    assert ": " in problem
  return found


class TestDamage:
  @each("name", FILES)
  def test_is_never_another_error(self, name):
    @examples(40)
    @given(damaged(FILES[name]))
    def run(content):
      check(name, content)
      check("no ending", content)

    run()

  @each("path", [path for path in GOLDENS if path.suffix == ".json"])
  def test_other_types_of_values_are_never_another_error(self, path):
    @examples(40)
    @given(with_other_values(json.loads(path.read_bytes())))
    def run(value):
      check(path.name, json.dumps(value).encode())

    run()

  @each("name", FILES)
  def test_whole_files_have_no_problems(self, name):
    found = check(name, FILES[name])
    assert found.answers
    assert found.problems == ()


class TestLines:
  """What comes before the damage, and whole lines after it, is kept."""

  @examples(80)
  @given(st.sampled_from(sorted(LINE_FILES)), st.data())
  def test_a_file_that_is_cut_off_keeps_what_is_before(self, name, data):
    content = LINE_FILES[name]
    whole = check(name, content).answers
    ends = [n + 1 for n, byte in enumerate(content) if byte == ord("\n")]
    ends = ends[len(ends) - len(ROWS) :]
    length = data.draw(st.integers(ends[0], len(content)))
    kept = sum(end <= length for end in ends)
    found = check(name, content[:length]).answers
    assert found[:kept] == whole[:kept]
    assert len(found) <= kept + 1

  @each("name", LINE_FILES)
  @each("junk", JUNK)
  def test_junk_in_a_line_affects_that_line_only(self, name, junk):
    content = LINE_FILES[name]
    whole = check(name, content).answers
    lines = content.splitlines(keepends=True)
    skipped = len(lines) - len(ROWS)
    for row in (0, 7, len(ROWS) - 1):
      line = lines[skipped + row]
      for at in (0, len(line) // 2, len(line) - 1):
        changed = [*lines]
        changed[skipped + row] = line[:at] + junk + line[at:]
        found = check(name, b"".join(changed)).answers
        assert found[:row] == whole[:row]
        assert [a for a in found if a in whole[row + 1 :]] == [
          *whole[row + 1 :]
        ]

  @examples(60)
  @given(st.data())
  def test_images_before_the_damage_are_kept(self, data):
    content = FILES["cvat_several.xml"]
    whole = check("a.xml", content).answers
    start = content.index(b"<image")
    length = data.draw(st.integers(start, len(content) - 1))
    found = check("a.xml", content[:length])
    kept = content[:length].count(b"</image>")
    # The fourth image has no tags.
    assert found.answers == whole[: kept - (kept >= 4)]
    assert found.problems


class TestNothingIsLost:
  @examples(80)
  @given(st.data())
  def test_each_line_is_an_answer_or_a_problem(self, data):
    lines = LINES.splitlines()
    for row in data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=3)):
      lines[row] = data.draw(damaged(lines[row])).replace(b"\n", b"")
    lines = [line for line in lines if line.strip() and b"\r" not in line]
    found = check("lines.jsonl", b"\n".join(lines))
    assert len(found.answers) + len(found.problems) == len(lines)

  def test_each_task_is_an_answer_or_a_problem(self):
    tasks = json.loads(FILES["label_studio_single.json"])
    tasks = [task for task in tasks if len(task["annotations"]) == 1]
    (annotation,) = tasks[0]["annotations"]
    for index in range(len(places(annotation, []))):
      for other in VALUES:
        value = copy.deepcopy(tasks)
        holder, key = places(value[0]["annotations"][0], [])[index]
        holder[key] = copy.deepcopy(other)
        found = check("a.json", json.dumps(value).encode())
        assert len(found.answers) + len(found.problems) >= len(tasks)
        kept = {answer.id: answer.labels for answer in found.answers}
        for task in tasks[1:]:
          id_ = task["data"]["id"]
          assert kept[id_] == queries.SINGLE[id_]
