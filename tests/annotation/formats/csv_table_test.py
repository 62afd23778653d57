"""Tests of decern_jax/annotation/formats/csv_table.py."""

import csv
import io

from hypothesis import given, settings
import pytest

from decern_jax.annotation.answers import Answer
from decern_jax.annotation.formats import csv_table
from tests.annotation.formats import queries
from tests.table import each

ODD_IDS = (
  "a,b.jpg",
  'say "hi".jpg',
  "line\nbreak.jpg",
  "line\r\nbreak.jpg",
  "return\rbreak.jpg",
  " spaces .jpg",
  "=1+1",
  "-",
  "\udcff\udc80.jpg",
  "ünï 猫.jpg",
  "a;b\tc",
  "line\u2028separator\x0b.jpg",
)


def table(asked, tmp_path):
  """The rows that `write` writes, as a spreadsheet has them."""
  (path,) = csv_table.write(asked, tmp_path)
  text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
  return list(csv.reader(io.StringIO(text, newline="")))


def saved(rows, *, delimiter=",", encoding="utf-8"):
  """The file that a spreadsheet saves."""
  text = io.StringIO(newline="")
  csv.writer(text, delimiter=delimiter).writerows(rows)
  return text.getvalue().encode(encoding, "surrogateescape")


def fill_in(paths, labels):
  """Writes labels into the table of a query, as a spreadsheet does."""
  text = paths[0].read_bytes().decode("utf-8-sig", "surrogateescape")
  header, *rows = csv.reader(io.StringIO(text, newline=""))
  for row in rows:
    if row[0] in labels:
      names = labels[row[0]]
      row[5] = "?" if names is None else ";".join(names) or "-"
  return saved([header, *rows])


def answers(content):
  found = csv_table.read(content)
  assert found.problems == ()
  return [answer[:4] for answer in found.answers]


