"""Tests with the compiler flags of users, in a process of their own."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from decern_jax import select_decern, weighted_kmeans
from decern_jax.distributed.sharding import make_mesh, place_pool
from tests import oracle
from tests.conftest import AS_SHIPPED
from tests.table import each

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The mark, spelled so that this line does not have it.
MARK = "mark." + "as_shipped"


def test_as_shipped():
  """Runs all tests that are marked `as_shipped`, of which there must be any."""
  files = [
    str(path)
    for path in sorted((ROOT / "tests").rglob("*_test.py"))
    if MARK in path.read_text()
  ]
  assert len(files) > 1
  environment = {**os.environ, AS_SHIPPED: "1"}
  # These are the flags that `tests/conftest.py` has set for this process.
  environment.pop("XLA_FLAGS", None)
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "pytest",
      *("-n", "0", "-q", "-p", "no:cacheprovider"),
      *("-m", "as_shipped and not slow"),
      *files,
    ],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  # Without any test that is run, pytest returns 5.
  assert done.returncode == 0, done.stdout + done.stderr


# No multiple of a number of shards.
POOL, BUDGET = 2003, 20
PROBLEM = oracle.make_problem(pool=POOL, dim=32, classes=7)
WEIGHTS = np.random.default_rng(0).uniform(0.1, 2.0, POOL).astype(np.float32)


@pytest.mark.as_shipped
class TestShardCount:
  """DECERN and k-means give the same on any number of devices."""

  def test_the_flags_are_those_of_users(self):
    assert "optimization_level" not in os.environ.get("XLA_FLAGS", "")

  @each("seed", range(3))
  def test_decern_selects_the_same(self, seed):
    found = []
    for num_devices in (1, 8):
      mesh = make_mesh(num_devices)
      arrays = PROBLEM.features, PROBLEM.probs, np.ones(POOL, bool)
      features, probs, valid = (place_pool(array, mesh) for array in arrays)
      indices = select_decern(
        jax.random.key(seed),
        features,
        probs,
        *PROBLEM.pool[2:],
        budget=BUDGET,
        valid=valid,
      )
      found.append(np.asarray(indices))
    np.testing.assert_array_equal(found[1], found[0])

  @each("seed", range(3))
  def test_kmeans_assigns_the_same(self, seed):
    found = []
    for num_devices in (1, 8):
      mesh = make_mesh(num_devices)
      clusters = weighted_kmeans(
        jax.random.key(seed),
        place_pool(PROBLEM.features, mesh),
        place_pool(WEIGHTS, mesh),
        num_clusters=BUDGET,
      )
      found.append(clusters)
    one, eight = found
    np.testing.assert_array_equal(eight.assignments[:POOL], one.assignments)
    assert int(eight.num_steps) == int(one.num_steps)
    np.testing.assert_allclose(eight.centers, one.centers, atol=1e-5)
