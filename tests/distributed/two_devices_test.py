"""Tests on as many devices as cores: two, in a process of their own."""

import pytest

from tests import tiny

SCRIPT = """
import jax
import jax.numpy as jnp
import numpy as np
import decern_jax
from decern_jax.distributed import sharding

rows, dim, classes = 20_000, 512, 100
rng = np.random.default_rng(0)
features = rng.standard_normal((rows, dim), dtype=np.float32)
kernel = rng.standard_normal((dim, classes), dtype=np.float32) / 20
probs = np.asarray(jax.nn.softmax(features @ kernel))
head = decern_jax.LinearHead(jnp.asarray(kernel), jnp.zeros(classes))
anchors = decern_jax.Anchors(features[:classes], probs[:classes])

def score(num_devices):
  mesh = sharding.make_mesh(num_devices)
  placed = (sharding.place_pool(array, mesh) for array in (features, probs))
  return np.asarray(decern_jax.discrepancy_confusion(*placed, anchors, head))

one = score(1)
for _ in range(2):
  np.testing.assert_allclose(score(2), one, rtol=1e-6)
"""


@pytest.mark.slow
def test_scores_on_two_devices_are_those_on_one():
  """Chunks of 8,192 rows gave hundreds of wrong scores, differing each time."""
  flag = "--xla_force_host_platform_device_count=2"
  tiny.run_script(SCRIPT, XLA_FLAGS=flag, JAX_PLATFORMS="cpu")
