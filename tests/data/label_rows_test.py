"""Tests of decern_jax/data/label_rows.py."""

import json

import openpyxl
import pytest

from decern_jax.data.label_rows import read_table
from tests.table import each


def write(path, text: str):
  path.write_text(text, encoding="utf-8")
  return path


def write_excel(path, rows):
  book = openpyxl.Workbook()
  for row in rows:
    book.active.append(row)
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
    assert [record.values for record in table.records] == [
      {"path": "a.png", "water": "1"},
      {"path": "b.png", "water": "0"},
    ]
    assert [record.number for record in table.records] == [2, 4]

  def test_reads_quotes_and_a_byte_order_mark(self, tmp_path):
    text = '\ufeffpath,labels\n"a,b.png","sea;""dry"" dock"\n'
    (record,) = read_table(write(tmp_path / "a.csv", text)).records
    assert record.values == {"path": "a,b.png", "labels": 'sea;"dry" dock'}

  def test_reads_the_table_of_uc_merced(self, tmp_path):
    text = "IMAGE\\LABEL\tairplane\ttrees\nagricultural00\t0\t1\n"
    table = read_table(write(tmp_path / "labels.txt", text))
    assert table.columns == ("IMAGE\\LABEL", "airplane", "trees")

  def test_reads_excel(self, tmp_path):
    rows = [["path", "sea"], ["a.png", 1], [None, None], ["b.png", 0], ["c"]]
    table = read_table(write_excel(tmp_path / "a.xlsx", rows))
    assert table.records[1] == (4, {"path": "b.png", "sea": 0})
    assert table.records[2] == (5, {"path": "c", "sea": None})

  def test_reads_json_by_the_line(self, tmp_path):
    values = [{"path": "a", "labels": ["x"]}, {"labels": [], "path": "b"}]
    text = "\n\n".join(map(json.dumps, values))
    table = read_table(write(tmp_path / "a.jsonl", text))
    assert table.columns == ("path", "labels")
    assert [record.values for record in table.records] == values
    assert [record.number for record in table.records] == [1, 3]

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
      ("a.xlsx", "not excel", "Expected Excel in .*a.xlsx"),
    ],
  )
  def test_rejects_what_is_no_table(self, tmp_path, name, text, match):
    with pytest.raises(ValueError, match=match):
      read_table(write(tmp_path / name, text))

  def test_rejects_a_missing_file(self, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
      read_table(tmp_path / "a.csv")
