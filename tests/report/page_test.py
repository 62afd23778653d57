"""Tests of decern_jax/report/page.py."""

import base64
import dataclasses
from html import parser
import re

import pytest

from decern_jax.report import page, summary
from decern_jax.report.gallery import Picture
from decern_jax.report.statistics import PairResult
from tests.report import made_up
from tests.table import each

VOID = {"meta", "img", "br"}
PICTURE = Picture("A <b>", 'Shows "x" & y.', "image/png", b"\x89PNG not really")


class Elements(parser.HTMLParser):
  """Collects the elements of a page, and refuses one that is not nested."""

  def __init__(self, text: str):
    super().__init__()
    self.found, self.text, self._open = [], "", []
    self.feed(text)
    self.close()
    assert not self._open

  def handle_starttag(self, tag, attrs):
    self.found.append((tag, dict(attrs)))
    if tag not in VOID:
      self._open.append(tag)

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    self.text += data

  def all(self, tag: str) -> list[dict]:
    return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def render(tmp_path):
  def render(curves=made_up.CURVES, *, notes=(), pictures=(), **options) -> str:
    numbers = summary.summarize(made_up.collect(tmp_path, curves, **options))
    return page.render(numbers, notes, pictures)

  return render


class TestRender:
  def test_is_a_well_formed_page_in_english(self, render):
    text = render(notes=["One."], pictures=[PICTURE])
    assert text.startswith("<!DOCTYPE html>\n")
    found = Elements(text)
    assert found.all("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in found.all("meta")
    assert len(found.all("h1")) == len(found.all("title")) == 1

  def test_needs_no_other_file(self, render):
    found = Elements(render(notes=["One."], pictures=[PICTURE]))
    assert not {"script", "link", "iframe", "object"} & {
      tag for tag, _ in found.found
    }
    references = [
      value
      for _, attributes in found.found
      for name, value in attributes.items()
      if name in ("src", "href", "srcset", "data", "poster")
    ]
    assert len(references) == 1
    assert references[0].startswith("data:image/png;base64,")

  def test_holds_the_pictures_with_texts_for_those_who_see_none(self, render):
    (image,) = Elements(render(pictures=[PICTURE])).all("img")
    content = image["src"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(content) == PICTURE.content
    assert image["alt"] == 'A <b>: Shows "x" & y.'

  def test_fits_a_phone(self, render):
    found = Elements(render())
    (viewport,) = [m for m in found.all("meta") if m.get("name") == "viewport"]
    assert viewport["content"] == "width=device-width, initial-scale=1"

  def test_is_dark_on_light(self, render):
    (style,) = re.findall(r"<style>(.*?)</style>", render(), flags=re.DOTALL)
    assert "color-scheme: light" in style
    assert "background: #fff" in style
    assert not re.search(r"url\(|@import", style)

  def test_names_what_was_compared(self, render):
    text = Elements(render()).text
    assert "image_folder; 3 classes; 12 train; 6 test" in text
    assert "small_cnn" in text
    assert "frozen features (train.scope=head)" in text
    assert "decern, margin, random" in text
    assert "10, 20" in text
    assert "1, 11, 111" in text

  def test_names_fine_tuning(self, render):
    assert "fine-tuned (train.scope=all)" in render(train__scope="all")

  def test_has_notes_and_settings(self, render):
    text = Elements(render(notes=["One & all."], train__num_epochs=7)).text
    assert "One & all." in text
    assert "train.num_epochs = 7" in text

  def test_escapes_names(self, render):
    name = '<script>alert("x")</script>'
    found = Elements(
      render(
        notes=[name],
        pictures=[PICTURE],
        dataset__name=name,
        dataset__path=name,
        model__name=name,
        model__weights=name,
      )
    )
    assert not found.all("script")
    assert found.text.count(name) >= 6

  def test_a_table_needs_no_pair(self, render):
    text = Elements(render({"random": {1: (0.3, 0.5)}})).text
    assert "Active learning on image_folder: random" in text
    assert "Differences of all pairs" not in text

  def test_tables_are_reachable_and_named(self, render):
    text = render({"random": {1: (0.3, 0.5)}})
    assert '<div class="wide" role="region" aria-label="Results"' in text
    assert "<caption>Results</caption>" in text
    assert '<th scope="col">strategy</th>' in text
    assert '<tr><th scope="row">random</th><td>40.0</td>' in text

  def test_bold_cells_are_elements(self, render):
    assert "<td><strong>0.0" in render()

  def test_is_the_same_for_the_same_runs(self, tmp_path):
    numbers = summary.summarize(made_up.collect(tmp_path, made_up.CURVES))
    assert page.render(numbers, [], []) == page.render(numbers, [], [])


class TestVerdict:
  def verdict(self, text: str) -> str:
    return Elements(re.findall(r"<p>.*?</p>", text, flags=re.DOTALL)[0]).text

  def test_compares_the_best_with_random(self, render):
    assert re.fullmatch(
      r"decern has the largest area under the learning curve: 53\.3 ± 10\.4 %,"
      r" 13\.3 points above random \(95 % interval 6\.\d to 20\.\d, Holm"
      r" p = 0\.0\d\d\)\.",
      self.verdict(render()),
    )

  def test_does_not_claim_a_test_of_one_seed(self, render):
    curves = {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.6)}}
    assert self.verdict(render(curves)).endswith(
      "5.0 points above random; too few seeds for a test."
    )

  @each(
    "curves",
    [
      {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.4)}},
      {"margin": {1: (0.3, 0.5)}},
      {"random": {1: (0.3, 0.5)}, "margin": {2: (0.3, 0.6)}},
    ],
  )
  def test_compares_with_nothing_where_it_cannot(self, render, curves):
    assert re.fullmatch(
      r"\w+ has the largest area under the learning curve: \d+\.\d %\.",
      self.verdict(render(curves)),
    )


