"""Tests of decern_jax/report/figures.py."""

import itertools

from matplotlib import figure
import numpy as np
from PIL import Image
import pytest
from sklearn import decomposition

from decern_jax.report import figures
from decern_jax.report.figures import NUM_COLUMNS, THUMBNAIL
from tests.table import each


def curve(*accuracies, num_labeled=None) -> list[dict]:
  """Returns the records of a run, 10 labels more in each round."""
  num_labeled = num_labeled or range(10, 10 * len(accuracies) + 1, 10)
  return [
    {"round": i, "num_labeled": labels, "test": {"accuracy": accuracy}}
    for i, (labels, accuracy) in enumerate(
      zip(num_labeled, accuracies, strict=True)
    )
  ]


def chosen(round_num: int, selected, scores=None) -> dict:
  return {"round": round_num, "selected": list(selected), "scores": scores}


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
def png(tmp_path):
  return tmp_path / "picture.png"


def pixels(path) -> np.ndarray:
  with Image.open(path) as image:
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


class TestLearningCurve:
  def axes(self, drawn):
    (picture,) = drawn
    (axes,) = picture.axes
    return axes

  def test_writes_a_picture_and_nothing_else(self, png):
    figures.learning_curve({"decern": [curve(0.2, 0.5)]}, png)
    height, width, _ = pixels(png).shape
    assert (height, width) == (504, 768)
    assert [path.name for path in png.parent.iterdir()] == ["picture.png"]

  def test_replaces_an_older_picture(self, png):
    figures.learning_curve({"decern": [curve(0.2, 0.5)]}, png)
    before = pixels(png)
    figures.learning_curve({"decern": [curve(0.2, 0.9)]}, png)
    assert not np.array_equal(pixels(png), before)

  def test_draws_accuracy_in_percent_over_labels(self, png, drawn):
    figures.learning_curve({"decern": [curve(0.25, 0.5, 0.625)]}, png)
    (line,) = self.axes(drawn).lines
    assert line.get_xdata().tolist() == [10, 20, 30]
    np.testing.assert_allclose(line.get_ydata(), [25.0, 50.0, 62.5])

  def test_draws_mean_in_a_band_of_one_standard_deviation(self, png, drawn):
    seeds = [curve(0.2, 0.5), curve(0.4, 0.5), curve(0.6, 0.8)]
    figures.learning_curve({"decern": seeds}, png)
    axes = self.axes(drawn)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [40.0, 60.0])
    (band,) = axes.collections
    edges = band.get_paths()[0].vertices
    at_first = sorted({round(y, 6) for x, y in edges if x == 10})
    # The sample's, as main prints it: sqrt((20² + 0² + 20²) / 2).
    np.testing.assert_allclose(at_first, [20.0, 60.0])
    assert axes.get_legend().get_title().get_text() == "mean ± std of 3 runs"

  def test_one_run_has_no_band(self, png, drawn):
    figures.learning_curve({"decern": [curve(0.2, 0.5)]}, png)
    axes = self.axes(drawn)
    assert not axes.collections
    assert axes.get_legend().get_title().get_text() == ""

  def test_draws_a_line_for_each_name(self, png, drawn):
    runs = {"decern": [curve(0.3, 0.6)], "random": [curve(0.3, 0.5)]}
    figures.learning_curve(runs, png)
    axes = self.axes(drawn)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["decern", "random"]
    assert len({line.get_color() for line in axes.lines}) == 2

  def test_draws_the_ceiling_across(self, png, drawn):
    figures.learning_curve({"decern": [curve(0.2, 0.5)]}, png, ceiling=0.75)
    axes = self.axes(drawn)
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [75.0, 75.0])
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["decern", "all labels"]

  def test_no_two_lines_look_alike(self, png, drawn):
    runs = {f"strategy{i}": [curve(0.1 * i, 0.5)] for i in range(21)}
    figures.learning_curve(runs, png)
    lines = self.axes(drawn).lines
    looks = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(looks) == 21

  def test_marks_the_label_counts_where_they_are_few(self, png, drawn):
    labels = (81, 162, 243)
    run = curve(0.2, 0.4, 0.5, num_labeled=labels)
    figures.learning_curve({"decern": [run]}, png)
    assert self.axes(drawn).get_xticks().tolist() == list(labels)

  def test_marks_of_many_rounds_do_not_touch(self, png, drawn):
    run = curve(*np.linspace(0.1, 0.9, 50), num_labeled=range(999, 50949, 999))
    figures.learning_curve({"decern": [run]}, png)
    axes = self.axes(drawn)
    boxes = [
      label.get_window_extent()
      for label in axes.get_xticklabels()
      if label.get_text() and label.get_window_extent().width
    ]
    assert len(boxes) > 3
    for left, right in itertools.pairwise(boxes):
      assert left.x1 < right.x0

  @each("accuracies", [(0.4,), (1.0, 1.0), (0.0, 1.0)])
  def test_cuts_nothing_off(self, png, drawn, accuracies):
    figures.learning_curve({"decern": [curve(*accuracies)] * 2}, png)
    picture = drawn[-1]
    tight = picture.get_tightbbox()
    width, height = picture.get_size_inches()
    assert tight.x0 >= 0
    assert tight.y0 >= 0
    assert tight.x1 <= width
    assert tight.y1 <= height


