"""Times scoring and selection against the class loop in PyTorch.

  pip install -c constraints.txt -e ".[benchmark]"
  python -m benchmarks.scoring            # 1024 x 200 x 2048, 5594 x 200 x 2048
  python -m benchmarks.scoring --limit    # the machine's best rates
  python -m benchmarks.scoring --memory   # peak memory, 50,000 x 200 x 1024

Both sides run alternately in one process, on the same arrays; medians of 5 are
printed. Compilation is reported separately.
"""

import argparse
import resource
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import decern_jax

REPEATS = 5


def make_pool(rows: int, classes: int, dim: int, seed: int = 0) -> dict:
  """Returns a random pool: features of a ReLU network, clustered by class."""
  rng = np.random.default_rng(seed)
  means = rng.gamma(0.5, 1.0, (classes, dim)).astype(np.float32)
  label = rng.integers(0, classes, rows)
  features = rng.gamma(0.5, 1.0, (rows, dim)).astype(np.float32)
  features += means[label]
  kernel = (means - means.mean(0)).T * np.float32(6.0 / dim)
  bias = np.zeros(classes, np.float32)

  def predict(x):
    logits = x @ kernel
    probs = np.exp(logits - logits.max(1, keepdims=True))
    return probs / probs.sum(1, keepdims=True)

  return {
    "features": features,
    "probs": predict(features),
    "anchors": decern_jax.Anchors(
      jnp.asarray(means), jnp.asarray(predict(means))
    ),
    "head": decern_jax.LinearHead(jnp.asarray(kernel), jnp.asarray(bias)),
  }


def time_both(ours, theirs) -> None:
  """Prints the times of two functions that do the same."""
  start = time.perf_counter()
  ours()
  first = time.perf_counter() - start
  theirs()
  times = {ours: [], theirs: []}
  for _ in range(REPEATS):
    for function in (theirs, ours):
      start = time.perf_counter()
      function()
      times[function].append(time.perf_counter() - start)
  fast, slow = (statistics.median(times[f]) for f in (ours, theirs))
  print(
    f"  decern_jax {fast:.4f} s, class loop {slow:.3f} s: {slow / fast:.1f}"
    f" times faster; compiled in {first - fast:.1f} s"
  )


def compare(rows: int, classes: int, dim: int, budget: int | None) -> None:
  """Times scoring, or with a budget the whole selection."""
  import torch  # pyright: ignore[reportMissingImports]

  from benchmarks import class_loop

  pool = make_pool(rows, classes, dim)
  features, probs, anchors, head = pool.values()
  there = [
    torch.tensor(np.ascontiguousarray(a))
    for a in (features, probs, *anchors, head.kernel.T, head.bias)
  ]
  here = jax.device_put((features, probs, anchors, head))
  what = "scoring" if budget is None else f"selection of {budget}"
  print(f"{what}, {rows} x {classes} classes x {dim}:")

  def ours():
    if budget is None:
      return decern_jax.discrepancy_confusion(*here).block_until_ready()
    return decern_jax.select_decern(
      jax.random.key(0), *here, budget=budget
    ).block_until_ready()

  def theirs():
    scores = class_loop.discrepancy_confusion(*there)
    if budget is None:
      return scores.numpy()
    return class_loop.select(there[0], scores, there[2], budget=budget)

  time_both(ours, theirs)
  if budget is None:
    error = np.abs(theirs() / np.asarray(ours()) - 1).max()
    print(f"  largest relative difference {error:.1e}")


def measure_memory(rows: int, classes: int, dim: int) -> None:
  """Prints how much scoring raises the peak of resident memory."""
  pool = jax.device_put(make_pool(rows, classes, dim))
  jax.block_until_ready(pool)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  start = time.perf_counter()
  decern_jax.discrepancy_confusion(**pool).block_until_ready()
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  print(
    f"scoring, {rows} x {classes} x {dim}: {time.perf_counter() - start:.1f} s,"
    f" peak {before / 2**20:.2f} GiB before, {after / 2**20:.2f} GiB after"
  )


def measure_limit(rows: int, classes: int, dim: int) -> None:
  """Prints a lower bound of the time of scoring on this machine.

  It counts the products with head, anchors and mask (3 times rows x dim x
  classes) and the factorised fusion (rows x classes^2 x 100 bins) at the rate
  of a large matrix product; and two exponentials and a logarithm for each of
  rows x classes^2 values at the rate of an array that stays in cache.
  """
  matrix = np.ones((2048, 2048), np.float32)
  values = np.full(2**17, 0.5, np.float32)
  passes = 64

  @jax.jit
  def transcend(x):
    def step(_, x):
      return jax.numpy.exp(-jax.numpy.exp(-x)) + jax.numpy.log(x + 1.0)

    return jax.lax.fori_loop(0, passes, step, x)

  product = _seconds(jax.jit(jax.numpy.matmul), matrix, matrix)
  flops_rate = 2 * 2048**3 / product
  value_rate = passes * values.size / _seconds(transcend, values)
  flops = 2 * rows * classes * (3 * dim + 100 * classes)
  count = rows * classes**2
  print(
    f"least work, {rows} x {classes} x {dim}: products"
    f" {flops / flops_rate:.4f} s at {flops_rate / 1e9:.0f} GFLOP/s,"
    f" exp and log {count / value_rate:.4f} s"
  )


def _seconds(function, *arrays) -> float:
  """Returns the best time of a jitted function."""
  placed = jax.device_put(arrays)
  function(*placed).block_until_ready()
  times = []
  for _ in range(4 * REPEATS):
    start = time.perf_counter()
    function(*placed).block_until_ready()
    times.append(time.perf_counter() - start)
  return min(times)


def main() -> None:
  """Runs what the flags ask for."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--memory", action="store_true")
  parser.add_argument("--limit", action="store_true")
  options = parser.parse_args()
  if options.memory:
    measure_memory(50_000, 200, 1024)
  elif options.limit:
    measure_limit(1024, 200, 2048)
  else:
    compare(1024, 200, 2048, None)
    compare(5594, 200, 2048, 200)


if __name__ == "__main__":
  main()
