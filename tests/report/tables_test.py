"""Tests of decern_jax/report/tables.py."""

import csv
import json

import pytest

from decern_jax.report import summary, tables
from tests.report import made_up


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


class TestWrite:
  def test_writes_four_files(self, numbers, output):
    tables.write(numbers, [], output)
    assert sorted(path.name for path in output.iterdir()) == [
      "accuracy.csv",
      "pairs.csv",
      "report.json",
      "summary.csv",
    ]

  def test_json_holds_the_numbers(self, numbers, output):
    tables.write(numbers, ["One.", "Two."], output)
    found = json.loads((output / "report.json").read_text())
    assert found["notes"] == ["One.", "Two."]
    assert found["num_labeled"] == [10, 20]
    assert found["strategies"][0]["aubc"] == numbers.strategies[0].aubc
    assert found["strategies"][0]["aubc_by_seed"]["11"] == pytest.approx(0.45)
    assert found["pairs"][0]["holm_p"] == numbers.pairs[0].holm_p
    assert found["pairs"][0]["wilcoxon_p"] is None
    assert found["penalty_matrix"] == numbers.penalty_matrix

  def test_floats_read_back_equal(self, numbers, output):
    tables.write(numbers, [], output)
    for row, pair in zip(
      read(output / "pairs.csv"), numbers.pairs, strict=True
    ):
      assert (row["first"], row["second"]) == (pair.first, pair.second)
      assert float(row["aubc_difference"]) == pair.difference
      assert float(row["low"]) == pair.low
      assert row["wilcoxon_p"] == ""

  def test_has_a_row_per_strategy_and_number_of_labels(self, numbers, output):
    tables.write(numbers, [], output)
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
    tables.write(numbers, [], output)
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
    tables.write(summary.summarize(runs), [], output)
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
    tables.write_text(path, "nöw\r\n")
    assert path.read_bytes() == "nöw\r\n".encode()
    assert [each.name for each in output.iterdir()] == ["a.csv"]

  def test_keeps_the_bytes_of_a_name(self, output):
    tables.write_text(output / "a.csv", "\udce9")
    assert (output / "a.csv").read_bytes() == b"\xe9"
