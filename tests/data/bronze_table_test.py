"""Tests of decern_jax/data/bronze_table.py."""

import pathlib
import zipfile

import pytest

from decern_jax.data.bronze_table import Row, read_table
from tests.data.bronze import HEADINGS, write_table
from tests.table import each


def replace_inside(
  file: pathlib.Path, member: str, old: bytes, new: bytes
) -> None:
  """Replaces what occurs once in a file of an archive."""
  with zipfile.ZipFile(file) as archive:
    data = {name: archive.read(name) for name in archive.namelist()}
  assert data[member].count(old) == 1
  data[member] = data[member].replace(old, new)
  with zipfile.ZipFile(file, "w") as archive:
    for name, content in data.items():
      archive.writestr(name, content)


@pytest.fixture
def read(tmp_path):
  """Writes rows below the headings, and reads them."""

  def read_rows(*rows, **options):
    file = tmp_path / "train.xlsx"
    write_table(file, [HEADINGS, *rows])
    return read_table(file, **{"num_ages": 11} | options)

  return read_rows


class TestReadTable:
  def test_name_and_age_are_in_the_2nd_and_4th_column(self, read):
    rows = read((1, "d0015", "鼎", 11, "book", 3), (2, "a", 5, 1))
    assert rows == [Row("d0015", 11), Row("a", 1)]

  def test_empty_rows_are_ignored(self, read):
    rows = read((1, "a", "", 1), (), (2, "b", "", 2), (None,) * 6, (None,))
    assert rows == [Row("a", 1), Row("b", 2)]

  def test_name_may_be_a_number(self, read):
    assert read((1, 1024, "", 3)) == [Row("1024", 3)]

  def test_whole_number_may_be_written_with_a_point(self, read):
    (row,) = read((1, "a", "", 3.0))
    assert row == Row("a", 3)
    assert type(row.age) is int

  def test_recorded_dimensions_are_not_trusted(self, read, tmp_path):
    assert len(read((1, "a", "", 1), (2, "b", "", 2))) == 2
    file = tmp_path / "train.xlsx"
    replace_inside(file, "xl/worksheets/sheet1.xml", b'"A1:F3"', b'"A1"')
    assert read_table(file, num_ages=11) == [Row("a", 1), Row("b", 2)]

  def test_accepts_expected_number(self, read):
    assert len(read((1, "a", "", 1), num_rows=1)) == 1

  def test_rejects_other_number(self, read):
    with pytest.raises(ValueError, match="1470 images in .*train.xlsx, got 1"):
      read((1, "a", "", 1), num_rows=1470)

  def test_rejects_table_of_headings_alone(self, read):
    with pytest.raises(ValueError, match="Expected some images in .* got 0"):
      read()

  @each("name", [None, " ", 1.5, True])
  def test_rejects_what_is_no_name(self, read, name):
    with pytest.raises(ValueError, match=f"cell 2 of row 3 .* got {name!r}"):
      read((1, "a", "", 1), (2, name, "", 1))

  @each("age", [None, "3", 2.5, True])
  def test_rejects_age_that_is_no_whole_number(self, read, age):
    with pytest.raises(ValueError, match=f"cell 4 of row 3 .* got {age!r}"):
      read((1, "a", "", 1), (2, "b", "", age, "book"))

  @each("age", [0, 12])
  def test_rejects_age_outside_the_classes(self, read, age):
    with pytest.raises(ValueError, match=f"1 to 11 .* got {age} for image 'b'"):
      read((1, "a", "", 1), (2, "b", "", age))

  def test_rejects_repeated_name(self, read):
    with pytest.raises(ValueError, match=r"once in .*train\.xlsx.*\[a\]"):
      read((1, "a", "", 1), (2, "b", "", 1), (3, "a", "", 2))

  @each("data", [b"", b"id,name\n", b"PK\x05\x06" + b"\0" * 18])
  def test_rejects_what_is_no_excel_file(self, tmp_path, data):
    file = tmp_path / "train.xlsx"
    file.write_bytes(data)
    with pytest.raises(ValueError, match="Excel file in .*train.xlsx, got"):
      read_table(file, num_ages=11)

  @each(
    "member, old, new",
    [
      ("xl/worksheets/sheet1.xml", b"</sheetData>", b"<sheetData>"),
      ("xl/workbook.xml", b"visibility=", b"eisibility="),
      ("[Content_Types].xml", b"</Types>", b""),
    ],
  )
  def test_rejects_damaged_excel_file(self, read, tmp_path, member, old, new):
    assert len(read((1, "a", "", 1))) == 1
    file = tmp_path / "train.xlsx"
    replace_inside(file, member, old, new)
    with pytest.raises(ValueError, match="Excel file in .*train.xlsx, got"):
      read_table(file, num_ages=11)

  def test_rejects_missing_file(self, tmp_path):
    with pytest.raises(ValueError, match="Excel file in .*train.xlsx, got"):
      read_table(tmp_path / "train.xlsx", num_ages=11)
