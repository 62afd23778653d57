"""Tests of decern_jax/annotation/loop.py."""

import pathlib
import tempfile
import threading

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

import decern_jax
from decern_jax.annotation import loop as loop_lib
from decern_jax.annotation.loop import Loop
from decern_jax.data.dataset import Split
from decern_jax.distributed.sharding import make_mesh
from decern_jax.ops.head import LinearHead
from decern_jax.runs import round as rounds_lib
from decern_jax.strategies import STRATEGIES
from decern_jax.training import frozen, learner
from decern_jax.training.recipe import Recipe
from tests import tiny
from tests.table import each

SIZE, DIM = 160, 6
RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 3, SIZE)
FEATURES = RNG.normal(size=(SIZE, DIM)) + 2.0 * np.eye(3, DIM)[CLASSES]
FEATURES = FEATURES.astype(np.float32)
NAMES = np.array(["ant", "bee", "cat"])
RECIPE = Recipe(num_epochs=3, batch_size=16, learning_rate=0.1)
IDS = [f"{row:03}.png" for row in range(SIZE)]


def make_loop(**options) -> Loop:
  """A loop that compiles little."""
  given = {"strategy": "margin", "initial_strategy": "random", "recipe": RECIPE}
  return Loop(FEATURES, **{**given, **options})


def select_first(name, *, budget, labels, pending, **inputs) -> np.ndarray:
  """Stands in for `select`: the first candidates."""
  del name, inputs
  is_labeled = (labels if labels.ndim == 1 else labels[:, 0]) >= 0
  return np.flatnonzero(~is_labeled & ~pending)[:budget]


@pytest.fixture
def first(monkeypatch):
  """Selects without compiling anything."""
  monkeypatch.setattr(loop_lib, "select", select_first)


class TestSession:
  def test_equals_the_rounds_of_a_run(self):
    """One state: the same keys, heads and selections as `run_round` has."""
    task = rounds_lib.Task(tuple(IDS), 48, 40, 3)
    mesh = make_mesh(1)
    split = Split(tuple(IDS), CLASSES.astype(np.int32), lambda index: FEATURES)
    splits = {"train": learner.place(FEATURES, split, mesh)}
    made = frozen.make_learner(
      None,
      splits,
      num_classes=3,
      capacity=task.capacity,
      seed=5,
      recipe=RECIPE,
    )
    random, margin = STRATEGIES["random"].select, STRATEGIES["margin"].select
    assert random is not None
    assert margin is not None
    state = rounds_lib.select_first_state(
      task, splits["train"], seed=5, select=random
    )
    loop = make_loop(ids=IDS, seed=5)
    ids = loop.ask(48)
    assert set(ids) == {IDS[row] for row in np.flatnonzero(state.labeled)}
    for _ in range(2):
      loop.tell(ids, [int(CLASSES[IDS.index(str(id_))]) for id_ in ids])
      state, record = rounds_lib.run_round(
        task, state, seed=5, learner=made, select=margin, needs=("probs",)
      )
      ids = loop.ask(40)
      assert ids == record["selected"]
    assert loop.round == 3

  def test_takes_late_partial_and_repeated_answers(self, first):
    loop = make_loop(ids=IDS)
    asked = loop.ask(6)
    assert asked == IDS[:6]
    assert loop.pending == asked
    assert loop.tell(asked[1:3], ["bee", "cat"]) == 2
    assert loop.tell(asked[1:3], ["bee", "ant"]) == 1
    assert loop.labels == {asked[1]: "bee", asked[2]: "ant"}
    assert loop.ask(2) == IDS[6:8]
    # Of the first query, after the second one; and what nobody asked.
    assert loop.tell([asked[0], IDS[50]], np.array(["cat", "dog"])) == 2
    assert loop.pending == [*asked[3:], *IDS[6:8]]
    assert loop.class_names == ("ant", "bee", "cat", "dog")
    assert loop.num_left == SIZE - 9

  def test_returns_skipped_rows_to_the_pool(self, first):
    loop = make_loop()
    assert loop.ask(3) == [0, 1, 2]
    loop.tell([0, 1], [None, 4])
    assert loop.pending == [2]
    assert loop.ask(2) == [0, 3]
    assert set(loop.pending) == {0, 2, 3}
    # An answer given before the row was asked again is none to that query.
    assert loop.tell([0], [None]) == 0
    loop.tell([0], [None], annotator="mira")
    assert 0 not in loop.pending
    loop.tell([1], [None])
    assert loop.labels == {}

  def test_the_majority_of_people_wins(self, first):
    loop = make_loop()
    for person, label in (("x", "bee"), ("y", "ant"), ("z", "ant")):
      loop.tell([7], [label], annotator=person)
    assert loop.labels == {7: "ant"}

  def test_takes_several_labels_as_lists_and_as_a_table(self, first):
    loop = make_loop(is_multi_label=True, class_names=["x", "y", "z"])
    loop.tell([0, 1, 2, 3], [["z", "x"], [], None, ("w",)])
    assert loop.labels == {0: ("x", "z"), 1: (), 3: ("w",)}
    assert loop.tell([0], [["x", "z"]]) == 0
    table = np.array([[0, 1, 0, 1], [0, 0, 0, 0]])
    assert loop.class_names == ("x", "y", "z", "w")
    loop.tell([4, 5], jax.numpy.asarray(table))
    assert loop.labels[4] == ("w", "y")
    assert loop.labels[5] == ()
    numbers = make_loop(is_multi_label=True)
    numbers.tell([4, 5], table)
    numbers.tell([6], [[10, 2]])
    assert numbers.labels == {4: (1, 3), 5: (), 6: (2, 10)}
    assert numbers.class_names == tuple(range(11))

  def test_adds_rows(self, first):
    loop = Loop(FEATURES[:2])
    loop.add(FEATURES[2:4])
    loop.add(FEATURES[4:5], ids=[9])
    loop.add(FEATURES[5:6])
    assert loop.ids == [0, 1, 2, 3, 9, 10]
    assert loop.ask(6) == loop.ids

  def test_labels_before_any_query_are_those_of_round_0(self, first):
    loop = make_loop()
    loop.tell([5, 6], ["ant", "bee"])
    loop.ask(2)
    assert loop.round == 2


