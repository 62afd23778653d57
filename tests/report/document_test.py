"""Tests of decern_jax/report/document.py."""

import csv
import json

import numpy as np
import pytest

from decern_jax.report import document, summary
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


@pytest.fixture
def numbers(tmp_path) -> summary.Summary:
  return summary.summarize(made_up.collect(tmp_path / "in", made_up.CURVES))


@pytest.fixture
def output(tmp_path):
  folder = tmp_path / "out"
  folder.mkdir()
  return folder


def read(path) -> list[dict[str, str]]:
  with path.open(newline="") as file:
    return list(csv.DictReader(file))


class TestWriteNumbers:
  def test_writes_four_files(self, numbers, output):
    document.write_numbers(numbers, [], output)
    assert sorted(path.name for path in output.iterdir()) == [
      "accuracy.csv",
      "pairs.csv",
      "report.json",
      "summary.csv",
    ]

  def test_json_holds_the_numbers(self, numbers, output):
    document.write_numbers(numbers, ["One.", "Two."], output)
    found = json.loads((output / "report.json").read_text())
    assert found["notes"] == ["One.", "Two."]
    assert found["num_labeled"] == [10, 20]
    assert found["strategies"][0]["aubc"] == numbers.strategies[0].aubc
    assert found["strategies"][0]["aubc_by_seed"]["11"] == pytest.approx(0.45)
    assert found["pairs"][0]["holm_p"] == numbers.pairs[0].holm_p
    assert found["pairs"][0]["wilcoxon_p"] is None
    assert found["penalty_matrix"] == numbers.penalty_matrix

  def test_floats_read_back_equal(self, numbers, output):
    document.write_numbers(numbers, [], output)
    for row, pair in zip(
      read(output / "pairs.csv"), numbers.pairs, strict=True
    ):
      assert (row["first"], row["second"]) == (pair.first, pair.second)
      assert float(row["aubc_difference"]) == pair.difference
      assert float(row["low"]) == pair.low
      assert row["wilcoxon_p"] == ""

  def test_has_a_row_per_strategy_and_number_of_labels(self, numbers, output):
    document.write_numbers(numbers, [], output)
    rows = read(output / "accuracy.csv")
    assert len(rows) == 6
    assert rows[1] == {
      "strategy": "decern",
      "num_labeled": "20",
      "num_seeds": "3",
      "accuracy_mean": repr(numbers.strategies[0].accuracy[1]),
      "accuracy_sd": repr(numbers.strategies[0].accuracy_deviation[1]),
      "balanced_accuracy_mean": repr(
        numbers.strategies[0].balanced_accuracy[1]
      ),
    }

  def test_has_a_row_per_strategy(self, numbers, output):
    document.write_numbers(numbers, [], output)
    row = read(output / "summary.csv")[2]
    random = numbers.strategies[2]
    assert row["strategy"] == "random"
    assert row["seeds"] == "1 11 111"
    assert float(row["aubc_mean"]) == random.aubc
    assert float(row["final_accuracy_mean"]) == random.accuracy[-1]
    assert float(row["labels_needed"]) == random.labels_needed
    assert float(row["penalty"]) == random.penalty
    assert row["train_seconds_per_round"] == "2.0"
    assert row["select_seconds_per_round"] == "0.25"

  def test_leaves_empty_what_one_seed_cannot_tell(self, tmp_path, output):
    curves = {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.6)}}
    runs = made_up.collect(tmp_path / "in", curves)
    document.write_numbers(summary.summarize(runs), [], output)
    row = read(output / "summary.csv")[0]
    assert row["aubc_sd"] == row["final_accuracy_sd"] == row["penalty"] == ""
    assert read(output / "accuracy.csv")[0]["accuracy_sd"] == ""
    (pair,) = read(output / "pairs.csv")
    assert pair["low"] == pair["t_test_p"] == pair["holm_p"] == ""
    assert float(pair["aubc_difference"]) == pytest.approx(0.05)


class TestWriteText:
  def test_replaces_a_file(self, output):
    path = output / "a.csv"
    path.write_text("long before")
    document.write_text(path, "nöw\r\n")
    assert path.read_bytes() == "nöw\r\n".encode()
    assert [each.name for each in output.iterdir()] == ["a.csv"]

  def test_keeps_the_bytes_of_a_name(self, output):
    document.write_text(output / "a.csv", "\udce9")
    assert (output / "a.csv").read_bytes() == b"\xe9"
