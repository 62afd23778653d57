"""Times every strategy on a large pool, against scikit-activeml's.

  python -m venv peer && peer/bin/pip install scikit-activeml
  python -m benchmarks.strategies --peer=peer/bin/python

Selects 400 of 50,000 x 768 with 100 classes and 500 labels. Each strategy runs
in a process of its own. Ours is timed once it is compiled, and its first call
separately. Memory is what the selection adds to the peak of the process. The
peer gets 10 minutes and 16 GiB; if these do not suffice, half the pool is
tried, and so on. `--rows`, `--budget` and `--strategies` change the task.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

DIM, NUM_CLASSES, NUM_LABELED = 768, 100, 500
TIMEOUT = 600
PEER_MEMORY = 16 * 2**30
FAILED = "failed"


def make_pool(rows: int) -> dict[str, np.ndarray]:
  """Returns features in clusters of their class, the first rows labeled."""
  rng = np.random.default_rng(0)
  means = rng.standard_normal((NUM_CLASSES, DIM)).astype(np.float32)
  labels = rng.integers(0, NUM_CLASSES, rows).astype(np.int32)
  labels[:NUM_LABELED] = np.arange(NUM_LABELED) % NUM_CLASSES
  noise = rng.standard_normal((rows, DIM)).astype(np.float32)
  features = means[labels] + np.float32(2.0) * noise
  anchors = np.stack(
    [
      features[:NUM_LABELED][labels[:NUM_LABELED] == label].mean(axis=0)
      for label in range(NUM_CLASSES)
    ]
  )
  return {
    "features": features,
    "labels": labels,
    "kernel": (anchors.T / np.float32(100.0)),
  }


def run_ours(name: str, file: str, budget: int) -> dict:
  """Selects with a strategy of ours; returns seconds and bytes."""
  import jax
  import jax.numpy as jnp

  from decern_jax.distributed.sharding import make_mesh, place_pool
  from decern_jax.features import embedding
  from decern_jax.ops.head import LinearHead
  from decern_jax.strategies import STRATEGIES, Pool

  data = np.load(file)
  mesh = make_mesh()
  rows = len(data["features"])
  is_labeled = np.arange(rows) < NUM_LABELED
  head = LinearHead(jnp.asarray(data["kernel"]), jnp.zeros(NUM_CLASSES))
  placed = place_pool(data["features"], mesh)
  pool = Pool(
    candidates=place_pool(~is_labeled, mesh),
    features=placed,
    probs=embedding.predict(head, placed),
    labels=place_pool(np.where(is_labeled, data["labels"], -1), mesh),
    head=head,
  )
  jax.block_until_ready(pool)
  strategy = STRATEGIES[name]
  choose = strategy.select
  if choose is None:
    raise ValueError(f"Expected a strategy for one label, got {name!r}.")
  options = strategy.choose_options({})

  def select() -> float:
    start = time.perf_counter()
    found = choose(jax.random.key(0), pool, budget=budget, **options)
    indices = np.asarray(found.indices)
    seconds = time.perf_counter() - start
    if len(set(indices.tolist())) != budget:
      raise AssertionError(f"{name} selected an example twice.")
    return seconds

  first = select()
  before = reset_peak()
  seconds = select()
  added = None if before is None else resident("VmHWM") - before
  return {"seconds": seconds, "first": first, "bytes": added}


def reset_peak() -> int | None:
  """Resets the peak to the memory resident now, which it returns; on Linux."""
  try:
    pathlib.Path("/proc/self/clear_refs").write_text("5")
  except OSError:
    return None
  return resident("VmRSS")


def resident(name: str) -> int:
  """Returns bytes of this process: "VmRSS" now, or "VmHWM" at the peak."""
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  (line,) = [line for line in lines if line.startswith(f"{name}:")]
  return 1024 * int(line.split()[1])


def run_peer(name: str, file: str, budget: int) -> dict:
  """Selects with a strategy of scikit-activeml; returns seconds and bytes."""
  from skactiveml import pool as strategies  # pyright: ignore[reportMissingImports]
  from skactiveml.classifier import (  # pyright: ignore[reportMissingImports]
    SklearnClassifier,
  )
  from sklearn.linear_model import LogisticRegression

  data = np.load(file)
  points = data["features"].astype(np.float64)
  labels = data["labels"].astype(np.float64)
  labels[NUM_LABELED:] = np.nan

  def fit(seed: int):
    rows = np.random.default_rng(seed).permutation(NUM_LABELED)[:450]
    model = LogisticRegression(max_iter=20)
    return SklearnClassifier(model, classes=np.arange(float(NUM_CLASSES))).fit(
      points[rows], labels[rows]
    )

  methods = {
    "least_confidence": "least_confident",
    "margin": "margin_sampling",
    "entropy": "entropy",
  }
  if name in methods:
    query = strategies.UncertaintySampling(method=methods[name]).query
    arguments = {"clf": fit(0), "fit_clf": False}
  elif name == "bald":
    query = strategies.GreedyBALD().query
    ensemble = [fit(seed) for seed in range(10)]
    arguments = {"ensemble": ensemble, "fit_ensemble": False}
  elif name in ("badge", "dropquery"):
    kind = {"badge": strategies.Badge, "dropquery": strategies.DropQuery}[name]
    query = kind(random_state=0).query
    arguments = {"clf": fit(0), "fit_clf": False}
  else:
    kind = {
      "coreset": strategies.CoreSet,
      "probcover": strategies.ProbCover,
      "random": strategies.RandomSampling,
      "typiclust": strategies.TypiClust,
    }[name]
    query, arguments = kind(random_state=0).query, {}
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  start = time.perf_counter()
  query(points, labels, batch_size=budget, **arguments)
  seconds = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return {"seconds": seconds, "bytes": 1024 * (after - before)}


PEER_STRATEGIES = (
  *("badge", "bald", "coreset", "dropquery", "entropy", "least_confidence"),
  *("margin", "probcover", "random", "typiclust"),
)


def run_apart(
  python: str, side: str, name: str, file: pathlib.Path, budget: int
) -> dict | str:
  """Runs a strategy in a process; returns its measurements, or its error."""
  command = [
    *(python, "-W", "ignore", "-m", "benchmarks.strategies"),
    *(f"--side={side}", f"--strategies={name}", f"--file={file}"),
    f"--budget={budget}",
  ]
  try:
    done = subprocess.run(
      command, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
  except subprocess.TimeoutExpired:
    return f"more than {TIMEOUT // 60} min"
  if done.returncode:
    lines = done.stderr.strip().splitlines() or [FAILED]
    return "out of memory" if "MemoryError" in done.stderr else lines[-1][:80]
  return json.loads(done.stdout.splitlines()[-1])


def describe(found: dict | str) -> str:
  """Returns a cell of the table."""
  if isinstance(found, str):
    return found
  size = found["bytes"] or 0
  return f"{found['seconds']:.2f} s, {size / 2**30:.2f} GiB"


def compare(names: list[str], rows: int, budget: int, peer: str | None) -> None:
  """Prints a row for each strategy."""
  print("| strategy | decern_jax | first call | scikit-activeml | ratio |")
  print("| --- | --- | --- | --- | --- |")
  with tempfile.TemporaryDirectory() as folder:
    files = {}

    def file_of(count: int) -> pathlib.Path:
      if count not in files:
        files[count] = pathlib.Path(folder) / f"{count}.npz"
        np.savez(
          files[count],
          **make_pool(count),  # pyright: ignore[reportArgumentType]  # no option
        )
      return files[count]

    def ours(name: str, count: int) -> dict | str:
      return run_apart(sys.executable, "ours", name, file_of(count), budget)

    for name in names:
      found, theirs, ratio, count = ours(name, rows), "–", "–", rows
      if peer and name in PEER_STRATEGIES:
        theirs = run_apart(peer, "peer", name, file_of(rows), budget)
        failure, compared = theirs, found
        while isinstance(theirs, str) and count > 4 * budget:
          count //= 2
          theirs = run_apart(peer, "peer", name, file_of(count), budget)
          compared = ours(name, count)
        if isinstance(theirs, dict) and isinstance(compared, dict):
          ratio = f"{theirs['seconds'] / compared['seconds']:.1f}"
        if count < rows:
          ratio += f" at {count:,} rows"
          theirs = f"{failure}; {describe(theirs)}"
      cell = theirs if isinstance(theirs, str) else describe(theirs)
      first = "–" if isinstance(found, str) else f"{found['first']:.1f} s"
      print(
        f"| {name} | {describe(found)} | {first} | {cell} | {ratio} |",
        flush=True,
      )


def main() -> None:
  """Runs the comparison, or one strategy of one side."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--peer", help="Python that has scikit-activeml")
  parser.add_argument("--rows", type=int, default=50_000)
  parser.add_argument("--budget", type=int, default=400)
  parser.add_argument("--strategies", default="", help="names, with commas")
  parser.add_argument("--side", choices=("ours", "peer"), help="used inside")
  parser.add_argument("--file", help="used inside")
  options = parser.parse_args()
  if options.side:
    if options.side == "peer":
      resource.setrlimit(resource.RLIMIT_AS, (PEER_MEMORY, PEER_MEMORY))
    run = run_ours if options.side == "ours" else run_peer
    print(json.dumps(run(options.strategies, options.file, options.budget)))
    return
  names = [name for name in options.strategies.split(",") if name]
  if not names:
    from decern_jax.strategies import STRATEGIES

    names = sorted(STRATEGIES)
  compare(names, options.rows, options.budget, options.peer)


if __name__ == "__main__":
  main()