class TestStrategy:
  @pytest.fixture
  def calls(self, monkeypatch) -> list:
    calls = []

    def note(name, **inputs):
      calls.append((name, inputs))
      return select_first(name, **inputs)

    monkeypatch.setattr(loop_lib, "select", note)
    return calls

  def test_is_the_initial_one_before_two_classes(self, calls):
    loop = make_loop(options={})
    loop.ask(3)
    loop.tell([0, 1], ["ant", "ant"])
    loop.ask(3)
    loop.tell([2], ["bee"])
    loop.ask(3)
    assert [name for name, _ in calls] == ["random", "random", "margin"]
    assert isinstance(calls[2][1]["head"], LinearHead)
    assert np.flatnonzero(calls[2][1]["pending"]).tolist() == [3, 4, 5]

  def test_uses_the_models_of_the_user(self, calls):
    loop = make_loop()
    probs = np.full((SIZE, 3), 1 / 3)
    loop.ask(3, probs=probs)
    name, inputs = calls[0]
    assert name == "margin"
    assert inputs["head"] is None
    assert inputs["probs"] is probs
    # It needs labels, and there are none.
    other = make_loop(strategy="decern")
    other.ask(3, probs=probs, head=(np.ones((DIM, 3)), np.ones(3)))
    assert calls[1][0] == "random"

  def test_needs_no_model_where_it_reads_none(self, calls):
    loop = make_loop(strategy="coreset", initial_strategy="typiclust")
    loop.ask(1)
    loop.tell([0], ["ant"])
    loop.ask(1)
    assert [name for name, _ in calls] == ["typiclust", "coreset"]
    assert calls[1][1]["head"] is None

  def test_trains_for_predicted_strata(self, calls):
    loop = make_loop(strategy="random")
    loop.tell([0, 1], [1, 0])
    loop.ask(1, strata="predicted", quotas={0: 1})
    assert isinstance(calls[0][1]["head"], LinearHead)

  def test_trains_a_head_that_learns(self):
    recipe = Recipe(num_epochs=60, batch_size=16, learning_rate=0.1)
    loop = make_loop(recipe=recipe)
    loop.tell(range(100), CLASSES[:100])
    head = loop.train()
    logits = FEATURES @ np.asarray(head.kernel) + np.asarray(head.bias)
    predicted = logits.argmax(axis=1)
    assert (predicted == CLASSES)[100:].mean() > 0.7

  def test_trains_on_several_labels(self):
    loop = make_loop(is_multi_label=True)
    loop.tell(range(50), np.eye(3, dtype=int)[CLASSES[:50]])
    assert loop.train().kernel.shape == (DIM, 3)

  @pytest.mark.parametrize("is_multi_label", [False, True])
  def test_selects_with_what_it_is_by_default(self, is_multi_label):
    name = "decern_multilabel" if is_multi_label else "decern"
    loop = Loop(
      FEATURES, strategy=name, is_multi_label=is_multi_label, recipe=RECIPE
    )
    ids = loop.ask(8)
    labels = [
      [c] if is_multi_label else c for c in CLASSES[np.array(ids, int)].tolist()
    ]
    loop.tell(ids, labels)
    again = loop.ask(8)
    assert len({*ids, *again}) == 16


