"""Tests of decern_jax/compile_check/run_setting.py."""

import pytest

from configs import bronze_ding, cub, food101, quickstart
from decern_jax.compile_check import run_setting, topology
from tests.table import each

UNKNOWN = {
  "num_train": None,
  "num_test": None,
  "num_classes": None,
  "device_memory": None,
}


@pytest.fixture
def mesh():
  return topology.make_mesh("cpu:8")


class TestMakeSetting:
  def test_takes_the_published_sizes(self, mesh):
    setting = run_setting.make_setting(cub.get_config(), mesh, **UNKNOWN)
    assert setting.mesh is mesh
    sizes = setting.num_train, setting.num_test, setting.num_classes
    assert sizes == (5994, 5794, 200)
    assert (setting.budget, setting.capacity) == (400, 3200)
    assert setting.image == (224, 224, 3)
    assert setting.train_batch_size == 128

  def test_prefers_what_is_given(self, mesh):
    sizes = {**UNKNOWN, "num_train": 10**6}
    setting = run_setting.make_setting(food101.get_config(), mesh, **sizes)
    assert (setting.num_train, setting.num_classes) == (10**6, 101)

  def test_trains_on_no_larger_batch_than_there_are_labels(self, mesh):
    config = cub.get_config()
    config.num_rounds = 1
    config.selection.initial_budget = 20
    setting = run_setting.make_setting(config, mesh, **UNKNOWN)
    assert setting.train_batch_size == setting.capacity == 20

  @each(
    "config, flags",
    [
      (bronze_ding, "--num_test for data set 'bronze_ding'"),
      (
        quickstart,
        "--num_train, --num_test, --num_classes for data set 'rendered'",
      ),
    ],
  )
  def test_names_the_sizes_that_are_missing(self, mesh, config, flags):
    with pytest.raises(ValueError, match=f"Expected {flags}"):
      run_setting.make_setting(config.get_config(), mesh, **UNKNOWN)

  def test_rejects_more_labels_than_examples(self, mesh):
    sizes = {**UNKNOWN, "num_train": 3199}
    with pytest.raises(ValueError, match="at most 3199 labels .* got 3200"):
      run_setting.make_setting(cub.get_config(), mesh, **sizes)

  @each(
    "choice, memory, stays",
    [
      (None, None, False),
      (True, None, True),
      # A device has 750 rows of 1,536 floats, which may be a quarter.
      (None, 4 * 4 * 750 * 1536, False),
      (None, 4 * 4 * 749 * 1536, True),
      (False, 1, False),
    ],
  )
  def test_leaves_a_large_pool_on_the_host(self, mesh, choice, memory, stays):
    config = cub.get_config()
    config.system.pool_on_host = choice
    sizes = {**UNKNOWN, "num_train": 6000, "device_memory": memory}
    setting = run_setting.make_setting(config, mesh, **sizes)
    assert setting.pool_on_host is stays
