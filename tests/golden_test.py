"""The functions against the golden vectors; see `tests/golden/README.md`."""

import functools
import pathlib
from typing import Any

import jax
import numpy as np
import pytest

import decern_jax
from decern_jax import Anchors, Clusters, LinearHead
from tests import oracle

FOLDER = pathlib.Path(__file__).parent / "golden"
IN_REPOSITORY = ("narrow", "odd_width")
# These lie beside the checkout.
OTHERS = ("dinov2_dings", "resnet50_pets", "saturated", "vits_flowers")


def files(*names: str, as_shipped: bool = True) -> list:
  """Marks files beside the checkout as slow, the others as precise or not."""
  marks = pytest.mark.as_shipped if as_shipped else ()
  return [
    pytest.param(
      name, marks=marks if name in IN_REPOSITORY else pytest.mark.slow
    )
    for name in names
  ]


class Golden:
  """One file, and what the functions compute from it."""

  def __init__(self, path):
    with np.load(path) as arrays:
      self.arrays = dict(arrays)
    self.pool: tuple[Any, Any] = self["pool_features"], self["pool_probs"]
    self.head = LinearHead(self["kernel"], self["bias"])
    self.anchors = Anchors(self["anchor_features"], self["anchor_probs"])
    self.budget = int(self["budget"])

  def __getitem__(self, name: str) -> Any:
    return self.arrays[name]

  @functools.cached_property
  def scores(self) -> np.ndarray:
    return np.asarray(
      decern_jax.discrepancy_confusion(*self.pool, self.anchors, self.head)
    )


@functools.cache
def read(path: pathlib.Path) -> Golden:
  return Golden(path)


@pytest.fixture(params=files(*IN_REPOSITORY, *OTHERS))
def golden(request) -> Golden:
  folder = FOLDER
  if request.param in OTHERS:
    folder = request.getfixturevalue("shared_dir") / "golden"
  return read(folder / f"decern_{request.param}.npz")


def error_of(scores, golden: Golden) -> float:
  """The largest relative error over all rows."""
  assert scores.shape == golden["scores"].shape
  return np.max(np.abs(scores - golden["scores"]) / np.abs(golden["scores"]))


class TestFiles:
  def test_are_those_of_the_repository(self):
    found = {path.name for path in FOLDER.glob("*.npz")}
    assert found == {f"decern_{name}.npz" for name in IN_REPOSITORY}

  @pytest.mark.slow
  def test_are_equal_to_those_beside_the_checkout(self, shared_dir):
    found = {path.name: path for path in (shared_dir / "golden").glob("*.npz")}
    names = (*IN_REPOSITORY, *OTHERS)
    assert set(found) == {f"decern_{name}.npz" for name in names}
    for path in FOLDER.glob("*.npz"):
      assert path.read_bytes() == found[path.name].read_bytes()


class TestGolden:
  def test_anchors_match_and_so_do_their_scores(self, golden: Golden):
    found = decern_jax.class_anchors(
      golden["labeled_features"],
      golden["labeled_probs"],
      golden["labels"],
      num_classes=len(golden["bias"]),
    )
    for anchors, expected in zip(found, golden.anchors, strict=True):
      np.testing.assert_allclose(anchors, expected, rtol=1e-5, atol=1e-6)
    scores = decern_jax.discrepancy_confusion(*golden.pool, found, golden.head)
    assert error_of(np.asarray(scores), golden) <= 1e-5

  def test_masks_are_equal(self, golden: Golden):
    mask = decern_jax.saliency_mask(*golden.pool, golden.head)
    np.testing.assert_array_equal(mask, golden["mask"])

  def test_scores_match_in_every_row(self, golden: Golden):
    assert error_of(golden.scores, golden) <= 1e-5

  def test_the_oracle_of_the_tests_matches(self, golden: Golden):
    problem = oracle.Problem(
      *golden.pool,
      golden["labeled_features"],
      golden["labeled_probs"],
      golden["labels"],
      golden["kernel"],
      golden["bias"],
    )
    assert error_of(oracle.discrepancy_confusion(problem), golden) <= 1e-6

  def test_thresholds_match_and_candidates_are_equal(self, golden: Golden):
    scores = golden.scores
    threshold = decern_jax.uncertainty_threshold(scores)
    np.testing.assert_allclose(threshold, golden["threshold"], rtol=1e-5)
    found = np.flatnonzero(scores > np.asarray(threshold))
    if len(found) < golden.budget:
      found = np.argsort(-scores)[: golden.budget]
    np.testing.assert_array_equal(found, golden["candidates"])

  def test_picks_are_equal(self, golden: Golden):
    clusters = Clusters(
      golden["cluster_centers"],
      golden["cluster_assignments"],
      golden["cluster_inertia"],
      jax.numpy.asarray(1),
    )
    indices, valid = decern_jax.calibrated_pick(
      golden["pool_features"][golden["candidates"]], clusters, golden.anchors
    )
    assert np.asarray(valid).all()
    np.testing.assert_array_equal(indices, golden["picks"])

  # Where there are more candidates than the budget.
  @pytest.mark.parametrize(
    "golden", files("narrow", "saturated", as_shipped=False), indirect=True
  )
  def test_the_best_of_five_starts_is_as_tight_as_scikit_learn(
    self, golden: Golden
  ):
    rows = golden["candidates"]
    points = oracle.normalize(golden["pool_features"][rows])
    inertia = [
      decern_jax.weighted_kmeans(
        jax.random.key(seed),
        points,
        golden["scores"][rows],
        num_clusters=golden.budget,
      ).inertia
      for seed in range(5)
    ]
    assert min(inertia) <= 1.01 * golden["cluster_inertia"]

  @pytest.mark.parametrize(
    "golden", files("narrow", "resnet50_pets", as_shipped=False), indirect=True
  )
  def test_selects_among_the_candidates(self, golden: Golden, key):
    selected = np.asarray(
      decern_jax.select_decern(
        key, *golden.pool, golden.anchors, golden.head, budget=golden.budget
      )
    )
    assert len(np.unique(selected)) == golden.budget
    assert np.isin(selected, golden["candidates"]).all()

  @pytest.mark.parametrize("golden", files("saturated"), indirect=True)
  def test_the_official_float32_code_is_far_off_where_it_saturates(
    self, golden
  ):
    ours = error_of(golden.scores, golden)
    official = error_of(golden["official_float32_scores"], golden)
    assert official > 0.1
    assert ours < 1e-6
