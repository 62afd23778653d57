"""A task on features of its own, and whole runs of it without a driver."""

from collections.abc import Iterator
import contextlib
from dataclasses import replace
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.data.dataset import Split
from decern_jax.distributed.sharding import make_mesh
from decern_jax.runs.round import Task, draw_first_state, run_round
from decern_jax.strategies import STRATEGIES, Selection
from decern_jax.training import frozen, learner
from decern_jax.training.recipe import Recipe
from tests import tiny

NUM_CLASSES, DIM = 4, 8
# Not a multiple of 8 devices: the pool is padded.
POOL, NUM_TEST, NUM_VAL = 61, 42, 5
INITIAL, BUDGET, NUM_ROUNDS = 4, 5, 5
RECIPE = Recipe(
  num_epochs=30,
  batch_size=16,
  learning_rate=0.03,
  warmup_epochs=2,
  warmup_learning_rate=1e-3,
  final_learning_rate=1e-3,
)

# One of each kind; the table's own test has them all.
SOME_STRATEGIES = ("coreset", "margin", "random")


def draw(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Draws noisy copies of one prototype per class."""
  rng = np.random.default_rng(seed)
  labels = np.arange(num_rows, dtype=np.int32) % NUM_CLASSES
  prototypes = np.random.default_rng(0).random((NUM_CLASSES, DIM))
  noise = 0.15 * rng.standard_normal((num_rows, DIM))
  return (prototypes[labels] + noise).astype(np.float32), labels


def refuse_to_read(index: int) -> np.ndarray:
  raise AssertionError(f"Expected only features, got image {index} asked for.")


def make_split(name: str, labels: np.ndarray) -> Split:
  ids = tuple(f"{name}/{i:03d}.jpg" for i in range(len(labels)))
  return Split(ids=ids, labels=labels, read=refuse_to_read)


def make_task(**changes) -> Task:
  _, labels = draw(POOL, 1)
  task = Task(
    ids=make_split("train", labels).ids,
    initial_budget=INITIAL,
    budget=BUDGET,
    num_rounds=NUM_ROUNDS,
  )
  return replace(task, **changes)


def make_parts(
  num_devices: int = 8, *, with_val: bool = False
) -> dict[str, learner.PlacedSplit]:
  sizes = {"train": POOL, "test": NUM_TEST}
  if with_val:
    sizes["val"] = NUM_VAL
  parts = {}
  for seed, (name, size) in enumerate(sizes.items()):
    rows, labels = draw(size, seed + 1)
    split = make_split(name, labels)
    parts[name] = learner.place(rows, split, make_mesh(num_devices))
  return parts


def make_learner(
  task,
  parts,
  *,
  seed: int = 1,
  recipe=RECIPE,
  auxiliary=None,
  method: str = "supervised",
) -> learner.Learner:
  return frozen.make_learner(
    {"params": {}},
    parts,
    num_classes=NUM_CLASSES,
    capacity=task.capacity,
    seed=seed,
    recipe=recipe,
    auxiliary=auxiliary,
    describe_pool=frozen.pool_description(method, parts["train"]),
  )


def make_advance(
  task,
  parts,
  strategy="decern",
  *,
  seed=1,
  recipe=RECIPE,
  method="supervised",
  **options,
):
  row = STRATEGIES[strategy]
  select_options = row.choose_options({})
  assert row.select is not None
  return functools.partial(
    run_round,
    task,
    seed=seed,
    learner=make_learner(
      task,
      parts,
      seed=seed,
      recipe=recipe,
      auxiliary=row.auxiliary,
      method=method,
    ),
    select=functools.partial(row.select, **select_options),
    needs=row.needs,
    **options,
  )


def run(task, parts, strategy="decern", *, seed=1, **options):
  """Returns the states before each round and after the last, and records."""
  advance = make_advance(task, parts, strategy, seed=seed, **options)
  states, records = [draw_first_state(task, seed=seed)], []
  for _ in range(task.num_rounds):
    state, record = advance(states[-1])
    states.append(state)
    records.append(record)
  return states, records


class Spy:
  """A strategy that takes the first candidates, and notes what it is shown."""

  def __init__(self):
    self.seen: list[tuple] = []

  def __call__(self, key, pool, *, budget):
    self.seen.append((key, pool, budget))
    positions = np.flatnonzero(np.asarray(pool.candidates))[:budget]
    scores = jnp.arange(len(pool.candidates)) / 4
    return Selection(jnp.asarray(positions[::-1]), scores)


def advance(task, parts, state, select, *, seed=1, **options):
  """Runs one round with a strategy of any kind."""
  made = make_learner(task, parts, seed=seed)
  return run_round(
    task, state, seed=seed, learner=made, select=select, **options
  )


def without_seconds(records: list[dict]) -> str:
  """Returns records as text; floats in it are exact."""
  return json.dumps(tiny.without_costs(records), allow_nan=False)


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
  """Yields a list that collects the durations of compilations."""
  found = []

  def listen(event: str, duration_secs: float, **unused) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
      found.append(duration_secs)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
