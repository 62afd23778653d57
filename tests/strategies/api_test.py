"""Tests of decern_jax/strategies/api.py."""

import jax
import numpy as np
import pytest

import decern_jax
from decern_jax import strategies
from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.head import LinearHead
from decern_jax.strategies.api import list_strategies, score, select
from tests import oracle
from tests.table import each

SIZE, DIM, CLASSES = 40, 5, 4
RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((SIZE, DIM)).astype(np.float32)
KERNEL = RNG.standard_normal((DIM, CLASSES)).astype(np.float32)
BIAS = RNG.standard_normal(CLASSES).astype(np.float32)
LOGITS = FEATURES @ KERNEL + BIAS
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
LABELS = np.where(np.arange(SIZE) % 7 == 2, np.arange(SIZE) % CLASSES, -1)
UNLABELED = np.flatnonzero(LABELS < 0)

SORTED = np.sort(PROBS, axis=1)
BY_MARGIN = np.argsort(SORTED[:, -1] - SORTED[:, -2], kind="stable")


class Table:
  """What pandas has of its own: values by a method."""

  def __init__(self, values):
    self.values = values

  def to_numpy(self):
    return self.values


class Tensor:
  """What PyTorch has of its own: a graph to be detached from."""

  def __init__(self, values):
    self.values = values

  def detach(self):
    return self

  def cpu(self):
    return self

  def __array__(self, dtype=None, copy=None):
    return np.asarray(self.values, dtype)


class Linear:
  """A layer as `torch.nn.Linear` keeps it."""

  def __init__(self):
    self.weight, self.bias = Tensor(KERNEL.T), Tensor(BIAS)


class Classifier:
  """A fitted classifier as those of scikit-learn keep it."""

  def __init__(self, classes):
    self.classes_ = np.array(classes)
    self.coef_ = KERNEL.T[self.classes_]
    self.intercept_ = BIAS[self.classes_]


