"""Tests of decern_jax/report/document.py."""

import json

import numpy as np
import pytest

from decern_jax.report import document
from decern_jax.report.gallery import PoolView
from tests.report import made_up


@pytest.fixture
def runs(tmp_path):
  return made_up.collect(tmp_path / "in", made_up.CURVES)


class TestWrite:
  def test_writes_a_page_numbers_and_pictures(self, runs, tmp_path):
    folder = tmp_path / "a/report"
    path = document.write(runs, folder)
    assert path == folder / "report.html"
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    assert found == [
      "accuracy.csv",
      "figures",
      "figures/learning_curves.png",
      "figures/penalty_matrix.png",
      "pairs.csv",
      "report.html",
      "report.json",
      "summary.csv",
    ]

  def test_page_and_json_agree_on_the_notes(self, runs, tmp_path):
    text = document.write(runs, tmp_path).read_text()
    notes = json.loads((tmp_path / "report.json").read_text())["notes"]
    assert len(notes) > 1
    for note in notes:
      assert f"<li>{note}</li>" in text

  def test_shows_what_is_known_of_the_pool(self, runs, tmp_path):
    pool = PoolView(made_up.IDS, np.array(made_up.LABELS))
    assert (
      document.write(runs, tmp_path, pool=pool).read_text().count("<img") == 3
    )

  def test_again_writes_the_same_page(self, runs, tmp_path):
    first = document.write(runs, tmp_path / "out").read_bytes()
    assert document.write(runs, tmp_path / "out").read_bytes() == first

  def test_rejects_another_pool_before_anything_is_written(
    self, runs, tmp_path
  ):
    with pytest.raises(ValueError, match="`ids` of the runs' pool"):
      document.write(runs, tmp_path / "out", pool=PoolView(()))
    assert not (tmp_path / "out").exists()

  def test_rejects_a_folder_that_is_a_file(self, runs, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="can be written, got .*file: "):
      document.write(runs, tmp_path / "file")


class TestCheckFolder:
  def test_makes_the_folder_and_leaves_it_empty(self, tmp_path):
    document.check_folder(tmp_path / "a/b")
    assert not list((tmp_path / "a/b").iterdir())

  def test_rejects_a_file(self, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="can be written, got .*file: "):
      document.check_folder(tmp_path / "file")
