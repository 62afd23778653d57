"""Strict JAX settings for every test, compile caches, and shared fixtures."""

import gc
from importlib import metadata
import os
import pathlib

from absl import logging
import jax
import jaxtyping
import pytest

# Compiling takes most of the time of the tests. Level 0, and the older and
# shorter way to emit loops, each about halve it. Tests marked `as_shipped` run
# in a process without these flags.
FAST_COMPILER = [
  "--xla_backend_optimization_level=0",
  "--xla_cpu_parallel_codegen_split_count=1",
]
# XLA ends the process at a flag that it does not know, as 0.12 does here.
if metadata.version("jaxlib") == "0.10.2":
  FAST_COMPILER.append("--xla_cpu_use_fusion_emitters=false")
# Set for the process that runs the tests that are marked `as_shipped`.
AS_SHIPPED = "DECERN_JAX_TESTS_AS_SHIPPED"
if AS_SHIPPED not in os.environ:
  os.environ.setdefault("XLA_FLAGS", " ".join(FAST_COMPILER))

# Compiled programs are kept from run to run; the folder may be deleted.
CACHE = pathlib.Path(
  os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
)
# In the environment, as tests start other processes too.
COMPILED = os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR", str(CACHE / "decern_jax" / "tests")
)

# The oldest programs are deleted above this size. (JAX's own limit leaves files
# that it cannot read again where a process is killed, as some tests do.)
MAX_CACHE_BYTES = 2 * 2**30
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"

# A compiled program holds some memory maps, of which Linux allows a process
# 65,530; at the limit the compiler aborts.
MAPS = pathlib.Path("/proc/self/maps")
MAX_MAPS = 30_000


def pytest_configure(config: pytest.Config) -> None:
  """Deletes the oldest compiled programs if they are too large together."""
  if hasattr(config, "workerinput") or AS_SHIPPED in os.environ:
    return
  files = [p for p in pathlib.Path(COMPILED).glob("*") if p.is_file()]
  total = 0
  for path in sorted(files, key=lambda p: p.stat().st_mtime, reverse=True):
    total += path.stat().st_size
    if total > MAX_CACHE_BYTES:
      path.unlink()


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


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
  """The warnings that are logged."""
  messages = []
  monkeypatch.setattr(
    logging, "warning", lambda text, *args: messages.append(text % args)
  )
  return messages


@pytest.fixture(scope="session")
def torch():
  return pytest.importorskip("torch")