class TestSave:
  def test_the_next_queries_are_equal(self, tmp_path):
    loop = make_loop(ids=IDS, options={}, seed=3, class_names=["cat", "ant"])
    asked = loop.ask(10)
    loop.tell(asked[:8], NAMES[[IDS.index(str(id_)) % 3 for id_ in asked[:8]]])
    loop.tell(asked[8:9], [None], annotator="mira")
    loop.save(tmp_path / "loop.npz")
    again = Loop.load(tmp_path / "loop.npz")
    again.save(tmp_path / "again.npz")
    content = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert len(content) == 2
    assert content[0] == content[1]
    for kept in (loop, again):
      kept.tell(asked[9:], ["cat"])
    for name in ("ids", "labels", "pending", "round", "class_names"):
      assert getattr(again, name) == getattr(loop, name)
    assert again.ask(10) == loop.ask(10)
    np.testing.assert_array_equal(again.train().kernel, loop.train().kernel)

  def test_a_failure_leaves_the_old_file(self, tmp_path, monkeypatch):
    path = tmp_path / "loop.npz"
    make_loop().save(path)
    before = path.read_bytes()

    def fail(*args):
      raise OSError("disk full")

    monkeypatch.setattr(loop_lib.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
      make_loop(seed=1).save(path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == before

  @each("content", [b"", b"PK\x03\x04", b"{}"])
  def test_refuses_another_file(self, tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="file of `Loop.save` in .*x.npz"):
      Loop.load(path)

  def test_refuses_an_array_and_pickles(self, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, features=FEATURES, state=np.array([{}], object))
    with pytest.raises(ValueError, match="file of `Loop.save`.*pickle"):
      Loop.load(path)
    np.savez(path, features=FEATURES)
    with pytest.raises(ValueError, match="file of `Loop.save`.*state"):
      Loop.load(path)
    np.save(tmp_path / "x.npy", FEATURES)
    with pytest.raises(ValueError, match="file of `Loop.save`"):
      Loop.load(tmp_path / "x.npy")


BAD = np.where(FEATURES > 2.5, np.nan, FEATURES)


class TestRefusals:
  @each(
    "changes, message",
    [
      ({"features": BAD}, "finite numbers in `features`, got NaN or infinity"),
      ({"features": FEATURES[0]}, r"`features` \[rows, dim\].*\(6,\)"),
      ({"features": FEATURES[:0]}, r"at least one row .*\(0, 6\)"),
      ({"ids": [1, 2]}, "160 `ids`, one for each row, got 2"),
      ({"ids": [0, *range(159)]}, "distinct `ids`, got 0 twice"),
      ({"ids": ["a", *range(159)]}, "all text or all integers, got 0"),
      ({"ids": [0.5] * SIZE}, "all text or all integers, got 0.5"),
      ({"ids": "a" * SIZE}, "`ids` as a list, got 'aaa"),
      ({"strategy": "margn"}, "Unknown strategy 'margn'.*'margin'"),
      ({"strategy": "decern_multilabel"}, "strategy for one label per"),
      ({"is_multi_label": True, "strategy": "decern"}, "for several labels"),
      ({"initial_strategy": "margin"}, "no trained model, got 'margin'"),
      ({"options": {"gamma": 1}}, r"Unknown options \['gamma'\] of 'margin'"),
      ({"class_names": ["a", 1]}, "Expected names of classes, got 1"),
      ({"seed": -1}, "0 <= `seed`.*got -1"),
    ],
  )
  def test_of_a_loop(self, changes, message):
    made = {"features": FEATURES, "strategy": "margin", **changes}
    with pytest.raises(ValueError, match=message):
      Loop(**made)

  @each(
    "ids, labels, message",
    [
      (["999.png"], ["ant"], "ids of the loop's rows, got '999.png'"),
      ([3], ["ant"], "ids of the loop's rows, got 3"),
      (IDS[0], ["ant"], "`ids` as a list, got '000.png'"),
      (IDS[:2], ["ant"], "2 `labels`, one for each id, got 1"),
      ([IDS[0]] * 2, ["ant"] * 2, "distinct `ids`, got 000.png twice"),
      (IDS[:1], "a", "`labels` as a list, got 'a'"),
      (IDS[:1], [3], "names of classes, got 3"),
      (IDS[:1], [1.5], "the name of a class, .*got 1.5"),
      (IDS[:1], [float("nan")], "or None for a row .*skipped, got nan"),
      (IDS[:1], [-1], "its number >= 0, .*got -1"),
      (IDS[:1], [True], "got True"),
      (IDS[:1], [" "], "got ' '"),
      (IDS[:1], [["ant"]], r"got \['ant'\]"),
      (IDS[:2], ["bee", 0], "names of classes, got 0"),
    ],
  )
  def test_of_answers(self, ids, labels, message):
    loop = make_loop(ids=IDS)
    loop.tell(IDS[5:6], ["ant"])
    with pytest.raises(ValueError, match=message):
      loop.tell(ids, labels)
    assert loop.labels == {IDS[5]: "ant"}

  @each(
    "labels, message",
    [
      (["x"], "list of classes for each id, .*got 'x'"),
      (np.array([[0, 2]]), "0 and 1 in `labels`, got 2"),
      (np.array([[0, 1, 1]]), r"`labels` \[ids, 2\].*\(1, 3\)"),
      ([[3]], "names of classes, got 3"),
    ],
  )
  def test_of_several_labels(self, labels, message):
    loop = make_loop(is_multi_label=True, class_names=["x", "y"])
    with pytest.raises(ValueError, match=message):
      loop.tell([0], labels)

  def test_of_a_number_too_large_after_names_keeps_the_type(self):
    loop = make_loop()
    with pytest.raises(ValueError, match="numbers of classes, got 'a'"):
      loop.tell([0, 1], [7, "a"])
    assert loop.class_names == ()
    loop.tell([0], ["a"])

  @each(
    "changes, message",
    [
      (
        {"budget": 158},
        "`budget` <= 157 rows that are left: of 160, 2 have a"
        " label and 1 wait for one, got 158",
      ),
      ({"budget": 0}, "1 <= `budget`, got 0"),
      ({"probs": np.ones((SIZE, 1))}, r"`probs` \[rows, 2\].*'bee'.*160, 1"),
      ({"probs": np.full((SIZE, 2), np.nan)}, "finite numbers in `probs`"),
      ({"probs": np.full((3, 2), 0.5)}, r"`probs` of shape \[160, "),
      ({"head": 3}, "`head` as a pair"),
    ],
  )
  def test_of_queries(self, changes, message):
    loop = make_loop()
    loop.ask(1)
    waiting = loop.pending
    left = [row for row in range(SIZE) if row not in waiting]
    loop.tell(left[:2], ["ant", "bee"])
    with pytest.raises(ValueError, match=message):
      loop.ask(**{"budget": 1, **changes})
    assert loop.pending == waiting
    assert loop.round == 1

  @each(
    "features, ids, message",
    [
      (FEATURES[:1, :2], None, r"`features` \[rows, 6\].*\(1, 2\)"),
      (BAD, None, "finite numbers"),
      (FEATURES[:1], [3], "new ids, got 3 again"),
      (FEATURES[:1], ["x"], "all text or all integers, got 'x'"),
    ],
  )
  def test_of_rows(self, features, ids, message):
    loop = make_loop()
    with pytest.raises(ValueError, match=message):
      loop.add(features, ids)
    assert len(loop.ids) == SIZE

  def test_of_rows_without_names(self):
    with pytest.raises(ValueError, match="`ids` of 1 rows, got none"):
      make_loop(ids=IDS).add(FEATURES[:1])

  def test_of_a_training_without_classes(self):
    loop = make_loop()
    loop.tell([0], ["ant"])
    message = r"got 1 labels of the classes \['ant'\]"
    with pytest.raises(ValueError, match=message):
      loop.train()

  def test_of_a_training_that_diverges(self):
    loop = make_loop(
      recipe=Recipe(num_epochs=3, batch_size=16, learning_rate=1e38)
    )
    loop.tell([0, 1], ["ant", "bee"])
    with pytest.raises(RuntimeError, match="loss became (nan|inf)"):
      loop.train()


EVENTS = st.lists(
  st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 4)),
    st.tuples(
      st.just("tell"),
      st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from(["a", "b", None])),
        unique_by=lambda pair: pair[0],
        max_size=5,
      ),
    ),
    st.tuples(st.just("add"), st.integers(1, 3)),
    st.tuples(st.just("save"), st.none()),
  ),
  max_size=15,
)


