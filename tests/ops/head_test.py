"""Tests of the linear head."""

import jax
import numpy as np

from decern_jax.ops import head
from tests.table import each


class TestLogits:
  @each("batch", [(), (5,), (2, 3)])
  def test_matches_definition(self, batch):
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(7, 4)), rng.normal(size=4)
    features = rng.normal(size=(*batch, 7))
    actual = head.logits(
      head.LinearHead(*map(jax.numpy.float32, (kernel, bias))),
      jax.numpy.float32(features),
    )
    assert actual.shape == (*batch, 4)
    np.testing.assert_allclose(
      actual, features @ kernel + bias, rtol=1e-5, atol=1e-5
    )