def columns(table: page.Table) -> dict[str, list[str]]:
  cells = map(list, zip(*table.rows, strict=True))
  return dict(zip(table.header, cells, strict=True))


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
    found = columns(page.results_table(summarize(made_up.CURVES)))
    assert found["strategy"] == ["decern", "margin", "random"]
    assert found["AUBC (%)"][0] == "53.3 ± 10.4"
    assert found["final accuracy (%)"][2] == "50.0 ± 10.0"
    assert found["final balanced accuracy (%)"][2] == "40.0"
    assert found["selection (s per round)"] == ["0.25"] * 3

  def test_compares_with_random(self, summarize):
    numbers = summarize(made_up.CURVES)
    found = columns(page.results_table(numbers))
    pair = numbers.pair("decern", "random")
    differences = found["AUBC difference to random"]
    assert differences[0] == page.points(pair)
    assert differences[0].startswith("+13.33 [")
    assert differences[2] == "–"
    assert found["Holm p"][0] == page.p_value(pair.holm_p, mark=True)
    needed = found["labels to reach random's last accuracy"]
    assert needed == ["14 (6 saved)", "15 (5 saved)", "–"]

  def test_tells_that_random_was_not_reached(self, summarize):
    curves = {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.4)}}
    found = columns(page.results_table(summarize(curves)))
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
    found = columns(page.results_table(summarize(curves)))
    needed = found["labels to reach random's last accuracy"]
    assert needed == ["17 (3 saved)", "–", "–"]

  def test_leaves_out_columns_of_nothing(self, summarize):
    found = columns(page.results_table(summarize({"margin": {1: (0.3, 0.5)}})))
    assert list(found) == [
      "strategy",
      "AUBC (%)",
      "final accuracy (%)",
      "final balanced accuracy (%)",
      "selection (s per round)",
    ]


class TestAccuracies:
  def test_has_a_column_for_each_number_of_labels(self, summarize):
    table = page.accuracies_table(summarize(made_up.CURVES))
    assert table.header == ["labels", "10", "20"]
    assert table.rows[0] == ["decern", "30.0 ± 10.0", "76.7 ± 11.5"]

  def test_one_seed_has_no_deviation(self, summarize):
    curves = {"random": {1: (0.25, 0.5)}}
    (row,) = page.accuracies_table(summarize(curves)).rows
    assert row == ["random", "25.0", "50.0"]


class TestPairs:
  def test_has_a_row_for_each_pair(self, summarize):
    found = columns(page.pairs_table(summarize(made_up.CURVES)))
    assert found["pair"] == [
      "decern − margin",
      "decern − random",
      "margin − random",
    ]
    assert found["seeds"] == ["3"] * 3
    assert found["Wilcoxon p"] == ["–"] * 3


class TestPercent:
  def test_has_one_digit(self):
    assert page.percent(0.12345, None) == "12.3"
    assert page.percent(0.5, 0.0125) == "50.0 ± 1.2"


class TestPoints:
  def test_has_signs_and_the_interval(self):
    pair = make_pair(difference=0.02, low=-0.0004, high=0.0404)
    assert page.points(pair) == "+2.00 [−0.04, +4.04]"

  def test_zero_has_no_sign(self):
    pair = make_pair(difference=-1e-9, low=0.0, high=1e-9)
    assert page.points(pair) == "0.00 [0.00, 0.00]"

  def test_leaves_out_what_is_unknown(self):
    assert page.points(make_pair(difference=0.01)) == "+1.00"
    assert page.points(make_pair()) == "–"