class TestAnyOrder:
  @settings(max_examples=60, deadline=None, derandomize=True)
  @given(EVENTS)
  def test_asks_nothing_twice_and_loses_no_label(self, events):
    with (
      pytest.MonkeyPatch.context() as patch,
      tempfile.TemporaryDirectory() as folder,
    ):
      patch.setattr(loop_lib, "select", select_first)
      patch.setattr(Loop, "train", lambda self: None)
      self.check(events, pathlib.Path(folder) / "loop.npz")

  def check(self, events, path: pathlib.Path) -> None:
    loop = Loop(FEATURES[:4], strategy="margin")
    waiting, labels = set(), {}
    for event, value in events:
      if event == "ask" and loop.num_left >= value:
        asked = loop.ask(value)
        assert len(set(asked)) == value
        assert not set(asked) & (waiting | set(labels))
        waiting |= set(asked)
      elif event == "tell":
        answers = {i: label for i, label in value if i < len(loop.ids)}
        loop.tell([*answers], [*answers.values()])
        for id_, label in answers.items():
          labels.pop(id_, None)
          if label is not None:
            labels[id_] = label
      elif event == "add":
        loop.add(FEATURES[:value])
      elif event == "save":
        loop.save(path)
        loop = Loop.load(path)
      waiting = set(loop.pending) if event == "tell" else waiting
      assert loop.labels == labels
      assert set(loop.pending) == waiting
      assert loop.num_left == len(loop.ids) - len(waiting | set(labels))


