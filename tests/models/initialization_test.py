"""Tests of decern_jax/models/initialization.py."""

import jax
import numpy as np
import pytest

from decern_jax import models
from decern_jax.models import initialization, pretrained
from tests import tiny
from tests.table import each


def flat(variables) -> dict[str, np.ndarray]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


class TestInitVariables:
  def test_follows_from_the_seed(self):
    first, again, other = (
      flat(initialization.init_variables("small_cnn", seed=seed, image_size=32))
      for seed in (1, 1, 2)
    )
    assert all((first[path] == again[path]).all() for path in first)
    kernels = [path for path in first if "kernel" in path]
    assert all((first[path] != other[path]).any() for path in kernels)

  def test_kernels_of_more_bands(self):
    found = initialization.init_variables(
      "small_cnn", seed=0, image_size=32, num_bands=12
    )
    assert found["params"]["stem"]["kernel"].shape == (3, 3, 12, 24)

  def test_refuses_an_unknown_name(self):
    with pytest.raises(ValueError, match="Unknown model 'resnet19'"):
      initialization.init_variables("resnet19", seed=0, image_size=32)


class TestCreateRandom:
  @each(
    "name, num_bands", [("resnet18", 3), ("small_cnn", 3), ("small_cnn", 5)]
  )
  def test_has_the_features_of_the_loaded_model(
    self, name, num_bands, tmp_path
  ):
    random = models.create_random(
      name, seed=3, image_size=tiny.SIZE, num_bands=num_bands
    )
    path = tmp_path / "weights.safetensors"
    pretrained.save_safetensors(path, random.variables)
    loaded = models.create(
      name, weights=path, image_size=tiny.SIZE, num_bands=num_bands
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, tiny.SIZE, tiny.SIZE, num_bands)).astype(
      np.uint8
    )
    for apply in ("apply", "train_apply"):
      found, expected = (
        getattr(model, apply)(random.variables, images)
        for model in (random, loaded)
      )
      jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert random.dim == loaded.dim
    assert random.head is None

  def test_bands_are_normalised_alike(self):
    model = models.create_random(
      "small_cnn", seed=0, image_size=32, num_bands=5
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 5))
    found = model.apply(model.variables, images.astype(np.uint8))
    assert found.shape == (2, model.dim)
    assert np.isfinite(found).all()
    gray = model.apply(model.variables, np.full((1, 32, 32, 5), 127.5))
    np.testing.assert_allclose(gray, 0, atol=1e-6)

  def test_fingerprints_differ_where_features_do(self):
    settings = [
      {"seed": 0},
      {"seed": 1},
      {"seed": 0, "dtype": "bfloat16"},
      {"seed": 0, "num_bands": 4},
    ]
    found = {
      models.create_random("small_cnn", image_size=32, **setting).fingerprint
      for setting in settings
    }
    assert len(found) == len(settings)

  def test_refuses_an_unknown_dtype(self):
    with pytest.raises(ValueError, match="Unknown dtype 'float16'"):
      models.create_random("small_cnn", seed=0, image_size=32, dtype="float16")
