"""Tests of decern_jax/annotation/answers.py."""

import collections
import itertools
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from decern_jax.annotation import answers
from decern_jax.annotation.answers import Answer, RoundLabels, resolve
from tests.table import each

GIVEN = Answer("a b/ü\n\"'.jpg", ("cat", "dög"), "mira", "2026-11-21", "x.csv")

ANSWERS = (
  GIVEN,
  Answer("a", ()),
  Answer("a", None),
  Answer("\udcff\udc80.jpg", ("猫",)),
  Answer(" ", ("cat",)),
  Answer("line\r\nbreak\u2028", ("a,b;c",), "\udcfe"),
)


TEXT = st.text(st.characters())
CLASS_NAMES = st.text(st.characters(exclude_categories=["Cs"])).map(str.strip)
ANY_ANSWERS = st.builds(
  Answer,
  st.text(st.characters(), min_size=1),
  st.none() | st.lists(CLASS_NAMES.filter(bool), unique=True).map(tuple),
  TEXT,
  TEXT,
  TEXT,
)


class TestToLine:
  @settings(max_examples=60, deadline=None, derandomize=True)
  @given(ANY_ANSWERS)
  @example(ANSWERS[0])
  @example(ANSWERS[1])
  @example(ANSWERS[2])
  @example(ANSWERS[3])
  @example(ANSWERS[4])
  @example(ANSWERS[5])
  def test_is_one_line_of_ascii_that_is_read_back(self, answer):
    line = answers.to_line(answer)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert answers.parse_lines(line) == ((answer,), ())


class TestFromJson:
  def test_what_is_left_out_is_empty(self):
    found = answers.from_json({"id": "a", "labels": ["cat"]})
    assert found == Answer("a", ("cat",), "", "", "")

  def test_null_is_a_skipped_image_and_an_empty_list_none_of_the_labels(self):
    assert answers.from_json({"id": "a", "labels": None}).labels is None
    assert answers.from_json({"id": "a", "labels": []}).labels == ()

  def test_labels_are_stripped_and_given_once_in_their_order(self):
    found = answers.from_json({"id": "a", "labels": [" b ", "a", "b"]})
    assert found.labels == ("b", "a")

  def test_ids_are_left_as_they_are(self):
    assert answers.from_json({"id": " a ", "labels": []}).id == " a "

  @each(
    "value, shown",
    [
      ([], "object"),
      ("a", "object"),
      (None, "object"),
      ({"labels": ["cat"]}, "id"),
      ({"id": "", "labels": ["cat"]}, "id"),
      ({"id": 3, "labels": ["cat"]}, "id"),
      ({"id": "a", "labels": ["cat"], "annotator": 1}, "annotator"),
      ({"id": "a", "labels": ["cat"], "time": None}, "time"),
      ({"id": "a", "labels": ["cat"], "source": ["x"]}, "source"),
      ({"id": "a", "labels": ["cat"], "label": "cat"}, r"\['label'\]"),
      ({"id": "a"}, "labels"),
      ({"id": "a", "labels": "cat"}, "'cat'"),
      ({"id": "a", "labels": ["cat", 3]}, "3"),
      ({"id": "a", "labels": [["cat"]]}, "cat"),
      ({"id": "a", "labels": [" "]}, "labels"),
      ({"id": "a", "labels": {"cat": 1}}, "cat"),
    ],
  )
  def test_refuses_what_is_no_answer(self, value, shown):
    with pytest.raises(ValueError, match=shown):
      answers.from_json(value)

  def test_refuses_names_of_classes_that_are_no_text(self):
    with pytest.raises(ValueError, match="labels"):
      answers.from_json({"id": "a", "labels": ["\udcff"]})

  def test_shows_little_of_what_is_large(self):
    with pytest.raises(ValueError, match="labels") as caught:
      answers.from_json({"id": "a", "labels": "x" * 10_000})
    assert len(str(caught.value)) < 500


