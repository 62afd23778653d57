"""Tests of decern_jax/annotation/taken.py."""

import pytest

from decern_jax.annotation import taken
from decern_jax.annotation.taken import Taken
from tests.table import each

LABELS = {"b.png": ("pear",), "a\udce4.png": ("fig", "apple"), "c.png": ()}


class TestNameClasses:
  def test_known_ones_keep_their_places(self):
    names = taken.name_classes(("zebra", "pear"), LABELS)
    assert names == ("zebra", "pear", "apple", "fig")

  def test_needs_no_label(self):
    assert taken.name_classes(("x",), {}) == ("x",)


class TestFix:
  def test_is_what_it_was_at_first(self, tmp_path):
    first = Taken(("pear", "fig", "apple"), LABELS)
    assert taken.read(tmp_path, 3) is None
    assert taken.fix(tmp_path, 3, first) == first
    assert taken.fix(tmp_path, 3, Taken((), {})) == first
    assert taken.read(tmp_path, 3) == first
    assert taken.read(tmp_path, 4) is None

  @each("content", ["", "[]", '{"labels": 3}', "{"])
  def test_refuses_what_it_did_not_write(self, tmp_path, content):
    taken.fix(tmp_path, 0, Taken((), {}))
    (file,) = (tmp_path / "labels").iterdir()
    file.write_text(content)
    with pytest.raises(ValueError, match="Expected labels in .*0000"):
      taken.read(tmp_path, 0)
