"""Tests of label files: their columns, labels and splits."""

import dataclasses
import json
import pathlib
import re
import tempfile

from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from decern_jax.data.label_table import (
  Columns,
  LabelTable,
  find_columns,
  find_splits,
  random_splits,
  read_label_table,
)
from decern_jax.data.table import Table
from tests.table import each


def find(*names: str, **given) -> Columns:
  return find_columns(Table(pathlib.Path("f"), names, ()), Columns(**given))


class TestFindColumns:
  @each("path", ["path", "Image", "file_name", "IMAGE\\LABEL"])
  def test_names_tell_the_columns(self, path):
    assert find("sea", path, "Split", "dock") == Columns(
      path, "Split", None, ("sea", "dock")
    )

  @each("name", ["label", "Labels", "class", "tags"])
  def test_column_of_names_goes_before_columns_of_0_and_1(self, name):
    found = find("path", "region", name)
    assert (found.names, found.binary) == (name, ())

  def test_what_is_given_goes_before_names(self):
    found = find(
      "path",
      "image",
      "labels",
      "sea",
      "part",
      path="image",
      split="part",
      binary=("sea",),
    )
    assert found == Columns("image", "part", None, ("sea",))

  def test_ignored_columns_are_nothing(self):
    found = find(
      "path", "split", "labels", "sea", "x", ignored=("split", "labels", "x")
    )
    assert found == Columns(
      "path", None, None, ("sea",), ("split", "labels", "x")
    )

  @each(
    "names, given, match",
    [
      (("where", "sea"), {}, r"\['where', 'sea'\]. Name it in `path_column`"),
      (("path", "image"), {}, "Name it in `path_column`"),
      (("path", "split", "subset"), {}, "Name it in `split_column`"),
      (("path", "label", "tags"), {}, "Name it in `label_column`"),
      (("path", "sea"), {"split": "part"}, r"columns \['part'\] in f"),
    ],
  )
  def test_rejects_columns_that_are_not_told_apart(self, names, given, match):
    with pytest.raises(ValueError, match=match):
      find(*names, **given)


def read(tmp_path, text: str, *, name="labels.csv", **options):
  path = tmp_path / name
  path.write_text(text)
  return read_label_table(path, **options)


