"""Times each stage of a round as the pool grows, in bounded memory.

  python -m benchmarks.scale                      # 10,000 to 1,000,000 rows
  python -m benchmarks.scale --devices=1,2,4,8    # simulated devices
  python -m benchmarks.scale --devices=8 --processes=2   # half of them in each
  python -m benchmarks.scale --on_host            # features stay on the disk

Rows x 512 features in a file that is mapped to memory, 100 classes, 500 labels,
budget 100. Each line is a run of its own: seconds of each stage once it is
compiled, the peak of resident memory in a process including the mapped file,
and a digest of the selected ids. Lines with equally many rows must have equal
digests.
"""

import argparse
import hashlib
import json
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np

DIM, NUM_CLASSES, NUM_LABELED, BUDGET = 512, 100, 500, 100
# Rows that are made at once, so that making them takes little memory.
CHUNK = 50_000


def make_pool(path: pathlib.Path, rows: int) -> None:
  """Writes features in clusters of their class, the first rows labeled."""
  features = np.lib.format.open_memmap(
    path, mode="w+", dtype=np.float32, shape=(rows, DIM)
  )
  means = np.random.default_rng(0).standard_normal((NUM_CLASSES, DIM))
  labels = make_labels(rows)
  for start in range(0, rows, CHUNK):
    rng = np.random.default_rng((1, start))
    part = slice(start, min(start + CHUNK, rows))
    noise = rng.standard_normal((part.stop - start, DIM), dtype=np.float32)
    features[part] = means[labels[part]].astype(np.float32) + 2 * noise
  features.flush()


def make_labels(rows: int) -> np.ndarray:
  """Returns the class of every row."""
  labels = np.random.default_rng(2).integers(0, NUM_CLASSES, rows)
  labels[:NUM_LABELED] = np.arange(NUM_LABELED) % NUM_CLASSES
  return labels.astype(np.int32)


def run(
  file: str,
  *,
  num_devices: int,
  on_host: bool,
  address: tuple[str, int, int] | None,
) -> dict:
  """Runs the stages of one selection; returns seconds, bytes and a digest."""
  import jax
  import jax.numpy as jnp

  jax.config.update("jax_num_cpu_devices", num_devices)
  import decern_jax
  from decern_jax.distributed import processes, sharding
  from decern_jax.distributed.rows import InMemory
  from decern_jax.features import embedding
  from decern_jax.ops.head import LinearHead
  from decern_jax.strategies.decern import select_by_score

  if address:
    processes.initialize(processes.Address(*address))
  mesh = sharding.make_mesh()
  source = InMemory(np.load(file, mmap_mode="r"))
  rows = source.shape[0]
  labels = make_labels(rows)
  is_labeled = np.arange(rows) < NUM_LABELED
  means = np.zeros((NUM_CLASSES, DIM), np.float32)
  np.add.at(means, labels[:NUM_LABELED], source.take(np.arange(NUM_LABELED)))
  means *= NUM_CLASSES / NUM_LABELED
  head = LinearHead(jnp.asarray(means.T / 100.0), jnp.zeros(NUM_CLASSES))

  def place():
    if on_host:
      return sharding.place_on_host(source, mesh)
    return sharding.place_rows(
      lambda start, stop: source.take(np.arange(start, stop)),
      source.shape,
      mesh,
    )

  candidates = sharding.place_pool(~is_labeled, mesh)
  known = sharding.place_pool(np.where(is_labeled, labels + 1, 0), mesh) - 1
  seconds = {}

  def timed(name, work):
    start = time.perf_counter()
    found = jax.block_until_ready(work())
    seconds[name] = round(time.perf_counter() - start, 3)
    return found

  def stages():
    pool = timed("place", place)
    probs = timed("predict", lambda: embedding.predict(head, pool))
    anchors = timed(
      "anchors",
      lambda: decern_jax.class_anchors(
        pool, probs, known, num_classes=NUM_CLASSES
      ),
    )
    scores = timed(
      "score",
      lambda: decern_jax.discrepancy_confusion(
        pool, probs, anchors, head, valid=candidates
      ),
    )
    return timed(
      "select",
      lambda: select_by_score(
        jax.random.key(0),
        pool,
        scores,
        anchors,
        budget=BUDGET,
        valid=candidates,
      ),
    )

  stages()
  found = np.asarray(stages())
  peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  digest = hashlib.sha256(found.astype(np.int64).tobytes()).hexdigest()[:8]
  return {"seconds": seconds, "bytes": peak, "digest": digest}


def measure(
  file: pathlib.Path, *, num_devices: int, num_processes: int, on_host: bool
) -> dict:
  """Runs a line of the table; returns what process 0 measured."""
  command = [
    *(sys.executable, "-m", "benchmarks.scale", f"--side={file}"),
    f"--devices={num_devices // num_processes}",
    *(["--on_host"] if on_host else []),
  ]
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  started = [
    subprocess.Popen(
      [*command, f"--address=127.0.0.1:{port},{num_processes},{number}"]
      if num_processes > 1
      else command,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
    )
    for number in range(num_processes)
  ]
  said = [process.communicate()[0] for process in started]
  if any(process.returncode for process in started):
    raise RuntimeError(f"A process failed: {[p.args for p in started]}")
  return [json.loads(text.splitlines()[-1]) for text in said][0]


def main() -> None:
  """Prints a line for each size and number of devices."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rows", default="10000,100000,1000000")
  parser.add_argument("--devices", default="1")
  parser.add_argument("--processes", type=int, default=1)
  parser.add_argument("--on_host", action="store_true")
  parser.add_argument("--side", help="used inside")
  parser.add_argument("--address", help="used inside")
  options = parser.parse_args()
  devices = [int(number) for number in options.devices.split(",")]
  if options.side:
    address = None
    if options.address:
      where, count, number = options.address.split(",")
      address = (where, int(count), int(number))
    found = run(
      options.side,
      num_devices=devices[0],
      on_host=options.on_host,
      address=address,
    )
    print(json.dumps(found))
    return
  stages = ("place", "predict", "anchors", "score", "select")
  print(f"| rows | devices | {' | '.join(stages)} | peak GiB | ids |")
  print("| --- " * (len(stages) + 4) + "|")
  with tempfile.TemporaryDirectory() as folder:
    for rows in [int(number) for number in options.rows.split(",")]:
      file = pathlib.Path(folder) / "pool.npy"
      make_pool(file, rows)
      for count in devices:
        found = measure(
          file,
          num_devices=count,
          num_processes=options.processes,
          on_host=options.on_host,
        )
        cells = [f"{found['seconds'][stage]:.2f}" for stage in stages]
        print(
          f"| {rows:,} | {count} | {' | '.join(cells)}"
          f" | {found['bytes'] / 2**30:.2f} | {found['digest']} |",
          flush=True,
        )


if __name__ == "__main__":
  main()
