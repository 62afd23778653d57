"""Tests of decern_jax/data/table.py."""

import csv
import json
import pathlib
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
import openpyxl
import pytest

from decern_jax.data.table import Row, read_table
from tests.table import each


def write(path, text: str):
  path.write_text(text, encoding="utf-8")
  return path


def write_excel(path, rows):
  book = openpyxl.Workbook()
  for row in rows:
    book.worksheets[0].append(row)
  book.save(path)
  return path


class TestReadTable:
  @each("name, mark", [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
  @each("end", ["\n", "\r\n"])
  def test_reads_cells_by_their_heading(self, tmp_path, name, mark, end):
    lines = ["path,water", "a.png,1", "", "b.png,0", ""]
    text = end.join(lines).replace(",", mark)
    table = read_table(write(tmp_path / name, text))
    assert table.columns == ("path", "water")
    assert [row.values for row in table.rows] == [
      {"path": "a.png", "water": "1"},
      {"path": "b.png", "water": "0"},
    ]
    assert [row.number for row in table.rows] == [2, 4]

  def test_reads_quotes_and_a_byte_order_mark(self, tmp_path):
    text = '\ufeffpath,labels\n"a,b.png","sea;""dry"" dock"\n'
    (row,) = read_table(write(tmp_path / "a.csv", text)).rows
    assert row.values == {"path": "a,b.png", "labels": 'sea;"dry" dock'}

  def test_reads_the_table_of_uc_merced(self, tmp_path):
    text = "IMAGE\\LABEL\tairplane\ttrees\nagricultural00\t0\t1\n"
    table = read_table(write(tmp_path / "labels.txt", text))
    assert table.columns == ("IMAGE\\LABEL", "airplane", "trees")

  def test_reads_excel(self, tmp_path):
    rows = [["path", "sea"], ["a.png", 1], [None, None], ["b.png", 0], ["c"]]
    table = read_table(write_excel(tmp_path / "a.xlsx", rows))
    assert table.rows[1] == Row(4, {"path": "b.png", "sea": 0})
    assert table.rows[2] == Row(5, {"path": "c", "sea": None})

  def test_reads_json_by_the_line(self, tmp_path):
    values = [{"path": "a", "labels": ["x"]}, {"labels": [], "path": "b"}]
    text = "\n\n".join(map(json.dumps, values))
    table = read_table(write(tmp_path / "a.jsonl", text))
    assert table.columns == ("path", "labels")
    assert [row.values for row in table.rows] == values
    assert [row.number for row in table.rows] == [1, 3]

  @each(
    "name, text, match",
    [
      ("a.json", "{}", "one of .*'.csv'.* got '.*a.json'"),
      ("a.csv", "", "rows below a heading .* got none"),
      ("a.csv", "path,sea\n", "rows below a heading .* got none"),
      ("a.csv", "path,sea\na,1\nb\n", "2 cells in row 3 .* got 1"),
      ("a.csv", "path,sea,sea\na,1,1\n", "once .* several of .'sea'."),
      ("a.jsonl", '{"path": "a"}\nnot', "JSON in row 2"),
      ("a.jsonl", "[1]", r"an object in row 1 .* got \[1\]"),
      ("a.jsonl", '{"a": 1}\n{"b": 1}', r"\['a'\] in row 2 .* got \['b'\]"),
      ("a.xlsx", "not excel", "Expected an Excel file in .*a.xlsx"),
    ],
  )
  def test_rejects_what_is_no_table(self, tmp_path, name, text, match):
    with pytest.raises(ValueError, match=match):
      read_table(write(tmp_path / name, text))

  def test_rejects_a_missing_file(self, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
      read_table(tmp_path / "a.csv")


# Cells without a mark that only one of the formats has a meaning for.
TEXT = st.text(
  st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]),
  max_size=6,
)
SETTINGS = settings(max_examples=25, deadline=None, derandomize=True)


class TestProperties:
  @SETTINGS
  @given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.data())
  def test_csv_and_json_give_back_what_was_written(self, cells, data):
    mark = data.draw(st.sampled_from([",", ";", "\t"]))
    rows = [pair for pair in cells if any(pair)]
    with tempfile.TemporaryDirectory() as folder:
      file = pathlib.Path(folder) / "a.csv"
      with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=mark).writerows([("p", "q"), *rows])
      lines = [json.dumps({"p": p, "q": q}) for p, q in rows]
      other = write(pathlib.Path(folder) / "a.jsonl", "\n".join(lines))
      if not rows:
        return
      for path in (file, other):
        found = [row.values for row in read_table(path).rows]
        assert found == [{"p": p, "q": q} for p, q in rows]

  @SETTINGS
  @given(st.sampled_from([".csv", ".tsv", ".jsonl"]), st.text(max_size=40))
  def test_any_text_is_a_table_or_refused(self, suffix, text):
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / f"a{suffix}"
      path.write_text(text, encoding="utf-8", errors="replace", newline="")
      try:
        table = read_table(path)
      except ValueError:
        return
      assert table.rows
      for row in table.rows:
        assert tuple(row.values) == table.columns or suffix == ".jsonl"