class TestReadLabelTable:
  def test_columns_of_0_and_1_are_labels_in_their_order(self, tmp_path):
    table = read(tmp_path, "split,water,path,land\ntrain,0,a,1\ntest,1,b,1\n")
    assert table.class_names == ("water", "land")
    assert table.labels.dtype == np.int32
    assert table.labels.tolist() == [[0, 1], [1, 1]]
    assert table.paths == ("a", "b")
    assert table.splits == ("train", "test")
    assert table.rows == (2, 3)

  @each("yes", ["1", "1.0", "true", "True"])
  def test_reads_yes_in_several_ways(self, tmp_path, yes):
    table = read(tmp_path, f"path,a,b\nx,{yes},0\ny,0,{yes}\n")
    assert table.labels.tolist() == [[1, 0], [0, 1]]

  @each(
    "cells",
    [("sea;dock", "dock"), ("sea|dock", "dock"), ("sea ; dock;", "dock")],
  )
  def test_lists_of_names_are_several_labels(self, tmp_path, cells):
    text = "path,labels\n" + "".join(f"{i},{c}\n" for i, c in enumerate(cells))
    table = read(tmp_path, text)
    assert table.class_names == ("dock", "sea")
    assert table.labels.tolist() == [[1, 1], [1, 0]]
    assert table.splits is None

  def test_lists_of_json_are_several_labels(self, tmp_path):
    table = read(tmp_path, 'path,tags\na,"[""sea"", ""b;c""]"\nb,[]\n')
    assert table.class_names == ("b;c", "sea")
    assert table.labels.tolist() == [[1, 1], [0, 0]]

  def test_reads_json_by_the_line(self, tmp_path):
    rows = [
      {"path": "a", "split": "train", "labels": ["x", "y"]},
      {"path": "b", "split": "validation", "labels": []},
    ]
    text = "\n".join(map(json.dumps, rows))
    table = read(tmp_path, text, name="a.jsonl")
    assert table.labels.tolist() == [[1, 1], [0, 0]]
    assert table.splits == ("train", "val")

  def test_one_name_per_image_is_a_single_label(self, tmp_path):
    table = read(tmp_path, "image,label\na,10\nb,9\nc,10\n")
    assert table.class_names == ("9", "10")
    assert table.labels.dtype == np.int32
    assert table.labels.tolist() == [1, 0, 1]

  @each(
    "heading, cells, is_multi_label, num_axes",
    [
      ("label", ("sea", "dock"), None, 1),
      ("label", ("sea", "dock"), True, 2),
      ("label", ("sea;dock", "dock"), None, 2),
      ("label", ("", "dock;sea"), None, 2),
      ("labels", ("sea", "dock"), None, 2),
      ("labels", ("sea", "dock"), False, 1),
    ],
  )
  def test_kind_is_told_by_the_column_or_the_option(
    self, tmp_path, heading, cells, is_multi_label, num_axes
  ):
    text = f"path,{heading}\na,{cells[0]}\nb,{cells[1]}\n"
    table = read(tmp_path, text, is_multi_label=is_multi_label)
    assert table.labels.ndim == num_axes

  def test_columns_are_named_by_options(self, tmp_path):
    text = (
      "path,where,labels,sea,dock,part\nno,a,x;y,0,1,test\nno,b,z,1,1,val\n"
    )
    columns = Columns(path="where", split="part", binary=("dock", "sea"))
    table = read(tmp_path, text, columns=columns)
    assert table.paths == ("a", "b")
    assert table.class_names == ("dock", "sea")
    assert table.labels.tolist() == [[1, 0], [1, 1]]
    assert table.splits == ("test", "val")
    columns = dataclasses.replace(columns, binary=(), names="labels")
    assert read(tmp_path, text, columns=columns).class_names == ("x", "y", "z")

  def test_ignored_columns_are_no_labels(self, tmp_path):
    text = "path,region,sea,dock\na,7,0,1\nb,8,1,0\n"
    table = read(tmp_path, text, columns=Columns(ignored=("region",)))
    assert table.class_names == ("sea", "dock")

  @each(
    "text, match",
    [
      (
        "path,region,sea,dock\na,1,0,1\nb,7,1,x\n",
        r"'region': '7' in row 3, 'dock': 'x' in row 3.*`ignored_columns`",
      ),
      ("path,sea,dock\na,,1\n", "'sea': '' in row 2"),
      ("where,sea,dock\na,0,1\n", r"\['where', 'sea', 'dock'\].*`path_column`"),
      ("path,image,sea,dock\na,b,0,1\n", r"\['path', 'image'\].*`path_column`"),
      ("path,label,tags\na,b,c\n", r"\['label', 'tags'\].*`label_column`"),
      ("path,split,subset,label\na,b,c,d\n", "`split_column`"),
      ("path,sea,dock\na,0,1\nb,0,1\na,1,1\n", r"of \[a\].* rows 2, 4"),
      ("path,sea,dock\n ,0,1\n", "path in column 'path', row 2 .* got ' '"),
      (
        "path,split,sea,dock\na,train,0,1\nb,trian,0,1\n",
        r"\['test', .*in column 'split', row 3 .* got 'trian'",
      ),
      ("path,sea\na,1\n", r"at least 2 labels .* got \['sea'\]"),
      ("path,labels\na,sea\n", r"at least 2 labels .* got \['sea'\]"),
      ("path,labels\na,\"['sea']\"\n", "JSON in column 'labels', row 2"),
      ('path,labels\na,"[1.5]"\n', "names of labels in column 'labels'"),
    ],
  )
  def test_rejects_what_is_no_label(self, tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
      read(tmp_path, text)

  def test_rejects_several_labels_where_one_is_said(self, tmp_path):
    with pytest.raises(ValueError, match="one label .* row 3 .* got 'b;c'"):
      read(tmp_path, "path,label\nx,a\ny,b;c\n", is_multi_label=False)

  @each(
    "columns",
    [
      Columns(path="no"),
      Columns(split="no"),
      Columns(names="no"),
      Columns(binary=("sea", "no")),
      Columns(ignored=("no",)),
    ],
  )
  def test_rejects_columns_that_are_not_there(self, tmp_path, columns):
    with pytest.raises(ValueError, match=r"\['no'\] .* \['path', 'sea', 'd'\]"):
      read(tmp_path, "path,sea,d\na,1,1\n", columns=columns)


def make_table(labels, splits=None) -> LabelTable:
  labels = np.array(labels, np.int32)
  rows = range(len(labels))
  return LabelTable(
    paths=tuple(f"image{row}" for row in rows),
    rows=tuple(rows),
    splits=splits,
    class_names=("sea", "dock"),
    labels=labels,
  )


class TestFindParts:
  OPTIONS = {"test_share": 0.5, "split_seed": 1}

  def test_are_those_of_the_table(self):
    splits = ("test", "train", "val")
    table = make_table([[1, 1]] * 3, splits)
    assert tuple(find_splits("f", table, **self.OPTIONS)) == splits

  def test_are_random_where_the_table_has_none(self):
    table = make_table([[1, 1]] * 9)
    expected = random_splits(table.paths, test_share=0.5, seed=1)
    found = find_splits("f", table, **self.OPTIONS)
    np.testing.assert_array_equal(found, expected)

  def test_warns_of_a_label_without_a_training_image(self, monkeypatch):
    messages = []
    monkeypatch.setattr(
      logging, "warning", lambda text, *args: messages.append(text % args)
    )
    table = make_table([[0, 1], [1, 1]], ("train", "test"))
    find_splits("f", table, **self.OPTIONS)
    (message,) = messages
    assert "of f, got none of [sea]" in message

  @each(
    "labels, splits, match",
    [
      ([[1, 1]], ("train",), "'test': 0, 'val': 0} by its column"),
      ([[1, 1]], ("test",), "'train': 0, 'test': 1"),
      ([[1, 1]], None, "by a random test share of 0.5"),
      ([0, 1], ("train", "test"), r"of every label of f, got none of \[dock\]"),
    ],
  )
  def test_rejects_parts_that_teach_or_test_nothing(
    self, labels, splits, match
  ):
    with pytest.raises(ValueError, match=match):
      find_splits("f", make_table(labels, splits), **self.OPTIONS)


class TestRandomParts:
  def test_meets_the_share_on_average(self):
    parts = random_splits(list(map(str, range(10_000))), test_share=0.2, seed=3)
    assert set(parts) == {"train", "test"}
    assert abs(np.mean(parts == "test") - 0.2) < 0.02

  def test_part_of_an_example_does_not_depend_on_the_others(self):
    names = [f"image{i}" for i in range(50)]
    whole = random_splits(names, test_share=0.4, seed=0)
    few = random_splits(names[::-3], test_share=0.4, seed=0)
    np.testing.assert_array_equal(few, whole[::-3])

  def test_larger_share_keeps_the_test_images(self):
    names = [f"image{i}" for i in range(200)]
    small, large = (
      random_splits(names, test_share=share, seed=0) == "test"
      for share in (0.2, 0.5)
    )
    assert (large | ~small).all()

  def test_is_the_same_everywhere(self):
    parts = random_splits(
      [f"image{i}" for i in range(12)], test_share=0.5, seed=1
    )
    assert "".join(part[1] for part in parts) == "rereerrreeer"

  @each("share", [0.0, 1.0, -0.1, float("nan")])
  def test_rejects_share_outside_its_range(self, share):
    with pytest.raises(ValueError, match=f"got {share}"):
      random_splits(["a"], test_share=share, seed=0)


NAME = st.text("abc0123 é", min_size=1, max_size=4).map(str.strip).filter(bool)
SETTINGS = settings(max_examples=25, deadline=None, derandomize=True)


def read_json(rows, **options):
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return read_label_table(path, **options)


class TestProperties:
  @SETTINGS
  @given(st.lists(st.sets(NAME, max_size=4), min_size=1, max_size=6))
  def test_lists_of_names_come_back(self, lists):
    names = set().union(*lists)
    if len(names) < 2:
      return
    rows = [
      {"path": f"{i}.png", "labels": sorted(names)}
      for i, names in enumerate(lists)
    ]
    table = read_json(rows)
    assert set(table.class_names) == names
    found = [
      {table.class_names[label] for label in np.flatnonzero(row)}
      for row in table.labels
    ]
    assert found == lists

  @SETTINGS
  @given(st.lists(NAME, min_size=2, max_size=6))
  def test_order_of_the_labels_does_not_depend_on_the_rows(self, names):
    if len(set(names)) < 2:
      return
    rows = [{"path": str(i), "label": name} for i, name in enumerate(names)]
    table, reverse = read_json(rows), read_json(rows[::-1])
    assert table.class_names == reverse.class_names
    assert [table.class_names[label] for label in table.labels] == names
    numbers = [n for n in table.class_names if re.fullmatch("[0-9]+", n)]
    assert list(table.class_names[: len(numbers)]) == numbers
    assert numbers == sorted(numbers, key=lambda n: (int(n), n))

  @SETTINGS
  @given(st.lists(NAME, max_size=20, unique=True), st.integers(0, 9))
  def test_splits_follow_from_name_and_seed(self, names, seed):
    whole = random_splits(names, test_share=0.5, seed=seed)
    for name, split in zip(names, whole, strict=True):
      assert random_splits([name], test_share=0.5, seed=seed) == [split]