class TestPValue:
  @each(
    "p, text",
    [(None, "–"), (0.0, "< 0.001"), (0.0123, "0.012"), (1.0, "1.000")],
  )
  def test_has_three_digits(self, p, text):
    assert page.p_value(p) == text

  @each("p, is_bold", [(0.049, True), (0.05, False)])
  def test_is_bold_where_it_is_significant(self, p, is_bold):
    text = page.p_value(p, mark=True)
    assert ("<strong>" in text) == is_bold


class TestNumber:
  def test_is_a_dash_where_unknown(self):
    assert page.number(None, ".2f") == "–"
    assert page.number(0.3333, ".3g") == "0.333"
    assert page.number(0.0, ".2f") == "0.00"


SEEDS = (1, 11, 111, 1111, 11111, 2)


def curves(*names, num_seeds=6) -> dict:
  """Returns curves whose areas differ between strategies and seeds."""
  return {
    name: {
      seed: (0.3, 0.5 + 0.1 * level + 0.01 * (position * level % 3))
      for position, seed in enumerate(SEEDS[:num_seeds])
    }
    for level, name in enumerate(names)
  }


@pytest.fixture
def note(tmp_path):
  """Returns the notes on made-up runs, as one text."""

  def note(found, *, unfinished=(), **settings) -> str:
    numbers = summary.summarize(made_up.collect(tmp_path, found, **settings))
    numbers = dataclasses.replace(numbers, unfinished=list(unfinished))
    return "\n".join(page.notes_on(numbers))

  return note


class TestNotesOn:
  def test_a_full_comparison_needs_one_on_training_alone(self, note):
    text = note(curves("random", "margin"))
    assert text.startswith("Frozen features: ")
    assert "\n" not in text

  def test_names_fine_tuning(self, note):
    text = note(curves("random", "margin"), train__scope="all")
    assert text.startswith("Fine-tuned: ")
    assert "train.scope is 'all'" in text

  def test_names_missing_comparisons(self, note):
    text = note(curves("decern", "entropy"))
    assert "Not compared: random, margin." in text
    assert "Without random, differences to it" in text

  def test_knows_strategies_by_their_first_word(self, tmp_path):
    found = {
      f"m{gamma}": made_up.write_run(
        tmp_path / f"{gamma}",
        "margin",
        1,
        made_up.make_records((0.3, 0.5)),
        selection__options__diversity_gamma=gamma,
      )
      for gamma in (0.3, 0.8)
    }
    runs = made_up.comparison.collect(
      found.values(), options={"margin": ("diversity_gamma",)}
    )
    assert "Not compared: random." in "\n".join(
      page.notes_on(summary.summarize(runs))
    )

  def test_names_unfinished_runs(self, note):
    left = ["runs/a (2 of 8 rounds)", "runs/b (0 of 8 rounds)"]
    text = note(curves("random", "margin"), unfinished=left)
    assert f"not finished: {left[0]}, {left[1]}." in text

  def test_names_the_first_of_many_runs(self, note):
    left = [f"run{i}" for i in range(9)]
    text = note(curves("random", "margin"), unfinished=left)
    assert "run5, and 3 more." in text
    assert "run6" not in text

  def test_names_missing_seeds(self, note):
    found = curves("random", "margin")
    del found["margin"][11], found["margin"][2]
    text = note(found)
    assert "margin lacks seeds 2, 11: " in text
    assert "random lacks" not in text

  @each("num_seeds, start", [(1, "Only 1 seed"), (4, "Only 4 seeds")])
  def test_tells_that_seeds_are_few(self, note, num_seeds, start):
    text = note(curves("random", "margin", num_seeds=num_seeds))
    assert f"\n{start}: a claim needs at least 5." in text

  def test_tells_which_pairs_were_not_tested(self, note):
    found = curves("random", "margin", "decern")
    found["decern"] = {1: (0.3, 0.9)}
    text = note(found)
    assert (
      "No test, interval or penalty for decern and margin; decern and" in text
    )
    assert "margin and random" not in text

  def test_tells_which_pairs_are_equal(self, note):
    found = curves("random", "margin")
    found["entropy"] = found["margin"]
    text = note(found)
    assert "Equal in every seed: entropy and margin. " in text
    assert "p is shown as 1" in text

  @each("num_seeds, is_noted", [(5, True), (6, False)])
  def test_tells_why_signed_ranks_are_missing(self, note, num_seeds, is_noted):
    text = note(curves("random", "margin", num_seeds=num_seeds))
    assert ("There is no signed-rank test" in text) == is_noted
