"""Tests of decern_jax/annotation/quality/findings.py."""

import dataclasses

from decern_jax.annotation.quality.findings import (
  Annotator,
  ClassCount,
  Copy,
  HeldOut,
  Progress,
  collect,
)
from decern_jax.annotation.state import Answer
from decern_jax.report import statistics
from tests.annotation.quality.run_facts import make_facts, make_record
from tests.table import each


def held_out(**changes) -> HeldOut:
  found = collect(make_facts(**changes)).held_out
  assert found is not None
  return found


class TestCollect:
  def test_counts_how_far_it_is(self):
    found = collect(make_facts())
    assert found.progress == Progress(50, 6, 3, 1, 2)

  def test_accuracy_has_its_interval(self):
    found = held_out()
    assert (found.split, found.metric, found.num_images) == (
      *("test", "accuracy", 2),
    )
    assert [score.value for score in found.scores] == [0.5, 0.75]
    assert found.scores[0].interval == statistics.wilson(0.5, 2)

  def test_gain_is_the_last_minus_the_first(self):
    found = held_out()
    assert found.gain == 0.25
    first, last = statistics.wilson(0.5, 2), statistics.wilson(0.75, 2)
    assert found.gain_interval == statistics.interval_of_difference(
      0.75, last, 0.5, first
    )

  def test_no_gain_after_one_round(self):
    found = held_out(records=(make_record(0),))
    assert (found.gain, found.gain_interval) == (None, None)

  @each("changes", [{"labels_held_out": {}, "hashes": {}}, {"records": ()}])
  def test_nothing_held_out_or_no_round(self, changes):
    assert collect(make_facts(**changes)).held_out is None

  def test_the_test_split_comes_before_the_other(self):
    labels = {"val": {"v": ("ant",)}, **make_facts().labels_held_out}
    assert held_out(labels_held_out=labels).split == "test"

  def test_interval_of_several_labels_is_that_of_the_record(self):
    record = {**make_record(0), "test": {"macro_f1": 0.5}}
    record["intervals"] = {"test": [0.25, 0.625]}
    found = held_out(records=(record,))
    assert found.scores[0].interval == (0.25, 0.625)
    assert found.metric == "macro F1"

  def test_older_records_have_no_interval(self):
    record = {**make_record(0), "test": {"macro_f1": 0.5}}
    found = held_out(records=(record, {**record, "round": 1}))
    assert found.scores[0].interval is None
    assert (found.gain, found.gain_interval) == (0.0, None)

  def test_doubles_are_those_that_meet_the_pool(self):
    assert collect(make_facts()).duplicates == (
      (Copy("a", "pool", ("ant",)), Copy("c", "pool", ("bee",))),
      (Copy("b", "pool", ("bee",)), Copy("t1", "test", ("ant",))),
    )

  def test_classes_of_no_label_count_too(self):
    assert collect(make_facts()).classes == (
      *(ClassCount("ant", 1), ClassCount("bee", 2), ClassCount("cat", 0)),
    )

  def test_a_class_that_was_not_known_comes_last(self):
    answers = (Answer("a", ("Zebra",), "ann"),)
    assert collect(make_facts(answers=answers)).classes[-1] == ("Zebra", 1)

  def test_people_by_their_last_answers(self):
    facts = make_facts()
    answers = (*facts.answers, Answer("d", ("ant",), "bob"))
    assert collect(dataclasses.replace(facts, answers=answers)).annotators == (
      *(Annotator("ann", 3, 0), Annotator("bob", 2, 0)),
    )

  def test_conflicts_and_agreement(self):
    found = collect(make_facts())
    assert [conflict.id for conflict in found.conflicts] == ["c"]
    assert found.agreement.num_images == 1

  def test_tells_why_each_image_was_asked_about(self):
    asked = {a.id: a for a in collect(make_facts()).asked}
    assert [*asked] == ["a", "b", "c", "d", "e", "<f>"]
    assert asked["a"].nearest == ()
    assert asked["a"].cluster_size is None
    assert asked["a"].strategy == "typiclust"
    assert asked["c"].nearest == (("a", 0.9),)
    assert asked["c"].cluster_size == 3
    assert asked["c"].score == 0.25
    assert asked["c"].labels == ("bee",)
    assert asked["c"].annotators == ("ann", "bob")
    assert asked["d"].labels is None

  def test_records_of_older_versions_tell_less(self):
    records = tuple(
      {k: v for k, v in record.items() if k in ("round", "selected", "test")}
      | {"num_labeled": 2}
      for record in make_facts().records
    )
    asked = collect(make_facts(records=records)).asked
    assert {a.cluster_size for a in asked} == {None}

  def test_nothing_has_happened_yet(self):
    found = collect(
      make_facts(queries=(), answers=(), records=(), hashes={"pool": {}})
    )
    assert found.progress == Progress(50, 0, 0, 0, 0)
    assert found.asked == ()
    assert found.label_check is None
