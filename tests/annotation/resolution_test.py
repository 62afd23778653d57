"""Tests of decern_jax/annotation/resolution.py."""

import itertools

import numpy as np

from decern_jax.annotation import resolution
from decern_jax.annotation.answer import Answer
from tests.table import each


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


class TestResolve:
  def test_nothing_gives_nothing(self):
    assert resolution.resolve([]) == ({}, frozenset(), (), {})

  def test_the_last_answer_of_a_person_counts(self):
    found = resolution.resolve([said("a", "x", "cat"), said("a", "x", "dog")])
    assert found.labels == {"a": ("dog",)}
    assert found.conflicts == ()
    assert found.num_annotators == {"a": 1}

  def test_answers_without_a_name_are_those_of_one_person(self):
    found = resolution.resolve([said("a", "", "cat"), said("a", "", "dog")])
    assert found.num_annotators == {"a": 1}

  def test_most_people_are_right(self):
    answers = [
      said("a", "x", "cat"),
      said("a", "y", "cat"),
      said("a", "z", "dog"),
    ]
    for order in itertools.permutations(answers):
      found = resolution.resolve(order)
      assert found.labels == {"a": ("cat",)}
      (conflict,) = found.conflicts
      assert conflict == ("a", order, ("cat",))

  def test_of_as_many_the_last_are_right(self):
    answers = [said("a", "x", "cat"), said("a", "y", "dog")]
    assert resolution.resolve(answers).labels == {"a": ("dog",)}
    assert resolution.resolve(answers[::-1]).labels == {"a": ("cat",)}

  def test_a_changed_answer_takes_the_later_place(self):
    answers = [
      said("a", "x", "cat"),
      said("a", "y", "dog"),
      said("a", "x", "cat"),
    ]
    found = resolution.resolve(answers)
    assert found.labels == {"a": ("cat",)}
    assert [a.annotator for a in found.conflicts[0].said] == ["y", "x"]

  def test_who_skips_says_nothing(self):
    found = resolution.resolve([said("a", "x", "cat"), skipped("a", "y")])
    assert found.labels == {"a": ("cat",)}
    assert found.skipped == frozenset()
    assert found.conflicts == ()
    assert found.num_annotators == {"a": 1}

  def test_who_skips_afterwards_takes_the_answer_back(self):
    found = resolution.resolve([said("a", "x", "cat"), skipped("a", "x")])
    assert found.labels == {}
    assert found.skipped == {"a"}

  def test_who_answers_after_skipping_has_answered(self):
    found = resolution.resolve([skipped("a", "x"), said("a", "x", "cat")])
    assert found.labels == {"a": ("cat",)}
    assert found.skipped == frozenset()

  def test_none_of_the_labels_is_an_answer(self):
    found = resolution.resolve([said("a", "x"), said("b", "x", "cat")])
    assert found.labels == {"a": (), "b": ("cat",)}

  def test_the_order_of_labels_is_no_conflict(self):
    answers = [said("a", "x", "cat", "dog"), said("a", "y", "dog", "cat")]
    found = resolution.resolve(answers)
    assert found.labels == {"a": ("cat", "dog")}
    assert found.conflicts == ()

  def test_other_sets_of_labels_are_a_conflict(self):
    answers = [said("a", "x", "cat", "dog"), said("a", "y", "dog")]
    (conflict,) = resolution.resolve(answers).conflicts
    assert conflict.labels == ("dog",)

  def test_takes_an_iterator(self):
    answers = (said(id_, "x", "cat") for id_ in "ab")
    assert resolution.resolve(answers).labels == {"a": ("cat",), "b": ("cat",)}

  @each("seed", range(20))
  def test_matches_naive_rule(self, seed):
    random = np.random.default_rng(seed)
    answers = []
    for _ in range(60):
      labels = tuple(sorted({*random.choice(["a", "b"], size=2)}))
      answers.append(
        Answer(
          str(random.integers(4)),
          None if random.random() < 0.2 else labels[: random.integers(3)],
          str(random.integers(4)),
        )
      )
    found = resolution.resolve(answers)
    assert found.labels == naive(answers)
    assert found.skipped == {a.id for a in answers} - set(found.labels)

  def test_images_do_not_depend_on_each_other(self):
    answers = [
      said(id_, person, label)
      for person, label in (("x", "cat"), ("y", "dog"), ("z", "dog"))
      for id_ in "abc"
    ]
    all_ = resolution.resolve(answers)
    for id_ in "abc":
      alone = resolution.resolve([a for a in answers if a.id == id_])
      assert alone.labels[id_] == all_.labels[id_]
