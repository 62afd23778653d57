"""Tests of decern_jax/pretraining/projector.py."""

import jax
import numpy as np

from decern_jax.pretraining.projector import Projector
from tests.table import each

ROWS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def project(projector, params):
  outputs, _ = projector.apply(
    {"params": params}, ROWS, mutable=["batch_stats"]
  )
  return np.asarray(outputs)


def init(projector, key):
  return projector.init(key, ROWS)["params"]


class TestProjector:
  def test_matches_numpy_with_normalisation(self, key):
    projector = Projector((5, 3), use_norm=True)
    params = jax.tree.map(np.asarray, init(projector, key))
    hidden = ROWS @ params["layer1"]["kernel"]
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
    expected = np.maximum(hidden, 0) @ params["layer2"]["kernel"]
    np.testing.assert_allclose(
      project(projector, params), expected, rtol=1e-4, atol=1e-5
    )

  def test_matches_numpy_without(self, key):
    projector = Projector((5, 3), use_norm=False)
    params = init(projector, key)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, params)
    first, second = params["layer1"], params["layer2"]
    hidden = np.maximum(ROWS @ first["kernel"] + first["bias"], 0)
    expected = hidden @ np.asarray(second["kernel"]) + second["bias"]
    np.testing.assert_allclose(project(projector, params), expected, rtol=1e-4)

  @each(
    "widths, use_norm, names",
    [
      ((7,), True, {"layer1"}),
      ((7, 7, 7), True, {"layer1", "layer2", "layer3", "norm1", "norm2"}),
      ((7, 7), False, {"layer1", "layer2"}),
    ],
  )
  def test_has_a_normalisation_before_every_relu(
    self, key, widths, use_norm, names
  ):
    params = init(Projector(widths, use_norm), key)
    assert set(params) == names
    layers = [params[name] for name in sorted(names) if "layer" in name]
    assert all(("bias" in layer) != use_norm for layer in layers)

  def test_is_hashable_by_its_widths(self):
    assert hash(Projector((2, 3), True)) == hash(Projector((2, 3), True))
    assert Projector((2, 3), True) != Projector((2, 4), True)
