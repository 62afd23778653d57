"""Tests of decern_jax/data/label_table.py."""

import json

import numpy as np
import pytest

from decern_jax.data.label_columns import Columns
from decern_jax.data.label_table import read_label_table
from tests.table import each


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
    columns = columns._replace(binary=(), names="labels")
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
