"""Tests of decern_jax/report/page_tables.py."""

import re

import pytest

from decern_jax.report import page_tables, summary
from decern_jax.report.pairs import PairResult
from tests.report import made_up
from tests.table import each


def cells(text: str) -> list[list[str]]:
  """Returns the cells of a table, row by row, the header first."""
  return [
    re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
    for row in re.findall(r"<tr>(.*?)</tr>", text)
  ]


def columns(text: str) -> dict[str, list[str]]:
  header, *rows = cells(text)
  return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def make_pair(**values) -> PairResult:
  unknown = dict.fromkeys(PairResult.__dataclass_fields__)
  return PairResult(**{**unknown, "num_seeds": 2, **values})


@pytest.fixture
def summarize(tmp_path):
  def summarize(curves, **options) -> summary.Summary:
    return summary.summarize(made_up.collect(tmp_path, curves, **options))

  return summarize


class TestResults:
  def test_has_a_row_for_each_strategy(self, summarize):
    found = columns(page_tables.results(summarize(made_up.CURVES)))
    assert found["strategy"] == ["decern", "margin", "random"]
    assert found["AUBC (%)"][0] == "53.3 ± 10.4"
    assert found["final accuracy (%)"][2] == "50.0 ± 10.0"
    assert found["final balanced accuracy (%)"][2] == "40.0"
    assert found["selection (s per round)"] == ["0.25"] * 3

  def test_compares_with_random(self, summarize):
    numbers = summarize(made_up.CURVES)
    found = columns(page_tables.results(numbers))
    pair = numbers.pair("decern", "random")
    differences = found["AUBC difference to random"]
    assert differences[0] == page_tables.points(pair)
    assert differences[0].startswith("+13.33 [")
    assert differences[2] == "–"
    assert found["Holm p"][0] == page_tables.p_value(pair.holm_p, mark=True)
    needed = found["labels to reach random's last accuracy"]
    assert needed == ["14 (6 saved)", "15 (5 saved)", "–"]

  def test_tells_that_random_was_not_reached(self, summarize):
    curves = {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.4)}}
    found = columns(page_tables.results(summarize(curves)))
    needed = found["labels to reach random's last accuracy"]
    assert needed == ["–", "not reached"]

  def test_a_strategy_without_common_seeds_reaches_nothing_known(
    self, summarize
  ):
    curves = {
      "random": {1: (0.3, 0.5)},
      "margin": {2: (0.3, 0.4)},
      "decern": {1: (0.3, 0.6)},
    }
    found = columns(page_tables.results(summarize(curves)))
    needed = found["labels to reach random's last accuracy"]
    assert needed == ["17 (3 saved)", "–", "–"]

  def test_leaves_out_columns_of_nothing(self, summarize):
    found = columns(page_tables.results(summarize({"margin": {1: (0.3, 0.5)}})))
    assert list(found) == [
      "strategy",
      "AUBC (%)",
      "final accuracy (%)",
      "final balanced accuracy (%)",
      "selection (s per round)",
    ]


class TestAccuracies:
  def test_has_a_column_for_each_number_of_labels(self, summarize):
    header, first, *_ = cells(page_tables.accuracies(summarize(made_up.CURVES)))
    assert header == ["labels", "10", "20"]
    assert first == ["decern", "30.0 ± 10.0", "76.7 ± 11.5"]

  def test_one_seed_has_no_deviation(self, summarize):
    curves = {"random": {1: (0.25, 0.5)}}
    _, row = cells(page_tables.accuracies(summarize(curves)))
    assert row == ["random", "25.0", "50.0"]


class TestPairs:
  def test_has_a_row_for_each_pair(self, summarize):
    found = columns(page_tables.pairs(summarize(made_up.CURVES)))
    assert found["pair"] == [
      "decern − margin",
      "decern − random",
      "margin − random",
    ]
    assert found["seeds"] == ["3"] * 3
    assert found["Wilcoxon p"] == ["–"] * 3


class TestTable:
  def test_is_reachable_and_named(self):
    text = page_tables.table("A & B", ["a"], [["1"]])
    assert '<div class="wide" role="region" aria-label="A &amp; B"' in text
    assert "<caption>A &amp; B</caption>" in text
    assert '<th scope="col">a</th>' in text
    assert '<th scope="row">1</th>' in text


class TestPercent:
  def test_has_one_digit(self):
    assert page_tables.percent(0.12345, None) == "12.3"
    assert page_tables.percent(0.5, 0.0125) == "50.0 ± 1.2"


class TestPoints:
  def test_has_signs_and_the_interval(self):
    pair = make_pair(difference=0.02, low=-0.0004, high=0.0404)
    assert page_tables.points(pair) == "+2.00 [−0.04, +4.04]"

  def test_zero_has_no_sign(self):
    pair = make_pair(difference=-1e-9, low=0.0, high=1e-9)
    assert page_tables.points(pair) == "0.00 [0.00, 0.00]"

  def test_leaves_out_what_is_unknown(self):
    assert page_tables.points(make_pair(difference=0.01)) == "+1.00"
    assert page_tables.points(make_pair()) == "–"


class TestPValue:
  @each(
    "p, text",
    [(None, "–"), (0.0, "&lt; 0.001"), (0.0123, "0.012"), (1.0, "1.000")],
  )
  def test_has_three_digits(self, p, text):
    assert page_tables.p_value(p) == text

  @each("p, is_bold", [(0.049, True), (0.05, False)])
  def test_is_bold_where_it_is_significant(self, p, is_bold):
    text = page_tables.p_value(p, mark=True)
    assert ("<strong>" in text) == is_bold


class TestNumber:
  def test_is_a_dash_where_unknown(self):
    assert page_tables.number(None, ".2f") == "–"
    assert page_tables.number(0.3333, ".3g") == "0.333"
