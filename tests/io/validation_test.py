"""Tests of decern_jax/io/validation.py."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax import Anchors, LinearHead
from decern_jax.io import validation
from decern_jax.io.validation import repeated, shorten
from tests.table import each

# Of NumPy where the annotations ask for JAX's.
ones: Any = np.ones


class TestCheckInteger:
  @each("value", [3, np.int8(3), np.uint64(3), np.array(3), jnp.int32(3)])
  def test_accepts_any_integer_type(self, value):
    number = validation.check_integer("size", value, low=1, high=3)
    assert number == 3
    assert type(number) is int

  @each("value", [0, 4, -3])
  def test_rejects_values_outside(self, value):
    with pytest.raises(ValueError, match=f"1 <= `size` <= 3, got {value}"):
      validation.check_integer("size", value, low=1, high=3)

  def test_has_no_upper_bound_unless_given(self):
    assert validation.check_integer("size", 10**9, low=1) == 10**9
    with pytest.raises(ValueError, match=r"Expected 1 <= `size`, got 0\."):
      validation.check_integer("size", 0, low=1)

  @each("value", [2.0, "2", None, np.float32(2), np.ones(2)])
  def test_rejects_what_is_no_integer(self, value):
    with pytest.raises(ValueError, match="an integer 1 <= `size`, got "):
      validation.check_integer("size", value, low=1)

  @each("value", [True, np.True_])
  def test_rejects_truth_values(self, value):
    with pytest.raises(ValueError, match="got .*True"):
      validation.check_integer("size", value, low=1)

  def test_rejects_a_traced_value(self):
    def check(value):
      return validation.check_integer("size", value, low=1)

    with pytest.raises(ValueError, match="an integer 1 <= `size`, got .*int32"):
      jax.jit(check)(3)


class TestCheckNumber:
  @each("value", [1, 0.5, np.float64(0.5), jnp.float32(0.5), 0.0])
  def test_accepts_any_number_in_the_closed_range(self, value):
    number = validation.check_number("gamma", value, low=0.0, high=1.0)
    assert number == value
    assert type(number) is float

  @each("value", [-0.1, 1.5])
  def test_rejects_values_outside(self, value):
    with pytest.raises(ValueError, match=rf"<= `gamma` <= 1\.0, got {value}"):
      validation.check_number("gamma", value, low=0.0, high=1.0)

  @each("value", [float("nan"), float("inf"), -np.inf])
  def test_rejects_what_is_not_finite(self, value):
    with pytest.raises(ValueError, match=f"finite `gamma`, got {value}"):
      validation.check_number("gamma", value, low=-float("inf"))

  @each("value", ["0.5", None, True, 1j, [0.5]])
  def test_rejects_what_is_no_number(self, value):
    with pytest.raises(ValueError, match="Expected `gamma` a number, got "):
      validation.check_number("gamma", value, low=0.0)


class TestCheckShapes:
  def test_returns_the_length_of_every_axis(self):
    sizes = validation.check_shapes(
      {"classes": 3},
      rows=(np.ones((5, 2)), ("rows", "dim")),
      probs=(jnp.ones((5, 3)), ("rows", "classes")),
    )
    assert sizes == {"classes": 3, "rows": 5, "dim": 2}

  def test_leaves_the_given_sizes_alone(self):
    sizes = {}
    validation.check_shapes(sizes, rows=(np.ones(5), ("rows",)))
    assert sizes == {}

  def test_rejects_another_rank(self):
    with pytest.raises(ValueError, match=r"shape \[rows, dim\], got \(5,\)"):
      validation.check_shapes({}, features=(np.ones(5), ("rows", "dim")))

  def test_rejects_another_length(self):
    with pytest.raises(
      ValueError, match=r"`labels` of shape \[5\], got \(4,\)"
    ):
      validation.check_shapes(
        {},
        features=(np.ones((5, 2)), ("rows", "dim")),
        labels=(np.ones(4), ("rows",)),
      )

  def test_rejects_a_matrix_that_must_be_square(self):
    with pytest.raises(ValueError, match=r"got \(2, 3\)"):
      validation.check_shapes({}, probs=(np.ones((2, 3)), ("c", "c")))

  @each("shape", [(0, 2), (5, 0)])
  def test_rejects_an_empty_axis(self, shape):
    with pytest.raises(ValueError, match=rf"got \({shape[0]}, {shape[1]}\)"):
      validation.check_shapes({}, rows=(np.ones(shape), ("rows", "dim")))


def make_pool(*, pool=6, dim=4, classes=3) -> dict:
  return {
    "features": ones((pool, dim)),
    "probs": ones((pool, classes)),
    "head": LinearHead(ones((dim, classes)), ones(classes)),
    "anchors": Anchors(ones((classes, dim)), ones((classes, classes))),
    "valid": ones(pool, bool),
  }


class TestCheckPool:
  def test_returns_the_lengths(self):
    sizes = validation.check_pool(**make_pool())
    assert sizes == {"pool": 6, "dim": 4, "classes": 3}

  @each(
    "argument, value, message",
    [
      ("probs", ones((5, 3)), r"`probs` .* \[6, classes\], got \(5, 3\)"),
      ("probs", ones((6, 4)), r"`head.kernel` .* \[4, 4\], got \(4, 3\)"),
      ("valid", ones(7, bool), r"`valid` .* \[6\], got \(7,\)"),
      (
        "head",
        LinearHead(ones((4, 3)), ones(2)),
        r"`head.bias` .* \[3\], got \(2,\)",
      ),
      (
        "head",
        LinearHead(ones((3, 4)), ones(3)),
        r"`head.kernel` .* \[4, 3\], got \(3, 4\)",
      ),
      (
        "anchors",
        Anchors(ones((3, 5)), ones((3, 3))),
        r"`anchors.features` .* \[3, 4\], got \(3, 5\)",
      ),
      (
        "anchors",
        Anchors(ones((3, 4)), ones((3, 2))),
        r"`anchors.probs` .* \[3, 3\], got \(3, 2\)",
      ),
    ],
  )
  def test_rejects_arrays_that_do_not_fit(self, argument, value, message):
    with pytest.raises(ValueError, match=message):
      validation.check_pool(**{**make_pool(), argument: value})

  def test_rejects_one_class_alone(self):
    with pytest.raises(ValueError, match="2 <= `number of classes`, got 1"):
      validation.check_pool(**make_pool(classes=1))


class TestAsFloat32:
  @each("dtype", [np.float64, np.float16, np.int64, bool])
  def test_casts_numbers(self, dtype):
    array = validation.as_float32(np.array([0, 1, 1], dtype))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [0.0, 1.0, 1.0])

  def test_casts_indices(self):
    indices = validation.as_int32(np.array([0, 2], np.int64))
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(indices, [0, 2])

  def test_shape_stands_for_an_array_of_the_type(self):
    shape: Any = jax.ShapeDtypeStruct((3, 2), np.float32)
    assert validation.as_float32(shape) is shape

  def test_casts_every_array_of_a_tuple(self):
    head = validation.float32_tree(LinearHead(ones((2, 3)), ones(3)))
    assert isinstance(head, LinearHead)
    assert {array.dtype for array in head} == {np.dtype(np.float32)}


class TestRepeated:
  def test_names_are_sorted_and_given_once(self):
    assert repeated(["b", "c", "a", "b", "a", "b"]) == ["a", "b"]

  def test_is_empty_where_all_are_distinct(self):
    assert repeated(iter("abc")) == []


class TestShorten:
  def test_few_names_are_all_shown(self):
    assert shorten(iter("abcdefghij")) == "a, b, c, d, e, f, g, h, i, j"

  def test_of_many_the_rest_is_counted(self):
    assert shorten("abcdefghijk") == "a, b, c, d, e, f, g, h, i, j and 1 more"
    assert shorten("abcdefghijkl") == "a, b, c, d, e, f, g, h, i, j and 2 more"
