"""Tests of decern_jax/annotation/images.py."""

import numpy as np
import pytest

from decern_jax.annotation import images
from decern_jax.annotation.query import Item
from decern_jax.data.dataset import Dataset, Split


def make_dataset(*ids):
  split = Split(ids, np.arange(len(ids)), lambda position: ids[position])
  return Dataset("name", (), split, None, None, "print")


class TestRestrict:
  def test_keeps_the_pool_that_it_began_with(self, tmp_path, caplog):
    images.restrict(tmp_path, make_dataset("a", "c", "d\udce4"))
    now = make_dataset("a", "b", "c", "d\udce4")
    found = images.restrict(tmp_path, now).train
    assert found.ids == ("a", "c", "d\udce4")
    assert found.labels.tolist() == [0, 2, 3]
    assert [found.read(i) for i in range(3)] == [*found.ids]
    assert "Left out 1 images that came after the run began: 'b'" in caplog.text

  def test_names_what_is_gone(self, tmp_path):
    images.restrict(tmp_path, make_dataset("a", "b", "c"))
    with pytest.raises(ValueError, match="got 2 of them missing.*'a', 'c'"):
      images.restrict(tmp_path, make_dataset("b"))


class TestCheckUnchanged:
  def test_names_what_has_changed(self, tmp_path):
    items = []
    for name in ("a", "b"):
      path = tmp_path / name
      path.write_text(name)
      items.append(Item(name, str(path), digest=images.digest(str(path))))
    images.check_unchanged([*items, Item("c", "nowhere")])
    (tmp_path / "b").write_text("other")
    with pytest.raises(ValueError, match="got 1 of other content: 'b'"):
      images.check_unchanged(items)
