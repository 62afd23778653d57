"""Tests of decern_jax/report/notes.py."""

import dataclasses

import pytest

from decern_jax.report import notes, summary
from tests.report import made_up
from tests.table import each

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
    return "\n".join(notes.notes_on(numbers))

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
    assert "Without random there is no difference to it" in text

  def test_knows_strategies_by_their_first_word(self, tmp_path):
    found = {
      f"m{gamma}": made_up.write_run(
        tmp_path / f"{gamma}",
        "margin",
        1,
        made_up.make_records((0.3, 0.5)),
        selection__diversity_gamma=gamma,
      )
      for gamma in (0.3, 0.8)
    }
    runs = made_up.comparison.collect(
      found.values(), options={"margin": ("diversity_gamma",)}
    )
    assert "Not compared: random." in "\n".join(
      notes.notes_on(summary.summarize(runs))
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

  @each("num_seeds, start", [(1, "1 seed only"), (4, "4 seeds only")])
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
    assert "p is given as 1" in text

  @each("num_seeds, is_noted", [(5, True), (6, False)])
  def test_tells_why_signed_ranks_are_missing(self, note, num_seeds, is_noted):
    text = note(curves("random", "margin", num_seeds=num_seeds))
    assert ("signed-rank test is left out" in text) == is_noted
