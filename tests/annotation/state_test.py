"""Tests of decern_jax/annotation/state.py."""

import collections
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from decern_jax.annotation import state
from decern_jax.annotation.state import Answer, LabelingState, resolve


def said(id_, annotator, *labels):
  return Answer(id_, labels, annotator)


def skipped(id_, annotator):
  return Answer(id_, None, annotator)


def naive(answers):
  """The rule, word by word, for each image by itself."""
  labels = {}
  for id_ in {answer.id for answer in answers}:
    people = {a.annotator for a in answers if a.id == id_}
    last = []
    for person in people:
      own = [
        (n, a)
        for n, a in enumerate(answers)
        if a.id == id_ and a.annotator == person
      ]
      last.append(own[-1])
    given = [(n, frozenset(a.labels)) for n, a in last if a.labels is not None]
    if given:
      votes = {s: sum(s == t for _, t in given) for _, s in given}
      most = max(votes.values())
      _, best = max((n, s) for n, s in given if votes[s] == most)
      labels[id_] = tuple(sorted(best))
  return labels


def conflicting(answers):
  """Images of which the last answers of people differ."""
  last = {(a.id, a.annotator): a.labels for a in answers}
  given = [
    (id_, frozenset(names))
    for (id_, _), names in last.items()
    if names is not None
  ]
  sets = collections.defaultdict(set)
  for id_, labels in given:
    sets[id_].add(labels)
  return {id_ for id_, found in sets.items() if len(found) > 1}


# Few images, people and labels, so that their answers meet.
SMALL_ANSWERS = st.builds(
  Answer,
  st.sampled_from("12"),
  st.sampled_from([None, (), ("a",), ("b",), ("a", "b"), ("b", "a")]),
  st.sampled_from(["", "x", "y", "z"]),
)


class TestResolve:
  def test_nothing_gives_nothing(self):
    assert resolve([]) == ({}, frozenset(), (), {})

  def test_the_last_answer_of_a_person_counts(self):
    found = resolve([said("a", "x", "cat"), said("a", "x", "dog")])
    assert found.labels == {"a": ("dog",)}
    assert found.conflicts == ()
    assert found.num_annotators == {"a": 1}

  def test_answers_without_a_name_are_those_of_one_person(self):
    found = resolve([said("a", "", "cat"), said("a", "", "dog")])
    assert found.num_annotators == {"a": 1}

  def test_most_people_are_right(self):
    answers = [
      said("a", "x", "cat"),
      said("a", "y", "cat"),
      said("a", "z", "dog"),
    ]
    for order in itertools.permutations(answers):
      found = resolve(order)
      assert found.labels == {"a": ("cat",)}
      (conflict,) = found.conflicts
      assert conflict == ("a", order, ("cat",))

  def test_of_as_many_the_last_are_right(self):
    answers = [said("a", "x", "cat"), said("a", "y", "dog")]
    assert resolve(answers).labels == {"a": ("dog",)}
    assert resolve(answers[::-1]).labels == {"a": ("cat",)}

  def test_a_changed_answer_takes_the_later_place(self):
    answers = [
      said("a", "x", "cat"),
      said("a", "y", "dog"),
      said("a", "x", "cat"),
    ]
    found = resolve(answers)
    assert found.labels == {"a": ("cat",)}
    assert [a.annotator for a in found.conflicts[0].said] == ["y", "x"]

  def test_who_skips_says_nothing(self):
    found = resolve([said("a", "x", "cat"), skipped("a", "y")])
    assert found.labels == {"a": ("cat",)}
    assert found.skipped == frozenset()
    assert found.conflicts == ()
    assert found.num_annotators == {"a": 1}

  def test_who_skips_afterwards_takes_the_answer_back(self):
    found = resolve([said("a", "x", "cat"), skipped("a", "x")])
    assert found.labels == {}
    assert found.skipped == {"a"}

  def test_who_answers_after_skipping_has_answered(self):
    found = resolve([skipped("a", "x"), said("a", "x", "cat")])
    assert found.labels == {"a": ("cat",)}
    assert found.skipped == frozenset()

  def test_none_of_the_labels_is_an_answer(self):
    found = resolve([said("a", "x"), said("b", "x", "cat")])
    assert found.labels == {"a": (), "b": ("cat",)}

  def test_the_order_of_labels_is_no_conflict(self):
    answers = [said("a", "x", "cat", "dog"), said("a", "y", "dog", "cat")]
    found = resolve(answers)
    assert found.labels == {"a": ("cat", "dog")}
    assert found.conflicts == ()

  def test_other_sets_of_labels_are_a_conflict(self):
    answers = [said("a", "x", "cat", "dog"), said("a", "y", "dog")]
    (conflict,) = resolve(answers).conflicts
    assert conflict.labels == ("dog",)

  def test_takes_an_iterator(self):
    answers = (said(id_, "x", "cat") for id_ in "ab")
    assert resolve(answers).labels == {"a": ("cat",), "b": ("cat",)}

  @settings(max_examples=100, deadline=None, derandomize=True)
  @given(st.lists(SMALL_ANSWERS, max_size=30))
  def test_matches_naive_rule(self, answers):
    found = resolve(answers)
    assert found.labels == naive(answers)
    assert found.skipped == {a.id for a in answers} - set(found.labels)
    assert {c.id for c in found.conflicts} == conflicting(answers)

  def test_images_do_not_depend_on_each_other(self):
    answers = [
      said(id_, person, label)
      for person, label in (("x", "cat"), ("y", "dog"), ("z", "dog"))
      for id_ in "abc"
    ]
    all_ = resolve(answers)
    for id_ in "abc":
      alone = resolve([a for a in answers if a.id == id_])
      assert alone.labels[id_] == all_.labels[id_]