class TestSelect:
  @each("convert", [np.asarray, jax.numpy.asarray, Table, Tensor, np.float64])
  def test_takes_arrays_of_any_library(self, convert):
    found = select("margin", probs=convert(PROBS), budget=6)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, BY_MARGIN[:6])

  @each(
    "head",
    [
      (KERNEL, BIAS),
      LinearHead(oracle.float32(KERNEL), oracle.float32(BIAS)),
      Linear(),
      Classifier(range(CLASSES)),
    ],
  )
  def test_probabilities_follow_from_features_and_head(self, head):
    found = select("margin", features=FEATURES, head=head, budget=6)
    np.testing.assert_array_equal(found, BY_MARGIN[:6])

  def test_a_class_that_a_classifier_has_not_seen_is_unlikely(self):
    head = Classifier([0, 1, 3])
    margins = score(
      "margin", features=FEATURES, head=head, previous_probs=PROBS
    )
    logits = LOGITS[:, [0, 1, 3]]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probs.sort(axis=1)
    np.testing.assert_allclose(
      margins, 1 - (probs[:, -1] - probs[:, -2]), atol=1e-5
    )

  def test_two_classes_of_a_classifier_are_one_row_of_odds(self):
    head = Classifier([0, 1])
    head.coef_, head.intercept_ = KERNEL.T[:1], BIAS[:1]
    found = select("entropy", features=FEATURES, head=head, budget=3)
    expected = np.argsort(np.abs(LOGITS[:, 0]), kind="stable")[:3]
    np.testing.assert_array_equal(found, expected)

  def test_labeled_examples_are_no_candidates(self):
    found = select("margin", probs=PROBS, labels=LABELS, budget=len(UNLABELED))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(np.sort(found), UNLABELED)

  @each("as_mask", [True, False])
  def test_candidates_are_a_mask_or_indices(self, as_mask):
    wanted = np.array([3, 8, 21])
    candidates = np.isin(np.arange(SIZE), wanted) if as_mask else wanted
    found = select("margin", probs=PROBS, candidates=candidates, budget=3)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(np.sort(found), wanted)

  @each("as_mask", [True, False])
  def test_pending_examples_are_not_selected(self, as_mask):
    pending = BY_MARGIN[:4]
    if as_mask:
      pending = np.isin(np.arange(SIZE), pending)
    found = select("margin", probs=PROBS, pending=pending, budget=5)
    np.testing.assert_array_equal(found, BY_MARGIN[4:9])
    found = select(
      "margin",
      probs=PROBS,
      pending=pending,
      candidates=BY_MARGIN[2:6],
      budget=2,
    )
    np.testing.assert_array_equal(found, BY_MARGIN[4:6])

  def test_pending_examples_are_covered(self):
    inputs = {"features": FEATURES, "budget": 6, "seed": 3}
    waiting = LABELS.max() == LABELS
    expected = select("coreset", labels=LABELS, **inputs)
    labels = np.where(waiting, -1, LABELS)
    found = select("coreset", labels=labels, pending=waiting, **inputs)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
      select("coreset", labels=LABELS, pending=[], **inputs), expected
    )

  def test_scores_are_those_of_the_selected(self):
    indices, scores = select(
      "margin", probs=PROBS, budget=5, return_scores=True
    )
    assert scores is not None
    margins = SORTED[:, -1] - SORTED[:, -2]
    np.testing.assert_allclose(scores, 1 - margins[indices], rtol=1e-5)

  def test_a_strategy_without_scores_returns_none(self):
    inputs = {"features": FEATURES, "budget": 3}
    assert select("random", **inputs, return_scores=True)[1] is None

  def test_seed_is_zero_unless_given_and_a_key_in_its_place(self):
    inputs = {"features": FEATURES, "budget": 10}
    first = select("random", **inputs)
    np.testing.assert_array_equal(first, select("random", **inputs, seed=0))
    key = jax.random.key(0)
    np.testing.assert_array_equal(first, select("random", **inputs, key=key))
    assert set(first) != set(select("random", **inputs, seed=1))

  def test_equals_the_strategy_of_the_table(self):
    pool = strategies.Pool(
      candidates=jax.numpy.asarray(LABELS < 0),
      features=jax.numpy.asarray(FEATURES),
      labels=jax.numpy.asarray(LABELS, np.int32),
    )
    coreset = strategies.STRATEGIES["coreset"].select
    assert coreset is not None
    expected = coreset(jax.random.key(3), pool, budget=6)
    found = select(
      "coreset", features=FEATURES, labels=LABELS, budget=6, seed=3
    )
    np.testing.assert_array_equal(found, expected.indices)

  @each("as_argument", [True, False])
  def test_a_mesh_changes_nothing(self, as_argument):
    mesh = make_mesh(8)
    probs = PROBS if as_argument else place_pool(PROBS, mesh)
    found = select(
      "margin",
      probs=probs,
      labels=LABELS,
      budget=6,
      mesh=mesh if as_argument else None,
    )
    expected = select("margin", probs=PROBS, labels=LABELS, budget=6)
    np.testing.assert_array_equal(found, expected)

  def test_several_labels_follow_from_the_labels(self):
    labels = np.repeat(np.where(LABELS >= 0, LABELS % 2, -1)[:, None], 4, 1)
    single = RNG.random((SIZE, CLASSES))
    found = select("least_confidence", probs=single, labels=labels, budget=4)
    doubt = (1 - np.maximum(single, 1 - single)).mean(axis=1)
    expected = UNLABELED[np.argsort(-doubt[UNLABELED], kind="stable")[:4]]
    np.testing.assert_array_equal(found, expected)

  @each(
    "changes, message",
    [
      ({"name": "margn"}, "Unknown strategy 'margn'.*mean 'margin'"),
      ({"budget": 41}, "`budget` <= 40 candidates, got 41"),
      ({"budget": 0}, "1 <= `budget`, got 0"),
      ({"probs": LOGITS}, "in `probs`, in .*logits"),
      ({"probs": PROBS / 2}, "sum to 1, got 0.5 in row 0"),
      ({"probs": np.where(PROBS > 0.9, np.nan, PROBS)}, "finite.*`probs`"),
      ({"probs": PROBS[:, 0]}, r"`probs` \[pool, classes\].*\(40,\)"),
      ({"probs": None}, "none of them"),
      ({"name": "coreset"}, "'coreset' needs .*missing: `features`, `labels`"),
      ({"labels": ["a"] * SIZE}, "numbers in `labels`"),
      ({"labels": LABELS[:5]}, r"labels.*\(5,\)"),
      ({"labels": np.where(LABELS >= 0, 4, -1)}, "`labels` < 4, got 4"),
      ({"labels": LABELS + 0.5}, "integer `labels`"),
      ({"features": FEATURES.T}, r"`probs` of shape \[5, classes\]"),
      ({"head": 3}, "`head` as a pair"),
      (
        {"head": (KERNEL.T, BIAS), "features": FEATURES},
        r"`bias` of shape \[5\]",
      ),
      ({"candidates": [40]}, "`candidates` < 40, got 40"),
      ({"candidates": np.ones(3, bool)}, "mask `candidates`"),
      ({"pending": [-1]}, "0 <= `pending` < 40, got -1"),
      ({"pending": range(38)}, "`budget` <= 2 candidates, got 3"),
      ({"options": {"gamma": 1}}, r"Unknown options \['gamma'\] of 'margin'"),
      ({"seed": 1, "key": jax.random.key(0)}, "`seed` or `key`, got both"),
      ({"name": "decern_multilabel"}, "one label per example"),
    ],
  )
  def test_refuses(self, changes, message):
    call = {"name": "margin", "probs": PROBS, "budget": 3, **changes}
    with pytest.raises(ValueError, match=message):
      select(**call)


