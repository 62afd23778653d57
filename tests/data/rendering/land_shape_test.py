"""Tests of `data.rendering.land_shape`."""

import numpy as np

from decern_jax.data.rendering import land_shape as shape
from decern_jax.data.rendering.land_shape import CANVAS_SIZE, SQUARE


def rng(seed: int = 0) -> np.random.Generator:
  return np.random.default_rng(seed)


class TestTurn:
  def test_turns_by_a_quarter(self):
    turned = shape.turn(np.array([[1.0, 0.0]]), np.pi / 2)
    np.testing.assert_allclose(turned, [[0.0, 1.0]], atol=1e-12)


class TestRandomPoint:
  def test_keeps_its_distance_from_the_edge(self):
    points = [shape.random_point(rng(seed), margin=0.25) for seed in range(100)]
    assert np.min(points) >= 0.25 * CANVAS_SIZE
    assert np.max(points) <= 0.75 * CANVAS_SIZE


class TestRandomTone:
  def test_is_near_its_color(self):
    tones = [
      shape.random_tone(rng(i), (9.0, 100.0, 250.0), 10.0) for i in range(99)
    ]
    assert np.min(tones) >= 0.0
    assert np.max(tones) <= 255.0
    np.testing.assert_allclose(np.mean(tones, axis=0)[1], 100.0, atol=4.0)


class TestRandomGrain:
  def test_is_of_so_many_cells(self):
    coarse, fine = (shape.random_grain(rng(), n, 5.0)[..., 0] for n in (4, 60))
    assert coarse.shape == (CANVAS_SIZE, CANVAS_SIZE)
    steps = [np.abs(np.diff(grain)).mean() for grain in (coarse, fine)]
    assert steps[1] > 5.0 * steps[0]


class TestStripes:
  def test_run_along_their_direction(self):
    found = shape.stripes(rng(), 0.0, 7.0)[..., 0]
    np.testing.assert_array_equal(found[0], found[50])
    assert 6.0 < found.max() <= 7.0


class TestRandomBlob:
  def test_lies_around_its_center(self):
    center = np.array([30.0, 70.0])
    for seed in range(50):
      offsets = shape.random_blob(rng(seed), center, 10.0) - center
      lengths = np.linalg.norm(offsets, axis=1)
      assert lengths.max() < 30.0
      assert lengths.min() > 1.0


class TestRandomCourse:
  def test_crosses_the_canvas(self):
    course = shape.random_course(rng(), 10.0)
    assert np.ptp(course[:, 0]) > CANVAS_SIZE


class TestBand:
  def test_has_its_width(self):
    course = np.stack([np.linspace(-90.0, 90.0, 5), np.zeros(5)], axis=1)
    mask = shape.inside(shape.band(course, 10.0, 0.0))
    np.testing.assert_allclose(mask.sum(axis=0), 10.0, atol=1.5)


class TestInside:
  def test_measures_an_area(self):
    outline = 40.0 + 10.0 * SQUARE
    for softness in (1, 5):
      mask = shape.inside(outline, softness=softness)
      np.testing.assert_allclose(mask.sum(), 400.0, rtol=0.15)

  def test_softness_widens_the_edge(self):
    hard, soft = (
      shape.inside(40.0 + 10.0 * SQUARE, softness=n) for n in (1, 9)
    )
    assert (soft > 0.0).sum() > (hard > 0.0).sum()


class TestPaint:
  def test_mixes_by_the_mask(self):
    canvas = np.full((CANVAS_SIZE, CANVAS_SIZE, 3), 100, np.uint8)
    mask = np.zeros((CANVAS_SIZE, CANVAS_SIZE), np.float32)
    mask[0], mask[1] = 0.5, 1.0
    shape.paint(canvas, mask, np.array([0.0, 200.0, 999.0]))
    assert canvas[0, 0].tolist() == [50, 150, 255]
    assert canvas[1, 0].tolist() == [0, 200, 255]
    assert (canvas[2:] == 100).all()


class TestToPixels:
  def test_rounds_and_cuts_off(self):
    found = shape.to_pixels(np.array([-3.0, 0.6, 254.4, 300.0]))
    assert found.dtype == np.uint8
    assert found.tolist() == [0, 1, 254, 255]
