"""Tests of what all strategies promise, on one pool of one shape.

A strategy that is new in the table is tested here without an entry.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.strategies import STRATEGIES, Selection
from tests.strategies import pools
from tests.strategies.pools import BUDGET, CANDIDATES, ROWS, make_pool
from tests.table import each

# Every strategy, for one label per example and for several.
FORMS = [
  (name, is_multi_label)
  for name, strategy in STRATEGIES.items()
  for is_multi_label in (False, True)
  if strategy.form(is_multi_label=is_multi_label)
]
each_form = each("name, is_multi_label", FORMS)
# Their selection is the same on any number of devices.
EXACT = ("decern", "decern_multilabel", "kmeans")
# They draw nothing that belongs to a row.
PERMUTABLE = (
  "bait",
  "bald",
  "core_gcn",
  "coreset",
  "entropy",
  "gradient_magnitude",
  "learning_loss",
  "least_confidence",
  "margin",
  "noise_stability",
  "temporal_discrepancy",
)
# They cover the pool, and read of the labels only who has one.
COVERING = ("bait", "core_gcn", "coreset", "probcover", "typiclust")
# ProbCover estimates its distance from classes, which several labels do not
# have: there the option must be given.
MULTI_LABEL_OPTIONS = {"probcover": {"cover_delta": 0.7}}


def select(name: str, pool, is_multi_label: bool, **options) -> Selection:
  if is_multi_label:
    options |= MULTI_LABEL_OPTIONS.get(name, {})
  return pools.select(name, pool, is_multi_label=is_multi_label, **options)


@functools.cache
def compiled(
  name: str, is_multi_label: bool, num_devices: int = 1, *, garbage=None
) -> tuple[np.ndarray, np.ndarray | None]:
  """The selection from the pool as it is, or with garbage where nothing counts.

  Where labels are not needed, the labeled rows do not count.
  """
  values = {}
  if garbage is not None and "labels" not in STRATEGIES[name].needs:
    values = {"labeled": pools.NO_ROWS}
  pool = make_pool(
    num_devices=num_devices,
    is_multi_label=is_multi_label,
    garbage=garbage,
    **values,
  )
  found = select(name, pool, is_multi_label)
  scores = None if found.scores is None else np.asarray(found.scores)[:ROWS]
  return np.asarray(found.indices), scores


def assert_same_up_to_ties(found, expected) -> None:
  """Compares selections whose scores differ by rounding."""
  (indices, scores), (expected_indices, expected_scores) = found, expected
  if scores is None:
    np.testing.assert_array_equal(indices, expected_indices)
    return
  np.testing.assert_allclose(
    scores[CANDIDATES], expected_scores[CANDIDATES], rtol=1e-4, atol=1e-5
  )
  if not np.array_equal(indices, expected_indices):
    np.testing.assert_allclose(
      expected_scores[indices], expected_scores[expected_indices], rtol=1e-4
    )


def few_candidates(count: int) -> np.ndarray:
  """A mask of the last candidates."""
  return np.isin(np.arange(ROWS), np.flatnonzero(CANDIDATES)[-count:])


class TestSelect:
  @each_form
  def test_gives_exactly_the_budget_of_distinct_candidates(
    self, name, is_multi_label
  ):
    indices, scores = compiled(name, is_multi_label)
    pools.assert_distinct_candidates(indices, budget=BUDGET)
    if scores is not None:
      assert scores.dtype == np.float32
      assert np.isfinite(scores[CANDIDATES]).all()

  @each_form
  def test_depends_on_its_key_only(self, name, is_multi_label):
    """The same key gives the same answer."""
    again = compiled.__wrapped__(name, is_multi_label)
    for found, expected in zip(
      again, compiled(name, is_multi_label), strict=True
    ):
      np.testing.assert_array_equal(found, expected)

  @each("name", COVERING)
  def test_pending_examples_are_covered_as_labeled_ones_are(self, name):
    waiting = pools.LABELED & (np.arange(ROWS) % 2 == 0)
    labels = np.where(waiting, -1, pools.LABELS).astype(np.int32)
    pool = pools.change(
      make_pool(), labels=jnp.asarray(labels), pending=jnp.asarray(waiting)
    )
    found = select(name, pool, is_multi_label=False)
    expected = compiled(name, is_multi_label=False)
    np.testing.assert_array_equal(found.indices, expected[0])
    forgotten = pools.change(pool, pending=None)
    assert set(COVERING) <= set(STRATEGIES)
    if name != "typiclust":
      other = select(name, forgotten, is_multi_label=False)
      assert np.asarray(other.indices).tolist() != expected[0].tolist()

  @each_form
  def test_rows_that_do_not_count_change_nothing(self, name, is_multi_label):
    found = compiled(name, is_multi_label, garbage=pools.GARBAGE)
    expected = compiled(name, is_multi_label)
    np.testing.assert_array_equal(found[0], expected[0])
    if expected[1] is not None:
      assert found[1] is not None
      np.testing.assert_array_equal(
        found[1][CANDIDATES], expected[1][CANDIDATES]
      )

  @each_form
  def test_eight_devices_select_as_one_does(self, name, is_multi_label):
    """With garbage in the padding too."""
    found = compiled(name, is_multi_label, 8, garbage=pools.GARBAGE)
    expected = compiled(name, is_multi_label)
    assert_same_up_to_ties(found, expected)
    if name not in EXACT:
      return
    np.testing.assert_array_equal(found[0], expected[0])
    if expected[1] is not None:
      assert found[1] is not None
      # Products of fewer rows are rounded differently.
      np.testing.assert_allclose(
        found[1][CANDIDATES], expected[1][CANDIDATES], rtol=2e-6
      )

  @each("name, is_multi_label", [row for row in FORMS if row[0] in PERMUTABLE])
  def test_permuting_the_pool_permutes_the_answer(self, name, is_multi_label):
    order = np.random.default_rng(0).permutation(ROWS)
    pool = make_pool(is_multi_label=is_multi_label, order=order)
    found = select(name, pool, is_multi_label)
    scores = None
    if found.scores is not None:
      scores = np.zeros(ROWS, np.float32)
      scores[order] = found.scores
    assert_same_up_to_ties(
      (order[np.asarray(found.indices)], scores),
      compiled(name, is_multi_label),
    )

  # The noise of noise stability belongs to the entries of the head.
  @each(
    "name, is_multi_label",
    [row for row in FORMS if row[0] != "noise_stability"],
  )
  def test_ignores_the_order_of_the_classes(self, name, is_multi_label):
    order = np.random.default_rng(1).permutation(pools.CLASSES)
    labels = pools.MULTI_LABELS[:, order]
    if not is_multi_label:
      labels = np.where(pools.LABELED, np.argsort(order)[pools.LABELS], -1)
    probs = pools.LABEL_PROBS if is_multi_label else pools.PROBS
    permuted = make_pool(
      is_multi_label=is_multi_label,
      labels=labels,
      probs=probs[:, order],
      previous_probs=pools.PREVIOUS_PROBS[:, order],
    )
    head = jax.tree.map(lambda weights: weights[..., order], permuted.head)
    permuted = pools.change(permuted, head=head)
    found = select(name, permuted, is_multi_label)
    scores = None if found.scores is None else np.asarray(found.scores)
    assert_same_up_to_ties(
      (np.asarray(found.indices), scores), compiled(name, is_multi_label)
    )

  @each_form
  def test_equal_examples_give_distinct_candidates(self, name, is_multi_label):
    pool = make_pool(
      is_multi_label=is_multi_label,
      features=np.ones_like(pools.FEATURES),
      probs=np.full_like(pools.PROBS, 1 / pools.CLASSES),
      previous_probs=np.full_like(pools.PROBS, 1 / pools.CLASSES),
      auxiliary=np.zeros(ROWS),
    )
    found = select(name, pool, is_multi_label)
    pools.assert_distinct_candidates(found.indices, budget=BUDGET)

  @each_form
  @each("num_left", [0, 1])
  def test_takes_the_last_candidates(self, name, is_multi_label, num_left):
    """A budget of all candidates, or of all but one."""
    candidates = few_candidates(BUDGET + num_left)
    pool = make_pool(is_multi_label=is_multi_label, candidates=candidates)
    found = select(name, pool, is_multi_label)
    pools.assert_distinct_candidates(
      found.indices, candidates=candidates, budget=BUDGET
    )

  @each_form
  def test_takes_the_only_candidate(self, name, is_multi_label):
    candidates = few_candidates(1)
    # Few labels: TypiClust then has as many clusters as in other tests.
    labeled = pools.LABELED & (np.arange(ROWS) < 50)
    assert labeled.sum() + 1 == BUDGET
    pool = make_pool(
      is_multi_label=is_multi_label, candidates=candidates, labeled=labeled
    )
    found = select(name, pool, is_multi_label, budget=1)
    pools.assert_distinct_candidates(
      found.indices, candidates=candidates, budget=1
    )

  # Before the first label, a strategy may choose the initial set.
  @each(
    "name, is_multi_label",
    [
      row
      for row in FORMS
      if set(STRATEGIES[row[0]].needs) <= {"features", "labels"}
    ],
  )
  def test_selects_without_any_label(self, name, is_multi_label):
    pool = make_pool(is_multi_label=is_multi_label, labeled=pools.NO_ROWS)
    found = select(name, pool, is_multi_label)
    pools.assert_distinct_candidates(found.indices, budget=BUDGET)