class TestNameClasses:
  def test_known_ones_keep_their_places(self):
    names = state.name_classes(
      ("zebra", "pear"), {"b": ("pear",), "a": ("fig", "apple"), "c": ()}
    )
    assert names == ("zebra", "pear", "apple", "fig")

  def test_needs_no_label(self):
    assert state.name_classes(("x",), {}) == ("x",)


IDS = "1234"


def naive_progress(state, round_num):
  """The rule of a query, from the answers before it and after it."""
  query = state.asked[round_num]
  labeled = set(query.ids) & set(resolve(state.answers).labels)
  later = resolve(state.answers[query.num_answers :])
  skipped = set(query.ids) & later.skipped - labeled
  return len(query.ids), len(labeled), len(skipped)


class TestLabelingState:
  @settings(max_examples=100, deadline=None, derandomize=True)
  @given(
    st.lists(
      SMALL_ANSWERS | st.sets(st.sampled_from(IDS), min_size=1).map(sorted),
      max_size=20,
    )
  )
  def test_counts_and_waits_as_the_rule_says(self, events):
    found = LabelingState()
    for event in events:
      if isinstance(event, Answer):
        found.answer(event)
      else:
        found.ask(event)
    waiting = set()
    for round_num, query in enumerate(found.asked):
      progress = found.measure_progress(round_num)
      assert progress == naive_progress(found, round_num)
      later = {a.id for a in found.answers[query.num_answers :]}
      waiting -= set(query.ids)
      waiting |= set(query.ids) - later
    assert set(found.pending) == waiting - set(found.labels)
    again = LabelingState(found.asked, found.answers)
    assert again.pending == found.pending
    assert again.resolution == found.resolution

  def test_takes_an_answer_once_and_a_changed_one_again(self):
    found = LabelingState()
    cat, dog = said("a", "x", "cat"), said("a", "x", "dog")
    taken = [found.answer(a) for a in (cat, cat, dog, dog, cat)]
    assert taken == [True, False, True, False, True]
    assert found.answers == [cat, dog, cat]
    assert found.labels == {"a": ("cat",)}
    assert found.answer(skipped("a", "x"))
    assert not found.answer(skipped("a", "x"))
    assert found.labels == {}

  def test_trains_on_a_label_and_two_classes(self):
    found = LabelingState()
    assert not found.can_train(("cat", "dog"))
    found.answer(said("a", "x", "cat"))
    assert not found.can_train(("cat",))
    assert found.can_train(("cat", "dog"))
