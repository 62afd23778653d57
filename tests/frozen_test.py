"""Tests of decern_jax/frozen.py, on features of its own."""

import functools
import json

import jax
import numpy as np
import pytest

from decern_jax import frozen, rounds, training
from decern_jax.data.dataset import Split
from decern_jax.sharding import make_mesh
from decern_jax.strategies import STRATEGIES, Selection

NUM_CLASSES, DIM = 4, 8
# Not a multiple of 8 devices: the pool is padded.
POOL, NUM_TEST, NUM_VAL = 61, 42, 5
INITIAL, BUDGET, NUM_ROUNDS = 4, 5, 5
RECIPE = training.Recipe(
  num_epochs=30,
  batch_size=16,
  learning_rate=0.03,
  warmup_epochs=2,
  warmup_learning_rate=1e-3,
  final_learning_rate=1e-3,
)
OPTIONS = {"uncertainty_gamma": 0.5, "diversity_gamma": 0.8}


def draw(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Draws noisy copies of one prototype per class."""
  rng = np.random.default_rng(seed)
  labels = np.arange(num_rows, dtype=np.int32) % NUM_CLASSES
  prototypes = np.random.default_rng(0).random((NUM_CLASSES, DIM))
  noise = 0.15 * rng.standard_normal((num_rows, DIM))
  return (prototypes[labels] + noise).astype(np.float32), labels


def make_split(name: str, labels: np.ndarray) -> Split:
  ids = tuple(f"{name}/{i:03d}.jpg" for i in range(len(labels)))
  return Split(ids=ids, labels=labels, read=None)


def make_task(
  num_devices: int = 8, *, with_val: bool = False, **changes
) -> frozen.Task:
  mesh = make_mesh(num_devices)
  sizes = {"train": POOL, "test": NUM_TEST}
  if with_val:
    sizes["val"] = NUM_VAL
  parts, ids = {}, {}
  for seed, (name, size) in enumerate(sizes.items()):
    rows, labels = draw(size, seed + 1)
    split = make_split(name, labels)
    parts[name], ids[name] = frozen.place(rows, split, mesh), split.ids
  task = frozen.Task(
    ids=ids["train"],
    num_classes=NUM_CLASSES,
    parts=parts,
    initial_budget=INITIAL,
    budget=BUDGET,
  )
  return task._replace(**changes)


def make_advance(
  task, strategy="decern", *, seed=1, num_rounds=NUM_ROUNDS, recipe=RECIPE
):
  row = STRATEGIES[strategy]
  options = {name: OPTIONS[name] for name in row.options}
  return functools.partial(
    frozen.advance,
    task,
    seed=seed,
    num_rounds=num_rounds,
    recipe=recipe,
    select=functools.partial(row.select, **options),
  )


def run(task, strategy="decern", **options):
  """Returns the states before each round and after the last, and records."""
  advance = make_advance(task, strategy, **options)
  states = [frozen.init(task, seed=options.get("seed", 1))]
  records = []
  for _ in range(options.get("num_rounds", NUM_ROUNDS)):
    state, record = advance(states[-1])
    states.append(state)
    records.append(record)
  return states, records


def without_seconds(records: list[dict]) -> str:
  """Returns records as text; floats in it are exact."""
  kept = [{k: v for k, v in r.items() if k != "seconds"} for r in records]
  return json.dumps(kept, allow_nan=False)


@pytest.fixture(scope="module")
def task() -> frozen.Task:
  return make_task()


@pytest.fixture(scope="module")
def decern_run(task):
  return run(task)


@pytest.fixture
def compiled():
  """Collects the durations of compilations while a test runs."""
  found = []

  def listen(event: str, duration: float, **unused) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
      found.append(duration)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield found
  jax.monitoring.unregister_event_duration_listener(listen)


class TestPlace:
  def test_pads_to_equal_shards_and_says_where(self):
    rows, labels = draw(POOL, 1)
    part = frozen.place(rows, make_split("train", labels), make_mesh(8))
    padded = 64
    assert part.features.shape == (padded, DIM)
    assert part.labels.shape == part.valid.shape == (padded,)
    np.testing.assert_array_equal(part.features[:POOL], rows)
    np.testing.assert_array_equal(part.labels[:POOL], labels)
    assert np.asarray(part.valid).tolist() == [True] * POOL + [False] * 3

  def test_splits_rows_over_the_mesh(self):
    rows, labels = draw(POOL, 1)
    part = frozen.place(rows, make_split("train", labels), make_mesh(8))
    for array in part:
      assert len(array.sharding.device_set) == 8
      assert array.addressable_shards[0].data.shape[0] == 8

  @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
  def test_rejects_features_that_are_not_finite(self, value):
    rows, labels = draw(POOL, 1)
    rows[[7, 9], 3] = value
    with pytest.raises(ValueError, match=r"for 2 examples.*'train/007\.jpg'"):
      frozen.place(rows, make_split("train", labels), make_mesh(8))


class TestInit:
  def test_labels_the_initial_budget(self, task):
    state = frozen.init(task, seed=1)
    assert int(state.round) == 0
    assert state.labeled.sum() == INITIAL
    assert set(np.asarray(state.labeled_at).tolist()) == {-1, 0}

  def test_depends_on_the_seed_alone(self, task):
    again = frozen.init(make_task(1, budget=1), seed=1)
    other = frozen.init(task, seed=2)
    first = frozen.init(task, seed=1)
    np.testing.assert_array_equal(first.labeled_at, again.labeled_at)
    assert (np.asarray(first.labeled_at) != np.asarray(other.labeled_at)).any()

  def test_larger_initial_set_has_the_smaller_in_it(self, task):
    few = frozen.init(task, seed=1).labeled
    many = frozen.init(task._replace(initial_budget=20), seed=1).labeled
    assert many[few].all()

  def test_draws_every_example_about_as_often(self, task):
    counts = sum(frozen.init(task, seed=s).labeled for s in range(150))
    expected = 150 * INITIAL / POOL
    # Five standard deviations of a binomial count.
    assert counts.max() < expected + 5 * np.sqrt(expected)

  def test_may_label_the_whole_pool(self, task):
    state = frozen.init(task._replace(initial_budget=POOL), seed=1)
    assert state.labeled.all()


class TestAdvance:
  def test_learns(self, decern_run):
    accuracy = [record["test"]["accuracy"] for record in decern_run[1]]
    assert accuracy[-1] > 0.9
    assert accuracy[-1] > accuracy[0]
    assert accuracy[0] > 1 / NUM_CLASSES

  def test_labels_the_budget_in_every_round_but_the_last(self, decern_run):
    states, records = decern_run
    expected = [INITIAL + BUDGET * i for i in range(NUM_ROUNDS)]
    assert [record["num_labeled"] for record in records] == expected
    assert [int(s.labeled.sum()) for s in states] == [*expected, expected[-1]]
    assert [record["round"] for record in records] == [*range(NUM_ROUNDS)]
    assert [int(state.round) for state in states] == [*range(NUM_ROUNDS + 1)]

  def test_record_names_what_the_state_has(self, task, decern_run):
    states, records = decern_run
    labeled_at = np.asarray(states[-1].labeled_at)
    for record in records:
      at = np.flatnonzero(labeled_at == record["round"] + 1)
      assert sorted(record["selected"]) == [task.ids[i] for i in at]
      assert len(record["selected"]) == len(set(record["selected"]))

  def test_last_round_selects_nothing(self, decern_run):
    last = decern_run[1][-1]
    assert last["selected"] == []
    assert last["scores"] is None
    assert last["test"]["accuracy"] > 0

  def test_record_survives_json(self, decern_run):
    for record in decern_run[1]:
      text = json.dumps(record, allow_nan=False)
      assert json.loads(text) == record

  def test_record_has_losses_and_seconds_by_stage(self, decern_run):
    for record in decern_run[1]:
      assert set(record) == {
        *("round", "num_labeled", "train", "test"),
        *("selected", "scores", "seconds"),
      }
      assert 0 < record["train"]["loss"] < 2
      assert record["test"]["loss"] > 0
      assert set(record["seconds"]) == {"train", "evaluate", "select"}
      assert all(value >= 0 for value in record["seconds"].values())

  def test_scores_stand_beside_their_ids(self, task, decern_run):
    """With a strategy that scores the first candidates by their position."""

    def select(key, pool, *, budget):
      positions = np.flatnonzero(np.asarray(pool.candidates))[:budget][::-1]
      return Selection(positions, np.arange(len(pool.labels)) / 4)

    advance = functools.partial(
      frozen.advance,
      task,
      seed=1,
      num_rounds=NUM_ROUNDS,
      recipe=RECIPE,
      select=select,
    )
    _, record = advance(decern_run[0][0])
    positions = [task.ids.index(id_) for id_ in record["selected"]]
    assert positions == sorted(positions, reverse=True)
    assert record["scores"] == [position / 4 for position in positions]

  def test_strategy_sees_the_pool_as_it_is(self, task, decern_run):
    seen = []

    def select(key, pool, *, budget):
      seen.append((key, pool, budget))
      positions = np.flatnonzero(np.asarray(pool.candidates))[:budget]
      return Selection(positions, None)

    state = decern_run[0][2]
    frozen.advance(
      task,
      state,
      seed=1,
      num_rounds=NUM_ROUNDS,
      recipe=RECIPE,
      select=select,
    )
    ((key, pool, budget),) = seen
    labeled = np.zeros(64, bool)
    labeled[:POOL] = state.labeled
    valid = np.arange(64) < POOL
    assert budget == BUDGET
    np.testing.assert_array_equal(pool.candidates, valid & ~labeled)
    hidden = np.where(labeled, np.asarray(task.parts["train"].labels), -1)
    np.testing.assert_array_equal(pool.labels, hidden)
    np.testing.assert_allclose(np.asarray(pool.probs).sum(1), 1, rtol=1e-5)
    expected = jax.random.key_data(rounds.round_key(1, "query", 2))
    np.testing.assert_array_equal(jax.random.key_data(key), expected)

  def test_head_is_trained_on_labeled_examples_alone(self, decern_run):
    """Labels of the rest may be anything."""
    hidden = make_task()
    state = decern_run[0][1]
    train = hidden.parts["train"]
    labels = np.array(train.labels)
    labels[:POOL][~state.labeled] = 0
    part = frozen.place(
      np.asarray(train.features)[:POOL],
      make_split("train", labels[:POOL]),
      make_mesh(8),
    )
    parts = {**hidden.parts, "train": part}
    _, record = make_advance(hidden._replace(parts=parts))(state)
    assert without_seconds([record]) == without_seconds([decern_run[1][1]])

  def test_reports_val_where_there_is_one(self):
    _, records = run(make_task(with_val=True), "random", num_rounds=1)
    assert 0 <= records[0]["val"]["accuracy"] <= 1
    assert records[0]["val"]["accuracy"] * NUM_VAL == pytest.approx(
      round(records[0]["val"]["accuracy"] * NUM_VAL)
    )

  @pytest.mark.parametrize("strategy", sorted(STRATEGIES))
  def test_every_strategy_labels_new_examples(self, task, strategy):
    states, records = run(task, strategy, num_rounds=3)
    assert [int(state.labeled.sum()) for state in states] == [4, 9, 14, 14]
    has_scores = [record["scores"] is not None for record in records]
    assert has_scores == [strategy != "random"] * 2 + [False]
    for record in records[:2] if strategy != "random" else ():
      assert len(record["scores"]) == BUDGET
      assert np.isfinite(record["scores"]).all()

  def test_strategies_share_the_first_model(self, task, decern_run):
    _, (record,) = run(task, "random", num_rounds=1)
    first = decern_run[1][0]
    # The padding of another number of rounds changes the order of sums.
    assert record["num_labeled"] == first["num_labeled"]
    _, records = run(task, "random")
    assert records[0]["test"] == first["test"]
    assert records[0]["train"] == first["train"]

  def test_labels_the_whole_pool_in_the_end(self, task):
    exact = task._replace(initial_budget=13, budget=16)
    states, records = run(exact, "margin", num_rounds=4)
    assert states[-1].labeled.all()
    assert records[-1]["num_labeled"] == POOL

  def test_one_round_trains_and_evaluates(self, task):
    states, records = run(task, num_rounds=1)
    assert records[0]["selected"] == []
    np.testing.assert_array_equal(states[1].labeled_at, states[0].labeled_at)

  def test_one_label_is_enough_to_go_on(self, task):
    states, _ = run(task._replace(initial_budget=1), num_rounds=2)
    assert states[-1].labeled.sum() == 1 + BUDGET

  def test_two_fresh_runs_are_bit_equal(self, decern_run):
    _, records = run(make_task())
    assert without_seconds(records) == without_seconds(decern_run[1])

  def test_goes_on_from_a_restored_state(self, task, decern_run):
    states, records = decern_run
    restored = rounds.make_state(3, np.array(states[3].labeled_at))
    state, record = make_advance(task)(restored)
    assert without_seconds([record]) == without_seconds([records[3]])
    np.testing.assert_array_equal(state.labeled_at, states[4].labeled_at)

  def test_seeds_differ(self, task, decern_run):
    _, records = run(task, seed=2, num_rounds=2)
    assert records[0]["selected"] != decern_run[1][0]["selected"]

  @pytest.mark.parametrize("strategy", ["decern", "random"])
  def test_selects_the_same_on_one_device(self, task, strategy):
    _, expected = run(task, strategy)
    _, actual = run(make_task(1), strategy)
    for ours, theirs in zip(actual, expected, strict=True):
      assert ours["selected"] == theirs["selected"]
      assert ours["test"]["accuracy"] == theirs["test"]["accuracy"]
      assert ours["train"]["loss"] == pytest.approx(theirs["train"]["loss"])

  def test_compiles_nothing_after_the_first_round(self, task, compiled):
    fresh = task._replace(budget=BUDGET + 1)
    advance = make_advance(fresh)
    state, _ = advance(frozen.init(fresh, seed=3))
    assert compiled
    compiled.clear()
    for _ in range(NUM_ROUNDS - 1):
      state, _ = advance(state)
    assert compiled == []

  def test_compiles_training_once_for_all_seeds(self, task):
    training.fit_head.clear_cache()
    for seed in (1, 2):
      run(task, "random", seed=seed)
    assert training.fit_head._cache_size() == 1

  def test_refuses_a_loss_that_is_not_finite(self, task):
    recipe = RECIPE._replace(learning_rate=1e38, final_learning_rate=1e38)
    state = frozen.init(task, seed=1)
    message = r"loss became (nan|inf) in epoch \d+ of round 0; .*learning_rate"
    with pytest.raises(RuntimeError, match=message):
      make_advance(task, recipe=recipe)(state)
