"""Tests that the code of docs/extending.md works."""

import re
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.data import sources
from decern_jax.models import registry
from decern_jax.strategies import base
from decern_jax.training import recipe
from tests import tiny
from tests.annotation.formats import queries
from tests.models import published
from tests.strategies import pools

PAGE = (tiny.ROOT / "docs" / "extending.md").read_text()
SECTIONS = dict(
  re.findall(r"## How to add an? (.+)\n([^#]*?```python\n(?s:.*?)```)", PAGE)
)


@pytest.fixture(autouse=True)
def restored_tables():
  tables = (
    base.STRATEGIES,
    registry.MODELS,
    sources.DATASETS,
    recipe.OPTIMIZERS,
  )
  patches = [mock.patch.dict(table) for table in tables]
  for patch in patches:
    patch.start()
  yield
  for patch in patches:
    patch.stop()


def execute(section: str, names: dict[str, Any] | None = None) -> Any:
  """Executes the code of a section as a module, and returns its names."""
  names = {"__name__": "extension", **(names or {})}
  (code,) = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)
  exec(code, names)
  return names


def test_strategy_selects_the_longest_features():
  execute("strategy")
  found = pools.select("largest_norm", pools.make_pool(), norm_order=1.0)
  lengths = np.where(pools.CANDIDATES, np.abs(pools.FEATURES).sum(1), -1.0)
  expected = np.argsort(-lengths)[: pools.BUDGET]
  np.testing.assert_array_equal(found.indices, expected)


def test_backbone_has_the_dimensions_of_its_row():
  names = execute("backbone")
  traced = published.trace("one_layer")
  spec = registry.find_spec("one_layer")
  assert traced.features.shape == (2, spec.dim)
  assert [stage.shape[-1] for stage in traced.stages] == [*spec.stage_dims]
  assert names["torch_name"](("params", "conv", "kernel")) == "conv.weight"


def test_source_opens_the_file(tmp_path):
  execute("data source")
  images = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
  arrays = {"train_images": images, "train_labels": np.array([0, 1, 1, 0])}
  arrays |= {"test_images": images[:2], "test_labels": np.array([1, 0])}
  file = tmp_path / "cells.npz"
  np.savez(file, class_names=np.array(["a", "b"]), **arrays)
  options = sources.Options(num_workers=1, path=file)
  dataset = sources.load("numpy_file", options)
  assert dataset.class_names == ("a", "b")
  np.testing.assert_array_equal(dataset.train.read(3), images[3])
  assert dataset.train.labels.tolist() == [0, 1, 1, 0]


def test_format_reads_a_filled_in_query(tmp_path):
  form = execute("label format")["FORMAT"]
  (path,) = form.write(queries.query(ids=("a:b.jpg", "c.jpg")), tmp_path)
  content = path.read_bytes()
  assert form.matches(content, None)
  assert form.read(content) == ((), ())
  filled = content.replace(b"a:b.jpg:", b"a:b.jpg: cat")
  assert queries.said(form.read(filled)) == {"a:b.jpg": ("cat",)}


def test_recipe_trains_with_the_optimizer():
  execute("training recipe", vars(recipe) | {})
  made = recipe.Recipe(
    num_epochs=1, batch_size=1, learning_rate=1.0, optimizer="sgd"
  )
  params = {"kernel": jnp.ones((2, 2))}
  state = recipe.make_optimizer(made).init(params)
  gradient = {"kernel": jnp.full((2, 2), 0.5)}
  rate = jnp.float32(0.1)
  found, _ = recipe.apply_gradient(made, params, state, gradient, rate)
  # Nesterov's first step is 1 + 0.9 gradients.
  expected = 1.0 - 0.1 * 1.9 * 0.5
  np.testing.assert_allclose(jax.tree.leaves(found)[0], expected, rtol=1e-6)


def test_each_section_is_executed():
  expected = ["strategy", "backbone", "data source", "label format"]
  assert [*SECTIONS] == [*expected, "training recipe"]