class TestLimits:
  GROUPS = np.arange(SIZE) // 4

  def test_one_of_each_group(self):
    found = select("margin", probs=PROBS, budget=10, groups=self.GROUPS)
    np.testing.assert_array_equal(np.sort(self.GROUPS[found]), np.arange(10))
    # Each is the first of its group in the order of the strategy.
    best = {}
    for index in BY_MARGIN:
      best.setdefault(self.GROUPS[index], index)
    assert set(found) == set(best.values())

  def test_as_many_of_a_group_as_allowed(self):
    found = select(
      "random", probs=PROBS, budget=20, groups=self.GROUPS, max_per_group=2
    )
    assert set(np.bincount(self.GROUPS[found])) == {2}
    assert isinstance(found, np.ndarray)
    assert len(np.unique(found)) == 20

  def test_quotas_are_filled_exactly(self):
    sites = np.array(["north", "south", "east", "west"])[np.arange(SIZE) % 4]
    found, scores = select(
      "margin",
      probs=PROBS,
      budget=7,
      strata=sites,
      quotas={"north": 5, "west": 2},
      return_scores=True,
    )
    assert sorted(sites[found]) == ["north"] * 5 + ["west"] * 2
    order = [i for i in BY_MARGIN if sites[i] == "north"][:5]
    assert set(order) <= set(found)
    assert scores is not None
    margins = SORTED[:, -1] - SORTED[:, -2]
    np.testing.assert_allclose(scores, 1 - margins[found], rtol=1e-5)

  def test_quotas_of_predicted_classes(self):
    predicted = PROBS.argmax(axis=1)
    quotas = {int(c): 1 for c in np.unique(predicted)}
    found = select(
      "margin",
      features=FEATURES,
      head=(KERNEL, BIAS),
      budget=len(quotas),
      strata="predicted",
      quotas=quotas,
    )
    assert sorted(predicted[found]) == sorted(quotas)

  @each("inputs", [{"probs": PROBS}, {"head": (KERNEL, BIAS)}])
  def test_predicted_classes_need_no_strategy_that_reads_them(self, inputs):
    predicted = PROBS.argmax(axis=1)
    quotas = {int(c): 1 for c in np.unique(predicted)}
    found = select(
      "random",
      features=FEATURES,
      **inputs,
      budget=len(quotas),
      strata="predicted",
      quotas=quotas,
    )
    assert sorted(predicted[found]) == sorted(quotas)

  @each(
    "changes, message",
    [
      (
        {
          "name": "random",
          "probs": None,
          "features": FEATURES,
          "strata": "predicted",
          "quotas": {0: 3},
        },
        "`probs`, or `features` and `head`, for the strata",
      ),
      ({"budget": 11}, "`budget` <= 10, which 1 of each of 10 groups"),
      ({"max_per_group": 0}, "1 <= `max_per_group`, got 0"),
      ({"groups": [0]}, r"`groups` \[40\].*\(1,\)"),
      ({"strata": [0] * SIZE}, "`strata` and `quotas` together"),
      (
        {"strata": [0] * 38 + [1] * 2, "quotas": {1: 3}},
        "3 candidates of the stratum 1, got 2",
      ),
      ({"strata": [0] * SIZE, "quotas": {2: 3}}, "stratum 2, got 0"),
      ({"strata": [0] * SIZE, "quotas": {0: 2}}, "sum `budget` 3, got 2"),
      (
        {"strata": [0] * 4 + [1] * 36, "quotas": {0: 3}},
        "within the limits by group and stratum, found only 1",
      ),
    ],
  )
  def test_refuses_what_cannot_be_filled(self, changes, message):
    call = {"name": "margin", "probs": PROBS, "budget": 3, **changes}
    with pytest.raises(ValueError, match=message):
      select(**{"groups": self.GROUPS, **call})


class TestScore:
  def test_is_nan_where_there_is_no_candidate(self):
    found = score("margin", probs=PROBS, labels=LABELS)
    margins = SORTED[:, -1] - SORTED[:, -2]
    expected = np.where(LABELS < 0, 1 - margins, np.nan)
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_refuses_a_strategy_without_scores(self):
    with pytest.raises(ValueError, match="ranks by a score, got 'random'"):
      score("random", features=FEATURES)


class TestListStrategies:
  def test_tells_all_of_every_strategy(self):
    found = {info.name: info for info in list_strategies()}
    assert list(found) == sorted(strategies.STRATEGIES)
    for info in found.values():
      assert info.summary.split()[0] in {"Draws", "Picks", "Scores", "Selects"}
    # A baseline, and a form for one label that nobody published.
    without = [name for name, info in found.items() if info.source is None]
    assert set(without) <= {"gradient_magnitude", "random"}
    badge = found["badge"]
    assert badge.needs == ("features", "probs")
    assert badge.summary.startswith("Selects")
    assert badge.source is not None
    assert "ICLR 2020" in badge.source
    assert badge.single_label
    assert badge.multi_label
    assert not found["decern"].multi_label
    assert found["power_margin"].options == {"power_beta": 1.0}


class TestPackage:
  def test_offers_it_by_name(self):
    assert decern_jax.select is select
    assert decern_jax.score is score
    assert decern_jax.list_strategies is list_strategies
    assert decern_jax.register is strategies.register
