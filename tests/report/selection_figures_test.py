"""Tests of decern_jax/report/selection_figures.py."""

import pathlib

from matplotlib import figure
import numpy as np
from PIL import Image
import pytest
from sklearn import decomposition

from decern_jax.report import selection_figures
from tests.table import each


@pytest.fixture
def drawn(monkeypatch) -> list[figure.Figure]:
  """Collects the figures that are saved."""
  found, save = [], figure.Figure.savefig

  def savefig(self, *args, **options):
    found.append(self)
    return save(self, *args, **options)

  monkeypatch.setattr(figure.Figure, "savefig", savefig)
  return found


@pytest.fixture
def png(tmp_path) -> pathlib.Path:
  return tmp_path / "picture.png"


def is_picture(path) -> bool:
  with Image.open(path) as image:
    return (
      image.format == "PNG" and len(image.convert("RGB").getcolors(9**9)) > 9
    )


class TestPenaltyHeatmap:
  def draw(self, png, drawn):
    matrix = [[0.0, 0.875], [None, 0.0]]
    selection_figures.penalty_heatmap(["a", "b"], matrix, [None, 0.4375], png)
    assert is_picture(png)
    return drawn[0].axes[0]

  def test_has_the_means_below(self, png, drawn):
    axes = self.draw(png, drawn)
    (image,) = axes.images
    shares = np.ma.filled(image.get_array(), np.nan)
    expected = [[0.0, 0.875], [np.nan, 0.0], [np.nan, 0.4375]]
    np.testing.assert_array_equal(shares, expected)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["a", "b", "mean of column"]

  def test_writes_shares_and_leaves_the_diagonal_empty(self, png, drawn):
    axes = self.draw(png, drawn)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {
      (1, 0): "0.88",
      (0, 1): "–",
      (0, 2): "–",
      (1, 2): "0.44",
    }


class TestClassHistogram:
  def draw(self, png, drawn, counts, names):
    selection_figures.class_histogram(counts, names, png)
    assert is_picture(png)
    return drawn[0].axes

  def test_has_a_panel_for_each_strategy(self, png, drawn):
    counts = {"decern": [1, 2, 3], "random": [2, 0, 0]}
    panels = self.draw(png, drawn, counts, ["ant", "bee", "cat"])
    for axes, values in zip(panels, counts.values(), strict=True):
      assert [bar.get_height() for bar in axes.patches] == values
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == ["decern", "random, 2 classes never"]

  def test_marks_an_equal_share(self, png, drawn):
    (axes,) = self.draw(png, drawn, {"random": [0, 6]}, ["ant", "bee"])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [3, 3])

  def test_names_few_classes(self, png, drawn):
    names = ["ant", "b$e$", "cat\udce9", "_dog"]
    (axes,) = self.draw(png, drawn, {"random": [1] * 4}, names)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["ant", r"b\$e\$", "cat?", "_dog"]

  def test_counts_many_classes(self, png, drawn):
    names = [f"class {i}" for i in range(100)]
    (axes,) = self.draw(png, drawn, {"random": range(100)}, names)
    assert len(axes.get_xticks()) < 15
    assert axes.get_xlabel() == "class, by its position"


class TestPoolMap:
  ids = tuple("abcdefgh")
  points = np.arange(16.0).reshape(8, 2)

  def draw(self, png, drawn, *names):
    run = [
      {"round": 0, "selected": ["b", "a"]},
      {"round": 1, "selected": ["h"]},
      {"round": 2, "selected": []},
    ]
    runs = dict.fromkeys(names, run)
    selection_figures.pool_map(self.points, self.ids, runs, png)
    assert is_picture(png)
    return drawn[0].axes[: len(names)]

  def test_draws_the_pool_and_each_round(self, png, drawn):
    (axes,) = self.draw(png, drawn, "random")
    pool, first, second, last = [c.get_offsets() for c in axes.collections]
    np.testing.assert_array_equal(pool, self.points)
    np.testing.assert_array_equal(first, self.points[[1, 0]])
    np.testing.assert_array_equal(second, self.points[[7]])
    assert not len(last)

  def test_rounds_have_their_own_colors(self, png, drawn):
    (axes,) = self.draw(png, drawn, "random")
    colors = [tuple(c.get_facecolor()[0]) for c in axes.collections[:3]]
    assert len(set(colors)) == 3

  @each("count", [1, 2, 4, 7])
  def test_has_a_panel_for_each_strategy(self, png, drawn, count):
    names = [f"strategy{i}" for i in range(count)]
    panels = self.draw(png, drawn, *names)
    assert [axes.get_title() for axes in panels] == names


class TestProject:
  def test_matches_sklearn(self):
    rng = np.random.default_rng(0)
    scales = np.array([5.0, 0.1, 3.0, 1.0])
    features = (4.0 + rng.normal(size=(50, 4)) * scales).astype(np.float32)
    expected = decomposition.PCA(2).fit_transform(features)
    found = selection_figures.project(features)
    # The sign of a direction is free.
    sign = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * sign, expected, atol=1e-4)

  def test_a_direction_points_to_its_largest_weight(self):
    features = np.array([[0.0, 0.0], [-2.0, 0.0], [0.0, -1.0]], np.float32)
    found = selection_figures.project(features)
    assert found[0, 0] > found[1, 0]
    assert found[0, 1] > found[2, 1]
    negated = selection_figures.project(-features)
    np.testing.assert_allclose(negated, -found, atol=1e-6)

  def test_equal_features_are_one_point(self):
    assert not selection_figures.project(np.ones((3, 4), np.float32)).any()
