"""Strict JAX settings for every test, and the shared fixtures."""

import pathlib

import jax
import jaxtyping
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def key() -> jax.Array:
  return jax.random.key(0)


@pytest.fixture
def shared_dir() -> pathlib.Path:
  """The folder of real data beside the checkout; the test skips without it."""
  if not SHARED.is_dir():
    pytest.skip("no `shared` folder beside the checkout")
  return SHARED


@pytest.fixture
def unannotated():
  """Calls functions as users do: annotations are not checked at run time."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)
