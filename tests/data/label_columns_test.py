"""Tests of decern_jax/data/label_columns.py."""

import pathlib

import pytest

from decern_jax.data.label_columns import Columns, find_columns
from decern_jax.data.label_rows import Table
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
