"""Tests of decern_jax/report/gallery.py."""

import io
from typing import Any

import numpy as np
from PIL import Image
import pytest

from decern_jax.report import figures, gallery, summary
from decern_jax.report.gallery import PoolView
from tests.report import made_up
from tests.table import each

CURVES = {"random": {1: (0.3, 0.5, 0.6), 2: (0.2, 0.3, 0.4)}}
CURVES["margin"] = CURVES["random"]


HISTOGRAM = figures.class_histogram


def read(name: str) -> np.ndarray:
  return np.full((30, 40, 3), 9 * made_up.IDS.index(name), np.uint8)


@pytest.fixture
def runs(tmp_path):
  return made_up.collect(tmp_path / "in", CURVES)


@pytest.fixture
def draw(runs, tmp_path):
  def draw(pool=None, of=runs) -> dict[str, gallery.Picture]:
    numbers = summary.summarize(of)
    found = gallery.draw(of, numbers, tmp_path / "out", pool=pool)
    return {picture.title: picture for picture in found}

  return draw


class TestDraw:
  def test_without_a_pool_draws_the_numbers(self, draw, tmp_path):
    pictures = draw()
    assert list(pictures) == ["Learning curves", "Who beats whom"]
    for picture in pictures.values():
      assert picture.media_type == "image/png"
      with Image.open(io.BytesIO(picture.content)) as image:
        assert image.format == "PNG"
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["learning_curves.png", "penalty_matrix.png"]

  def test_one_strategy_beats_nobody(self, draw, tmp_path):
    runs = made_up.collect(tmp_path / "one", {"random": CURVES["random"]})
    assert list(draw(of=runs)) == ["Learning curves"]

  def test_draws_what_is_known_of_the_pool(self, draw):
    features = np.random.default_rng(0).normal(size=(12, 4))
    pool = PoolView(made_up.IDS, np.array(made_up.LABELS), features, read)
    assert list(draw(pool))[2:] == [
      "Selected classes",
      "Where in the pool",
      "Selected by margin",
      "Selected by random",
    ]

  @each(
    "known, title",
    [
      ({"labels": np.array(made_up.LABELS)}, "Selected classes"),
      ({"features": np.eye(12)}, "Where in the pool"),
      ({"read": read}, "Selected by margin"),
    ],
  )
  def test_leaves_out_what_is_not_known(self, draw, known, title):
    titles = list(draw(PoolView(made_up.IDS, **known)))
    assert titles[2] == title
    assert len({name.split(" by ")[0] for name in titles}) == 3

  def test_counts_each_label_as_means_over_seeds(self, draw, monkeypatch):
    calls = []
    monkeypatch.setattr(
      figures,
      "class_histogram",
      lambda counts, names, path: (
        calls.append((counts, names)) or HISTOGRAM(counts, names, path)
      ),
    )
    # In every run the images 0 to 3, of the classes 0, 1, 2 and 0.
    one = np.array([2.0, 1.0, 1.0])
    labels = np.array(made_up.LABELS)
    hot = (labels[:, None] == np.arange(3)).astype(int)
    # Each example has the next class too.
    both = hot | np.roll(hot, 1, axis=1)
    for rows, expected in ((labels, one), (both, one + np.roll(one, 1))):
      draw(PoolView(made_up.IDS, rows))
      counts, names = calls.pop()
      assert names == list(made_up.CLASSES)
      assert list(counts) == ["margin", "random"]
      for found in counts.values():
        np.testing.assert_array_equal(found, expected)

  def test_pictures_of_the_page_are_small_and_readable(self, draw, tmp_path):
    picture = draw()["Learning curves"]
    file = tmp_path / "out/learning_curves.png"
    assert len(picture.content) < file.stat().st_size
    with (
      Image.open(io.BytesIO(picture.content)) as small,
      Image.open(file) as large,
    ):
      ours, theirs = (
        np.asarray(image.convert("RGB"), float) for image in (small, large)
      )
    assert np.abs(ours - theirs).mean() < 2.0

  def test_contact_sheets_are_small_files(self, draw, tmp_path):
    sheet = draw(PoolView(made_up.IDS, read=read))["Selected by random"]
    assert sheet.media_type == "image/jpeg"
    with Image.open(io.BytesIO(sheet.content)) as image:
      assert image.format == "JPEG"
      assert image.width <= 1000
    assert (tmp_path / "out/selected_random.png").exists()
    assert "seed 1" in sheet.caption

  def test_a_run_that_selects_nothing_has_no_sheet(self, draw, tmp_path):
    runs = made_up.collect(tmp_path / "one", {"random": {1: (0.3,)}})
    pool = PoolView(made_up.IDS, read=read)
    assert list(draw(pool, of=runs)) == ["Learning curves"]

  def test_names_of_strategies_become_names_of_files(self, tmp_path):
    for gamma in (0.3, 0.8):
      made_up.write_run(
        tmp_path / f"in/{gamma}",
        "decern",
        1,
        made_up.make_records((0.3, 0.5)),
        selection__options__diversity_gamma=gamma,
      )
    runs = made_up.comparison.collect(
      [tmp_path / "in"], options=made_up.OPTIONS
    )
    pool = PoolView(made_up.IDS, read=read)
    gallery.draw(runs, summary.summarize(runs), tmp_path / "out", pool=pool)
    assert (tmp_path / "out/selected_decern_diversity_gamma=0.3.png").exists()

  def test_captions_name_the_strategies(self, draw):
    pictures = draw()
    assert "margin, random" in pictures["Learning curves"].caption
    assert "beaten: margin, random." in pictures["Who beats whom"].caption

  def test_captions_name_nobody_without_a_test(self, draw, tmp_path):
    curves = {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.6)}}
    runs = made_up.collect(tmp_path / "one", curves)
    assert "Least" not in draw(of=runs)["Who beats whom"].caption


class TestCheckPool:
  def test_accepts_the_pool_of_the_runs(self, runs):
    features = np.zeros((12, 4))
    labels = np.array(made_up.LABELS)
    gallery.check_pool(runs, PoolView(made_up.IDS, labels, features, read))

  def test_rejects_another_pool(self, runs):
    with pytest.raises(ValueError, match="none of 'train/00.png'"):
      gallery.check_pool(runs, PoolView(made_up.IDS[1:]))

  @each("name", ["labels", "features"])
  def test_rejects_rows_of_other_images(self, runs, name):
    rows: Any = {name: np.zeros((11, 2))}
    pool = PoolView(made_up.IDS, **rows)
    with pytest.raises(ValueError, match=f"`{name}` of 12 images, got 11"):
      gallery.check_pool(runs, pool)
