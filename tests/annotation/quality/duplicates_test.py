"""Tests of decern_jax/annotation/quality/duplicates.py."""

import json
import pathlib

import numpy as np
from PIL import Image

from decern_jax.annotation.quality.duplicates import group, perceptual_hash
from tests.annotation.quality import made
from tests.table import each

GOLDEN = json.loads(
  pathlib.Path(__file__).with_name("golden.json").read_text()
)["perceptual_hashes"]


class TestPerceptualHash:
  @each("seed", range(len(GOLDEN)))
  def test_is_that_of_imagehash(self, seed):
    assert perceptual_hash(made.make_image(seed)) == GOLDEN[seed]

  def test_images_that_differ_have_other_hashes(self):
    assert len(set(GOLDEN)) == len(GOLDEN)

  def test_a_larger_copy_has_the_same(self):
    image = made.make_image(0)
    large = Image.fromarray(image).resize((image.shape[1] * 3,) * 2)
    assert perceptual_hash(np.asarray(large)) == GOLDEN[0]

  def test_a_brighter_copy_has_the_same(self):
    image = made.make_image(0)
    brighter = np.minimum(image.astype(int) + 5, 255).astype(np.uint8)
    assert perceptual_hash(brighter) == GOLDEN[0]

  @each("num_bands", [1, 4, 13])
  def test_other_bands(self, num_bands):
    grey = made.make_image(0)[..., :1]
    image = np.repeat(grey, num_bands, axis=-1)
    colors = np.repeat(grey, 3, axis=-1)
    assert perceptual_hash(image) == perceptual_hash(colors)

  def test_no_frequency_of_a_black_image_is_above_the_median(self):
    assert perceptual_hash(np.zeros((1, 1, 3), np.uint8)) == 0


class TestGroup:
  def test_groups_what_has_a_hash_in_common(self):
    found = group({"a": 1, "b": 2, "c": 1, "d": 3, "e": 2, "f": 1})
    assert found == (("a", "c", "f"), ("b", "e"))

  def test_nothing_in_common(self):
    assert group({"a": 1, "b": 2}) == ()
    assert group({}) == ()