class TestWrite:
  def test_has_a_row_for_each_image_in_order(self, tmp_path):
    header, *rows = table(queries.query(), tmp_path)
    assert header == [
      "id",
      "path",
      "score",
      "predicted",
      "probability",
      "label",
      "annotator",
    ]
    assert [row[0] for row in rows] == list(queries.IDS)
    assert rows[1] == ["a b.jpg", "/images/a b.jpg", "0.25", "cat", "0.75"] + [
      "",
      "",
    ]

  def test_several_labels_have_their_column_and_all_likely_classes(
    self, tmp_path
  ):
    header, *rows = table(queries.query(is_multi_label=True), tmp_path)
    assert "labels" in header
    assert rows[0][3] == 'cat;dog & "wolf"'

  def test_is_for_spreadsheets_that_know_utf8_by_its_mark(self, tmp_path):
    (path,) = csv_table.write(queries.query(), tmp_path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid,path,")

  def test_no_model_predicts_nothing(self, tmp_path):
    asked = queries.query()
    items = tuple(i._replace(score=None, predictions=()) for i in asked.items)
    _, row, *_ = table(asked._replace(items=items), tmp_path)
    assert row[2:] == ["", "", "", "", ""]

  def test_what_is_written_is_not_answered(self, tmp_path):
    for is_multi_label in (False, True):
      asked = queries.query(is_multi_label=is_multi_label, ids=ODD_IDS)
      (path,) = csv_table.write(asked, tmp_path)
      assert csv_table.read(path.read_bytes()) == ((), ())

  @each("delimiter", [",", ";", "\t"])
  def test_odd_ids_come_back(self, tmp_path, delimiter):
    header, *rows = table(queries.query(ids=ODD_IDS), tmp_path)
    for row in rows:
      row[5] = "cat"
    content = saved([header, *rows], delimiter=delimiter)
    assert [answer[0] for answer in answers(content)] == list(ODD_IDS)

  @each("name", ["-", "?"])
  def test_refuses_a_class_with_a_reserved_name(self, tmp_path, name):
    asked = queries.query()._replace(class_names=("cat", name))
    with pytest.raises(ValueError, match=rf"\['\{name}'\]"):
      csv_table.write(asked, tmp_path)

  def test_refuses_a_class_that_is_split_as_several(self, tmp_path):
    asked = queries.query()._replace(class_names=("cat;dog",))
    csv_table.write(asked, tmp_path)
    with pytest.raises(ValueError, match="cat;dog"):
      csv_table.write(asked._replace(is_multi_label=True), tmp_path)


class TestRead:
  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(queries.answered())
  def test_returns_what_people_fill_in(self, case):
    queries.check_round_trip(csv_table.FORMAT, case, fill_in)

  def test_takes_who_and_when(self):
    content = b"time,id,annotator,label\n2026-11-21,a,mira,cat\n"
    assert answers(content) == [("a", ("cat",), "mira", "2026-11-21")]

  def test_one_label_is_never_split(self):
    assert answers(b"id,label\na,x;y\n") == [("a", ("x;y",), "", "")]

  def test_several_labels_are_split(self):
    content = b"id,labels\na, x ;y;x;\nb,x\n"
    assert [a[1] for a in answers(content)] == [("x", "y"), ("x",)]

  def test_an_empty_cell_is_no_answer(self):
    assert answers(b'id,label\na,\nb\nc," "\n\n,\n') == []

  def test_says_none_of_the_labels_and_skipped(self):
    content = b"id,labels\na,-\nb,?\n"
    assert [a[1] for a in answers(content)] == [(), None]
    assert [a[1] for a in answers(b"id,label\nb,?\n")] == [None]

  def test_refuses_none_of_the_labels_where_there_is_one(self):
    found = csv_table.read(b"id,label\na,-\nb,cat\n")
    assert [answer.id for answer in found.answers] == ["b"]
    assert "'-'" in found.problems[0]

  @each("cell", ["-;x", "x;?", "-;?", ";", " ; "])
  def test_refuses_contradictions(self, cell):
    found = csv_table.read(f'id,labels\na,"{cell}"\n'.encode())
    assert found.answers == ()
    assert found.problems[0].startswith("line 2: ")

  def test_the_path_stands_for_a_missing_id(self):
    assert answers(b"path,label\n/a/b,cat\n")[0][0] == "/a/b"
    assert answers(b"id,path,label\n,/a/b,cat\n")[0][0] == "/a/b"

  def test_the_first_of_two_columns_with_one_name_counts(self):
    assert answers(b"id,label,ID\na,cat,b\n")[0][0] == "a"

  def test_a_label_without_an_image_is_a_problem(self):
    found = csv_table.read(b"id,label\n,cat\n")
    assert found.answers == ()
    assert len(found.problems) == 1

  @each(
    "header",
    ["ID , Label", "sep=,\r\nid,label", "\n\nid,label", '"id","label"'],
  )
  def test_takes_headers_as_people_write_them(self, header):
    assert answers(f"{header}\r\na,cat\r\n".encode())[0][:2] == ("a", ("cat",))

  @each("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
  @each("delimiter", [",", ";", "\t"])
  def test_takes_what_spreadsheets_save(self, encoding, delimiter):
    rows = [["id", "label"], ["ü, 猫;\n.jpg", "Katze"]]
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    rows[0][0] = mark + rows[0][0]
    content = saved(rows, delimiter=delimiter, encoding=encoding)
    assert answers(content) == [("ü, 猫;\n.jpg", ("Katze",), "", "")]

  def test_takes_another_delimiter_if_told(self):
    assert answers(b"sep=|\nid|label\na|x,y\n")[0][:2] == ("a", ("x,y",))

  def test_a_file_of_another_encoding_keeps_what_is_readable(self):
    found = csv_table.read("id,label\na,cat\nb,Kätzchen\n".encode("latin-1"))
    assert [answer.id for answer in found.answers] == ["a"]
    assert found.problems[0].startswith("line 3: ")

  def test_a_cell_too_many_is_no_part_of_the_label(self):
    found = csv_table.read(b"id,label\na,tabby, orange\nb,cat,,\n")
    assert [answer.id for answer in found.answers] == ["b"]
    assert "orange" in found.problems[0]

  @each("line", ['"b,cat', '"b"x,cat', 'b,"cat', '"', "x" * 200_000 + ",cat"])
  def test_a_broken_line_costs_that_line_alone(self, line):
    good = [f"{n}.jpg" for n in range(300)]
    rows = "".join(f"{name},cat\n" for name in good)
    found = csv_table.read(f"id,label\na,cat\n{line}\n{rows}".encode())
    assert [answer.id for answer in found.answers] == ["a", *good]
    (problem,) = found.problems
    assert problem.startswith("line 3: ")

  @each("distance", [1, 50, 99, 100, 150])
  @each("end", ['z,cat"', '"'])
  def test_a_quote_closed_elsewhere_takes_no_lines_with_it(self, distance, end):
    good = [f"{n}.jpg" for n in range(distance)]
    rows = "".join(f"{name},cat\n" for name in good)
    found = csv_table.read(f'id,label\n"a,cat\n{rows}{end}\nb,cat\n'.encode())
    kept = [answer.id for answer in found.answers]
    assert [id_ for id_ in kept if id_ != "z"] == [*good, "b"]
    assert found.problems[0].startswith("line 2: ")

  def test_a_cell_of_many_lines_is_no_row(self):
    rows = "".join(f"{n}.jpg,cat\n" for n in range(200))
    found = csv_table.read(f'id,label\n"a,cat\n{rows}b",cat\n'.encode())
    assert len(found.answers) >= 200

  def test_an_open_quote_is_told(self):
    found = csv_table.read(b'id,label\n"b,cat\nc,cat\n')
    assert [answer.id for answer in found.answers] == ["c"]
    assert found.problems[0].startswith("line 2: ")

  def test_lines_are_numbered_as_in_an_editor(self):
    found = csv_table.read(b'id,label\n"a\nb",cat\n\nc,a,b\n')
    assert found.answers == (Answer("a\nb", ("cat",)),)
    assert found.problems[0].startswith("line 5: ")

  @each(
    "content",
    [
      b"",
      b"\n",
      b"a,b\n1,2\n",
      b"id,name\n",
      b"label,labels\n",
      b"id,label,labels\n",
      b"id,label,Label\n",
      b'"id,label\n',
      b"sep=,\n",
      b'sep="\nid"label\n',
      b"sep=\xff\nid,label",
      b"\xff\xfe",
      b"annotation_id,id,label\n1,6,cat\n",
    ],
  )
  def test_refuses_a_table_without_the_columns(self, content):
    with pytest.raises(ValueError, match="Expected"):
      csv_table.read(content)
    assert not csv_table.matches(content, None)

  def test_says_what_to_export_from_label_studio(self):
    with pytest.raises(ValueError, match="export JSON"):
      csv_table.read(b"annotation_id,id,label\n1,6,cat\n")

  def test_reads_many_rows(self):
    # In quadratic time this would take minutes.
    rows = "".join(f"{n}.jpg,cat\n" for n in range(10_000))
    assert len(csv_table.read(f"id,label\n{rows}".encode()).answers) == 10_000
