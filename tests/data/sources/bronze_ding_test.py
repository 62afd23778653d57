"""Tests of BronzeDing and its tables."""

import pathlib
import shutil
import zipfile

import numpy as np
import pytest

from decern_jax.data.sources.bronze_ding import (
  Row,
  load_bronze_ding,
  read_dates,
)
from tests.data import bronze
from tests.data.bronze import HEADINGS, write_table
from tests.table import each

ROWS = {
  "train": [("d3", 2), ("d1", 1), ("鼎2", 3)],
  "test": [("d9", 3), ("d8", 1)],
}


@pytest.fixture
def release(tmp_path) -> pathlib.Path:
  bronze.write_release(tmp_path, ROWS)
  return tmp_path


def load(path, **options):
  options = {"num_workers": 1, "num_classes": 3, "progress": False} | options
  return load_bronze_ding(path, **options)


class TestLoadBronzeDing:
  def test_images_and_labels_belong_together(self, release):
    dataset = load(release)
    for split in (dataset.train, dataset.test):
      assert split is not None
      for position, label in enumerate(split.labels):
        image = split.read(position)
        assert image.shape == (4, 6, 3)
        assert (image == label + 1).all()

  def test_order_is_that_of_the_tables(self, release):
    dataset = load(release)
    assert dataset.train.ids == (
      "train/d3.png",
      "train/d1.png",
      "train/鼎2.png",
    )
    assert dataset.train.labels.tolist() == [1, 0, 2]
    assert dataset.train.labels.dtype == np.int32
    assert dataset.test is not None
    assert dataset.test.ids == ("test/d9.png", "test/d8.png")
    assert dataset.val is None

  def test_classes_are_named_after_the_numbers(self, release):
    dataset = load(release)
    assert dataset.name == "bronze_ding"
    assert dataset.class_names == ("1", "2", "3")

  def test_path_may_be_the_inner_folder(self, release):
    outer, inner = load(release), load(release / "complete_DATASET")
    assert outer.train.ids == inner.train.ids
    assert outer.fingerprint == inner.fingerprint

  def test_fingerprint_changes_with_an_image(self, release):
    first = load(release).fingerprint
    (release / "complete_DATASET" / "delete_png" / "d8.png").write_bytes(
      (release / "complete_DATASET" / "delete_png" / "d9.png").read_bytes()
    )
    assert load(release).fingerprint != first

  def test_images_of_no_table_are_ignored(self, release):
    folder = release / "complete_DATASET" / "delete_png"
    before = load(release)
    (folder / "other.png").write_bytes(b"no image")
    assert load(release).fingerprint == before.fingerprint

  def test_check_of_images_is_kept(self, release, tmp_path):
    load(release, cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1

  def test_image_of_both_tables_is_told(self, tmp_path, caplog):
    both = ROWS | {"test": [("d1", 1), ("d9", 3)]}
    bronze.write_release(tmp_path, both)
    dataset = load(tmp_path)
    assert dataset.test is not None
    assert "test/d1.png" in dataset.test.ids
    assert "in the pool, got 1: d1." in caplog.text

  def test_no_warning_where_tables_are_disjoint(self, release, caplog):
    assert len(load(release).train.ids) == 3
    assert not caplog.records

  def test_accepts_expected_sizes(self, release):
    sizes = {"train": 3, "test": 2}
    dataset = load(release, num_examples=sizes)
    assert dataset.test is not None
    assert len(dataset.test.ids) == 2

  @each("split", ["train", "test"])
  def test_rejects_other_sizes(self, release, split):
    with pytest.raises(ValueError, match=f"1470 images in .*{split}.xlsx, got"):
      load(release, num_examples={split: 1470})

  def test_rejects_age_outside_the_classes(self, release):
    with pytest.raises(ValueError, match="ages from 1 to 2 .* got 3 for"):
      load(release, num_classes=2)

  def test_rejects_pool_without_an_image_of_a_class(self, release):
    with pytest.raises(ValueError, match=r"every age .* got none of \[4, 5\]"):
      load(release, num_classes=5)

  def test_rejects_missing_folder(self, tmp_path):
    with pytest.raises(
      ValueError, match="`path` .*nowhere, not a folder.*bronze-Ding"
    ):
      load(tmp_path / "nowhere")

  @each("name", ["delete_png", "train.xlsx", "test.xlsx"])
  def test_rejects_missing_part_of_the_release(self, tmp_path, name):
    path = bronze.write_release(tmp_path, ROWS) / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=rf"_DATASET lacks \[{name}\]"):
      load(tmp_path)

  def test_rejects_missing_images(self, release):
    for name in ("d3", "d1"):
      (release / "complete_DATASET" / "delete_png" / f"{name}.png").unlink()
    expected = r"train\.xlsx .* got none for 2 of 3: d3\.png, d1\.png\."
    with pytest.raises(ValueError, match=expected):
      load(release)

  def test_rejects_unreadable_image(self, release):
    image = release / "complete_DATASET" / "delete_png" / "d9.png"
    image.write_bytes(image.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"1 of 5 .*: test/d9\.png \("):
      load(release)


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
    return read_dates(file, **{"num_ages": 11} | options)

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
    assert read_dates(file, num_ages=11) == [Row("a", 1), Row("b", 2)]

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
      read_dates(file, num_ages=11)

  @each(
    "member, old, new",
    [
      ("xl/worksheets/sheet1.xml", b"</sheetData>", b"<sheetData>"),
      ("xl/workbook.xml", b"visibility=", b"eisibility="),
      ("[Content_Types].xml", b"</Types>", b""),
    ],
  )
  def test_rejects_damaged_excel_file(self, tmp_path, member, old, new):
    file = tmp_path / "train.xlsx"
    write_table(file, [HEADINGS, (1, "a", "", 1)])
    replace_inside(file, member, old, new)
    with pytest.raises(ValueError, match="Excel file in .*train.xlsx, got"):
      read_dates(file, num_ages=11)

  def test_rejects_missing_file(self, tmp_path):
    with pytest.raises(ValueError, match="Excel file in .*train.xlsx, got"):
      read_dates(tmp_path / "train.xlsx", num_ages=11)