class TestParseLines:
  def test_keeps_the_order(self):
    content = b"".join(map(answers.to_line, ANSWERS))
    assert answers.parse_lines(content) == (ANSWERS, ())

  def test_takes_lines_of_windows_and_empty_ones(self):
    lines = [answers.to_line(given).strip() for given in ANSWERS]
    assert answers.parse_lines(b"\r\n \r\n".join(lines)).answers == ANSWERS

  def test_nothing_holds_nothing(self):
    assert answers.parse_lines(b"") == ((), ())

  @each(
    "line",
    [
      b"{",
      b"\xff\xfe",
      b"[" * 100_000,
      b'{"id": "a", "labels": ' + b"[" * 400 + b"]" * 400 + b"}",
      b"9" * 10_000,
      b'{"id": 1e999, "labels": []}',
      b"NaN",
      b"\0",
    ],
  )
  def test_a_line_that_is_none_costs_that_line_alone(self, line):
    good = answers.to_line(GIVEN)
    found = answers.parse_lines(good + line + b"\n" + good)
    assert found.answers == (GIVEN, GIVEN)
    (problem,) = found.problems
    assert problem.startswith("line 2: ")

  def test_a_line_that_a_kill_cut_off_is_a_problem_at_every_byte(self):
    first, last = answers.to_line(GIVEN), answers.to_line(ANSWERS[1])
    for length in range(1, len(last) - 1):
      found = answers.parse_lines(first + last[:length])
      assert found.answers == (GIVEN,)
      assert len(found.problems) == 1


class TestReadLog:
  def test_one_that_is_not_there_is_empty(self, tmp_path):
    assert answers.read_log(tmp_path / "labels" / "none.jsonl") == ((), ())

  def test_refuses_a_folder(self, tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
      answers.read_log(tmp_path)


class TestAppendLog:
  def test_is_read_back_in_order(self, tmp_path):
    answers.append_log(tmp_path / "log", [*ANSWERS[:2]])
    answers.append_log(tmp_path / "log", [*ANSWERS[2:]])
    assert answers.read_log(tmp_path / "log") == (ANSWERS, ())

  def test_writes_nothing_where_there_is_nothing(self, tmp_path):
    answers.append_log(tmp_path / "log", [])
    assert not (tmp_path / "log").exists()

  def test_never_changes_what_is_there(self, tmp_path):
    random = np.random.default_rng(0)
    log, before = tmp_path / "log", b""
    for answer in ANSWERS:
      answers.append_log(log, [answer])
      content = log.read_bytes()
      assert content.startswith(before)
      # A kill in the middle of writing.
      before = content + answers.to_line(answer)[: random.integers(0, 20)]
      log.write_bytes(before)
    assert answers.read_log(log).answers == ANSWERS

  def test_each_line_is_an_object_for_other_programs(self, tmp_path):
    answers.append_log(tmp_path / "log", [GIVEN])
    assert json.loads((tmp_path / "log").read_text()) == {
      "id": GIVEN.id,
      "labels": ["cat", "dög"],
      "annotator": "mira",
      "time": "2026-11-21",
      "source": "x.csv",
    }


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


LABELS = {"b.png": ("pear",), "a\udce4.png": ("fig", "apple"), "c.png": ()}


class TestNameClasses:
  def test_known_ones_keep_their_places(self):
    names = answers.name_classes(("zebra", "pear"), LABELS)
    assert names == ("zebra", "pear", "apple", "fig")

  def test_needs_no_label(self):
    assert answers.name_classes(("x",), {}) == ("x",)


class TestFreezeRound:
  def test_is_what_it_was_at_first(self, tmp_path):
    first = RoundLabels(("pear", "fig", "apple"), LABELS)
    assert answers.read_round(tmp_path, 3) is None
    assert answers.freeze_round(tmp_path, 3, first) == first
    assert answers.freeze_round(tmp_path, 3, RoundLabels((), {})) == first
    assert answers.read_round(tmp_path, 3) == first
    assert answers.read_round(tmp_path, 4) is None

  @each("content", ["", "[]", '{"labels": 3}', "{"])
  def test_refuses_what_it_did_not_write(self, tmp_path, content):
    answers.freeze_round(tmp_path, 0, RoundLabels((), {}))
    (file,) = (tmp_path / "labels").iterdir()
    file.write_text(content)
    with pytest.raises(ValueError, match="Expected labels in .*0000"):
      answers.read_round(tmp_path, 0)