COLORS = {
  f"{i}.png": ((37 * i) % 256, (91 * i) % 256, 255 - (11 * i) % 256)
  for i in range(20)
}


def read(name: str) -> np.ndarray:
  return np.full((30, 40, 3), COLORS[name], np.uint8)


def find(sheet: np.ndarray, name: str) -> list[tuple[int, int]]:
  """Returns the corners of an image's thumbnails, from the top left."""
  mask = (sheet == COLORS[name]).all(axis=2)
  # A corner has the color, and neither the pixel above nor the one to the left.
  above, before = np.roll(mask, 1, axis=0), np.roll(mask, 1, axis=1)
  corners = np.argwhere(mask & ~above & ~before)
  for top, left in corners:
    assert mask[top : top + THUMBNAIL, left : left + THUMBNAIL].all()
  return [(int(top), int(left)) for top, left in corners]


class TestContactSheet:
  def draw(self, png, *found) -> np.ndarray:
    figures.contact_sheet(found, read, png)
    return pixels(png)

  def test_has_a_row_for_each_round(self, png):
    sheet = self.draw(
      png, chosen(0, ["0.png", "1.png"]), chosen(1, ["2.png", "3.png"])
    )
    ((first, left),) = find(sheet, "0.png")
    ((_, right),) = find(sheet, "1.png")
    assert find(sheet, "1.png") == [(first, right)]
    assert left + THUMBNAIL < right
    ((second, _),) = find(sheet, "2.png")
    assert find(sheet, "2.png") == [(second, left)]
    assert find(sheet, "3.png") == [(second, right)]
    assert first + THUMBNAIL < second

  def test_puts_the_highest_score_first(self, png):
    names = ["0.png", "1.png", "2.png"]
    sheet = self.draw(png, chosen(0, names, [0.1, 0.3, 0.2]))
    order = sorted(names, key=lambda name: find(sheet, name)[0][1])
    assert order == ["1.png", "2.png", "0.png"]

  @each("scores", [None, [0.5, 0.5, 0.5]])
  def test_keeps_the_order_without_scores_or_among_equal(self, png, scores):
    names = ["2.png", "0.png", "1.png"]
    sheet = self.draw(png, chosen(0, names, scores))
    assert sorted(names, key=lambda name: find(sheet, name)[0][1]) == names

  def test_shows_the_first_of_many(self, png, drawn):
    names = [f"{i}.png" for i in range(20)]
    sheet = self.draw(png, chosen(0, names, [float(-i) for i in range(20)]))
    shown = [name for name in names if find(sheet, name)]
    assert shown == names[:NUM_COLUMNS]
    (text,) = drawn[0].texts
    assert text.get_text() == "round 0\n12 of 20 selected"

  def test_reads_only_what_it_shows(self, png):
    asked = []

    def note(name):
      asked.append(name)
      return read(name)

    names = [f"{i}.png" for i in range(20)]
    figures.contact_sheet([chosen(0, names)], note, png)
    assert asked == names[:NUM_COLUMNS]

  def test_leaves_out_rounds_without_selection(self, png, drawn):
    self.draw(png, chosen(0, ["0.png"]), chosen(1, []), chosen(2, ["1.png"]))
    texts = [text.get_text().split("\n")[0] for text in drawn[0].texts]
    assert texts == ["round 0", "round 2"]

  def test_writes_nothing_without_selection(self, png):
    figures.contact_sheet([chosen(0, [])], read, png)
    figures.contact_sheet([], read, png)
    assert not png.exists()

  @each("num_rounds, num_selected", [(1, 1), (2, 9999), (30, 9999)])
  def test_labels_stand_beside_their_rows(self, png, num_rounds, num_selected):
    names = ["0.png"] * num_selected
    sheet = self.draw(png, *(chosen(i, names) for i in range(num_rounds)))
    corners = find(sheet, "0.png")
    tops = sorted({top for top, _ in corners})
    assert len(tops) == num_rounds
    left = min(left for _, left in corners)
    for top in tops:
      beside = sheet[top : top + THUMBNAIL, :left]
      inked = np.argwhere((beside < 128).any(axis=2))
      top_left, bottom_right = inked.min(axis=0), inked.max(axis=0)
      assert (top_left > [10, 1]).all()
      assert (bottom_right < [THUMBNAIL - 10, left - 2]).all()

  def test_has_no_empty_border(self, png):
    sheet = self.draw(png, chosen(0, ["0.png"] * 12), chosen(1, ["1.png"] * 12))
    inked = np.argwhere((sheet < 255).any(axis=2))
    assert (inked.min(axis=0) <= [20, 60]).all()
    assert (np.array(sheet.shape[:2]) - inked.max(axis=0) <= 20).all()


