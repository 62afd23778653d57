"""Compares weighted k-means with scikit-learn's, on real or random features.

  python -m benchmarks.kmeans                  # random features
  python -m benchmarks.kmeans --features=FILE  # a block of a run's cache

Normalised features, random weights, one start, five seeds. Both sides run
alternately in one process.
"""

import argparse
import statistics
import time

import jax
import numpy as np
from sklearn.cluster import KMeans

from benchmarks.scoring import make_pool
import decern_jax

SEEDS = range(5)


def main() -> None:
  """Runs the comparison."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--features")
  parser.add_argument("--clusters", type=int, default=81)
  options = parser.parse_args()
  if options.features:
    features = np.load(options.features)
  else:
    features = make_pool(5594, 200, 2048)["features"]
  points = features / np.linalg.norm(features, axis=1, keepdims=True)
  weights = np.random.default_rng(0).random(len(points), np.float32)
  k = options.clusters

  def ours(seed):
    clusters = decern_jax.weighted_kmeans(
      jax.random.key(seed), points, weights, num_clusters=k
    )
    return float(clusters.inertia), int(clusters.num_steps)

  def theirs(seed):
    # scikit-learn has no types, and a string as the default.
    clusters = KMeans(
      k,
      n_init=1,  # pyright: ignore[reportArgumentType]
      random_state=seed,
    )
    clusters.fit(points, sample_weight=weights)
    return clusters.inertia_, clusters.n_iter_

  ours(0)
  times = {ours: [], theirs: []}
  inertias = {ours: [], theirs: []}
  for seed in SEEDS:
    for function in (theirs, ours):
      start = time.perf_counter()
      inertia, num_steps = function(seed)
      times[function].append(time.perf_counter() - start)
      inertias[function].append(inertia)
      print(f"  {function.__name__}: {num_steps} steps, inertia {inertia:.3f}")
  ratio = np.mean(inertias[ours]) / np.mean(inertias[theirs])
  fast, slow = (statistics.median(times[f]) for f in (ours, theirs))
  print(
    f"{points.shape[0]} x {points.shape[1]}, {k} clusters: inertia {ratio:.4f}"
    f" of scikit-learn's; {fast:.3f} s against {slow:.3f} s"
  )


if __name__ == "__main__":
  main()
