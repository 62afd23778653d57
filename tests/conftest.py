"""Strict JAX settings for every test, and the shared fixtures."""

import gc
import os
import pathlib

import jax
import jaxtyping
import pytest

# Four fifths of the time of the tests is that of the compiler. These take a
# quarter from it: fewer passes of LLVM, and no threads of its own beside those
# of the tests. An environment that sets `XLA_FLAGS` has its way.
COMPILER = (
  "--xla_backend_optimization_level=1",
  "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("XLA_FLAGS", " ".join(COMPILER))

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"

# A compiled program holds some memory maps, of which Linux allows a process
# 65,530; at the limit the compiler aborts.
MAPS = pathlib.Path("/proc/self/maps")
MAX_MAPS = 30_000


# Tests that take long, most of them one of several of a kind: a name a line.
SLOW = pathlib.Path(__file__).with_name("slow_tests.txt")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Marks the tests of the list, before any is left out for its marker."""
  names = set(SLOW.read_text().splitlines())
  for item in items:
    if item.nodeid in names:
      item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def keep_programs_on_disk(tmp_path_factory):
  """Compiles once what several tests, or the same after a drop, compile."""
  folder = tmp_path_factory.mktemp("programs")
  jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(autouse=True, scope="module")
def drop_programs_before_they_are_too_many():
  yield
  if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MAX_MAPS:
    jax.clear_caches()
    gc.collect()


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