class TestThumbnail:
  @each("shape", [(10, 10), (1, 50), (900, 30), (108, 108), (2000, 3000)])
  def test_is_a_square_of_one_size(self, shape):
    image = np.full((*shape, 3), 7, np.uint8)
    small = figures.thumbnail(image)
    assert small.shape == (THUMBNAIL, THUMBNAIL, 3)
    assert small.dtype == np.uint8
    assert (small == 7).all()

  @each("transpose", [False, True])
  def test_shows_the_center_of_a_long_image(self, transpose):
    image = np.zeros((30, 90, 3), np.uint8)
    image[:, 30:60] = 200
    image = image.swapaxes(0, 1) if transpose else image
    small = figures.thumbnail(np.ascontiguousarray(image))
    assert (small[8:-8, 8:-8] == 200).all()

  def test_leaves_an_image_of_its_size_alone(self):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (THUMBNAIL, THUMBNAIL, 3)).astype(np.uint8)
    np.testing.assert_array_equal(figures.thumbnail(image), image)


def is_picture(path) -> bool:
  return pixels(path).std() > 1.0


class TestPenaltyHeatmap:
  def draw(self, png, drawn):
    matrix = [[0.0, 0.875], [None, 0.0]]
    figures.penalty_heatmap(["a", "b"], matrix, [None, 0.4375], png)
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
    assert written == {(1, 0): "0.88", (0, 1): "–", (0, 2): "–", (1, 2): "0.44"}


class TestClassHistogram:
  def draw(self, png, drawn, counts, names):
    figures.class_histogram(counts, names, png)
    assert is_picture(png)
    return drawn[0].axes

  def test_has_a_panel_for_each_strategy(self, png, drawn):
    counts = {"decern": [1, 2, 3], "random": [2, 0, 0]}
    panels = self.draw(png, drawn, counts, ["ant", "bee", "cat"])
    for axes, values in zip(panels, counts.values(), strict=True):
      assert [bar.get_height() for bar in axes.patches] == values
      # An equal share.
      share = sum(values) / 3
      np.testing.assert_array_equal(axes.lines[0].get_ydata(), [share, share])
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles == ["decern", "random, 2 classes never"]

  def test_names_few_classes(self, png, drawn):
    names = ["ant", "b$e$", "cat\udce9", "_dog"]
    (axes,) = self.draw(png, drawn, {"random": [1] * 4}, names)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["ant", r"b\$e\$", "cat?", "_dog"]

  def test_counts_many_classes(self, png, drawn):
    names = [f"class {i}" for i in range(100)]
    (axes,) = self.draw(png, drawn, {"random": range(100)}, names)
    assert len(axes.get_xticks()) < 15
    assert axes.get_xlabel() == "class index"


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
    figures.pool_map(self.points, self.ids, runs, png)
    assert is_picture(png)
    return drawn[-1].axes[: len(names)]

  def test_draws_the_pool_and_each_round(self, png, drawn):
    (axes,) = self.draw(png, drawn, "random")
    pool, first, second, last = [c.get_offsets() for c in axes.collections]
    np.testing.assert_array_equal(pool, self.points)
    np.testing.assert_array_equal(first, self.points[[1, 0]])
    np.testing.assert_array_equal(second, self.points[[7]])
    assert not len(last)
    # Rounds have their own colors.
    colors = [tuple(c.get_facecolor()[0]) for c in axes.collections[:3]]
    assert len(set(colors)) == 3

  @each("count", [2, 7])
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
    found = figures.project(features)
    # The sign of a direction is free.
    sign = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * sign, expected, atol=1e-4)

  def test_a_direction_points_to_its_largest_weight(self):
    features = np.array([[0.0, 0.0], [-2.0, 0.0], [0.0, -1.0]], np.float32)
    found = figures.project(features)
    assert found[0, 0] > found[1, 0]
    assert found[0, 1] > found[2, 1]
    negated = figures.project(-features)
    np.testing.assert_allclose(negated, -found, atol=1e-6)

  def test_equal_features_are_one_point(self):
    assert not figures.project(np.ones((3, 4), np.float32)).any()


class TestPretrainingCurve:
  @each("has_probe", [True, False])
  def test_draws_the_loss_and_the_probe(self, png, drawn, has_probe):
    records = [{"epoch": i, "loss": 5.0 / i} for i in range(1, 4)]
    probe = {"epoch": 0, "probe": {"knn_accuracy": 0.25}}
    figures.pretraining_curve([probe] * has_probe + records, png)
    assert is_picture(png)
    loss, *others = drawn[-1].axes
    np.testing.assert_allclose(
      loss.lines[0].get_xydata(), [[1, 5.0], [2, 2.5], [3, 5 / 3]]
    )
    assert len(others) == has_probe
    if has_probe:
      (other,) = others
      assert other.get_ylabel() == "knn accuracy (%)"
      assert other.lines[0].get_xydata().tolist() == [[0, 25.0]]
