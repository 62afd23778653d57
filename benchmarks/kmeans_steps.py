"""Times the stages of clustering a pool: the start, and Lloyd's steps.

  python -m benchmarks.kmeans_steps [--rows=10000,100000,1000000]

The pool is that of `benchmarks.scale`, its features normalised, all weights 1,
100 clusters, one device. Prints the number of steps, and the time of each stage
per point, next to the time of only its matrix products.
"""

import argparse
from collections.abc import Callable
import functools
import pathlib
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import scale
from decern_jax.distributed.sharding import block_rows
from decern_jax.ops import kmeans, seeding
from decern_jax.ops.distances import normalize


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
  """Returns the seconds of the second call, and its result."""
  jax.block_until_ready(work())
  start = time.perf_counter()
  found = jax.block_until_ready(work())
  return time.perf_counter() - start, found


def measure_limit(points: jax.Array, num_clusters: int) -> float:
  """Returns the seconds of only the two products of a step, in blocks."""
  size = block_rows(points.shape[1])
  rows, centers = points[:size], points[:num_clusters]
  product = jax.jit(lambda rows, centers: (rows @ centers.T).T @ rows)
  jax.block_until_ready(product(rows, centers))
  start = time.perf_counter()
  count = 50
  for _ in range(count):
    found = product(rows, centers)
  jax.block_until_ready(found)
  return (time.perf_counter() - start) / count / len(rows)


def run(file: pathlib.Path) -> str:
  """Returns a line of the table."""
  points = normalize(jnp.asarray(np.load(file, mmap_mode="r")))
  weights = jnp.ones(len(points))
  start = jax.jit(
    functools.partial(
      seeding.greedy_centers,
      num_points=len(points),
      num_clusters=scale.BUDGET,
      block_size=block_rows(points.shape[1]),
    )
  )
  key = jax.random.key(0)
  of_start, _ = timed(lambda: start(key, points, weights))
  of_all, found = timed(
    lambda: kmeans.weighted_kmeans(
      key, points, weights, num_clusters=scale.BUDGET
    )
  )
  steps = int(found.num_steps)
  per_start = 1e9 * of_start / len(points) / scale.BUDGET
  per_step = 1e9 * (of_all - of_start) / len(points) / steps
  limit = 1e9 * measure_limit(points, scale.BUDGET)
  return (
    f"| {len(points):,} | {steps} | {of_start:.2f} | {of_all:.2f} |"
    f" {per_start:.0f} | {per_step:.0f} | {limit:.0f} |"
  )


def main() -> None:
  """Prints a line for each size."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rows", default="10000,100000,1000000")
  options = parser.parse_args()
  jax.config.update("jax_num_cpu_devices", 1)
  print(
    "| points | steps | start s | all s | start ns a point and center |"
    " step ns a point | its products alone |"
  )
  print("| --- " * 7 + "|")
  with tempfile.TemporaryDirectory() as folder:
    for rows in [int(number) for number in options.rows.split(",")]:
      file = pathlib.Path(folder) / "pool.npy"
      scale.make_pool(file, rows)
      print(run(file), flush=True)


if __name__ == "__main__":
  main()
