"""Tests of decern_jax/runs/runner.py: `main_test` has its runs."""

from decern_jax.runs import runner


class TestDescribe:
  RECORD = {
    "round": 2,
    "num_labeled": 12,
    "test": {"accuracy": 0.51249},
    "selected": ["a", "b", "c"],
    "seconds": {"train": 1.2, "select": 0.3},
  }

  def test_tells_all_in_a_line(self):
    assert runner.describe(self.RECORD) == (
      "round 2: 12 labeled, test accuracy 51.2 %, 3 selected, 1.5 s"
    )

  def test_tells_of_val_where_there_is_one(self):
    record = {**self.RECORD, "val": {"accuracy": 0.25}}
    assert "test accuracy 51.2 %, val 25.0 %, 3 selected" in runner.describe(
      record
    )
