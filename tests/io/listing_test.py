"""Tests of decern_jax/io/listing.py."""

from decern_jax.io.listing import repeated, shorten


class TestRepeated:
  def test_names_are_sorted_and_given_once(self):
    assert repeated(["b", "c", "a", "b", "a", "b"]) == ["a", "b"]

  def test_is_empty_where_all_are_distinct(self):
    assert repeated(iter("abc")) == []


class TestShorten:
  def test_few_names_are_all_shown(self):
    assert shorten(iter("abcdefghij")) == "a, b, c, d, e, f, g, h, i, j"

  def test_of_many_the_rest_is_counted(self):
    assert shorten("abcdefghijkl") == "a, b, c, d, e, f, g, h, i, j and 2 more"