class TestThreads:
  def test_get_distinct_rows(self, first, monkeypatch):
    loop = make_loop()
    barrier = threading.Barrier(8)
    found, errors = [], []

    def slow(name, **inputs):
      chosen = select_first(name, **inputs)
      # Lets other threads run between the choice and its record.
      threading.Event().wait(1e-3)
      return chosen

    monkeypatch.setattr(loop_lib, "select", slow)
    monkeypatch.setattr(loop, "train", lambda: None)

    def work(number: int) -> None:
      try:
        barrier.wait(timeout=60)
        for _ in range(5):
          ids = loop.ask(4)
          found.extend(ids)
          loop.tell(ids, [number % 3] * 4)
      except BaseException as error:  # noqa: BLE001 (shown by the test)
        errors.append(error)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for worker in workers:
      worker.start()
    for worker in workers:
      worker.join(timeout=120)
    assert errors == []
    assert sorted(found) == list(range(SIZE))
    assert len(loop.labels) == SIZE


class TestPackage:
  def test_offers_it_by_name(self):
    assert decern_jax.Loop is Loop
    with pytest.raises(AttributeError, match="no attribute 'Loops'"):
      _ = decern_jax.Loops  # pyright: ignore[reportAttributeAccessIssue]

  def test_needs_the_core_only_and_loads_when_used(self):
    script = """
import sys
sys.modules.update(dict.fromkeys(
  ["flax", "orbax", "fsspec", "filelock", "ml_collections", "PIL",
   "cv2", "scipy", "safetensors", "tensorboardX", "matplotlib"]))
import decern_jax
assert "decern_jax.annotation" not in sys.modules
print(decern_jax.Loop([[0.0], [1.0]], seed=1).num_left)
"""
    assert tiny.run_script(script) == "2\n"

  def test_page_is_true(self, tmp_path, monkeypatch):
    (code,) = tiny.code_blocks("docs/loop.md")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert len(names["loop"].labels) == 35
    assert names["again"] == names["loop"].pending[-20:]
