"""Tests of decern_jax/annotation/studio/project.py."""

import dataclasses
from typing import Any
from xml.etree import ElementTree

import pytest

from decern_jax.annotation.formats import label_studio
from decern_jax.annotation.query import Item
from decern_jax.annotation.studio import client as client_lib
from decern_jax.annotation.studio import project, transfer
from decern_jax.annotation.studio.client import TransientError
from tests.annotation.studio.fake import URL, FakeClient, lost, make_query
from tests.table import each


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
  monkeypatch.setattr(client_lib.time, "sleep", lambda seconds: None)


@pytest.fixture
def client():
  return FakeClient()


def classes_of(config: str) -> list[str | None]:
  return [c.get("value") for c in ElementTree.fromstring(config).iter("Choice")]


class TestCreateLink:
  def test_marks_differ(self):
    assert project.create_link(URL).mark != project.create_link(URL).mark

  def test_project_is_not_known(self):
    assert project.create_link(URL).project is None


class TestReadLink:
  def test_run_without_one(self, tmp_path):
    assert project.read_link(tmp_path) is None

  @each("number", [None, 7])
  def test_returns_what_was_written(self, tmp_path, number):
    written = dataclasses.replace(project.create_link(URL), project=number)
    project.write_link(tmp_path, written)
    assert project.read_link(tmp_path) == written

  @each(
    "content",
    [
      "",
      "{",
      "[]",
      "{}",
      '{"url": "u", "mark": "m", "project": "7"}',
      '{"url": "u", "mark": "m", "project": true}',
      '{"url": 1, "mark": "m"}',
      '{"url": "u", "mark": ""}',
      '{"url": "u", "mark": "m", "key": "k"}',
      "[" * 100_000,
    ],
  )
  def test_rejects_what_is_none(self, tmp_path, content):
    (tmp_path / project.LINK_FILE).write_text(content)
    with pytest.raises(ValueError, match="the url, mark and project of a run"):
      project.read_link(tmp_path)


class TestFindOrCreate:
  def test_makes_a_project_with_the_classes(self, client, tmp_path):
    made = project.find_or_create(client, tmp_path, make_query())
    assert [made] == client.all
    assert made.config == label_studio.labeling_config(make_query())

  def test_remembers_it(self, client, tmp_path):
    made = project.find_or_create(client, tmp_path, make_query())
    assert project.find_or_create(client, tmp_path, make_query()) == made
    kept = project.read_link(tmp_path)
    assert kept
    assert (kept.url, kept.project) == (URL, made.number)
    assert client.calls.count("create_project") == 1

  @each("before", ["work", None])
  def test_lost_answer_makes_no_second_one(self, tmp_path, before):
    client = FakeClient()
    client.failures["create_project"] = [(lost(), before)]
    project.find_or_create(client, tmp_path, make_query())
    assert len(client.all) == 1

  def test_kill_before_it_is_remembered_makes_no_second_one(
    self, client, tmp_path, monkeypatch
  ):
    def killed(workdir, kept):
      if kept.project is not None:
        raise KeyboardInterrupt
      write(workdir, kept)

    write = project.write_link
    monkeypatch.setattr(project, "write_link", killed)
    with pytest.raises(KeyboardInterrupt):
      project.find_or_create(client, tmp_path, make_query())
    monkeypatch.setattr(project, "write_link", write)
    found = project.find_or_create(client, tmp_path, make_query())
    assert [found] == client.all

  def test_other_runs_have_their_own(self, client, tmp_path):
    first = project.find_or_create(client, tmp_path / "..", make_query())
    (tmp_path / "b").mkdir()
    second = project.find_or_create(client, tmp_path / "b", make_query())
    (tmp_path / ".." / project.LINK_FILE).unlink()
    assert first.number != second.number

  @each("name", ["x" * 100, "x", "not text \udcff"])
  def test_any_name_of_a_run_is_taken(self, tmp_path, name):
    client = FakeClient()
    folder = tmp_path / name
    folder.mkdir()
    project.find_or_create(client, folder, make_query())
    assert len(client.all) == 1

  def test_rejects_one_that_is_gone(self, client, tmp_path):
    project.find_or_create(client, tmp_path, make_query())
    client.all.clear()
    with pytest.raises(ValueError, match=f"project 7 of {URL}, .* got none"):
      project.find_or_create(client, tmp_path, make_query())

  def test_rejects_another_server(self, client, tmp_path):
    project.find_or_create(client, tmp_path, make_query())
    client.url = "http://other:1"
    with pytest.raises(ValueError, match=f"`url` {URL}, .*got http://other:1"):
      project.find_or_create(client, tmp_path, make_query())

  def test_rejects_query_without_classes(self, client, tmp_path):
    with pytest.raises(ValueError, match="names of classes .* got none"):
      project.find_or_create(client, tmp_path, make_query(class_names=()))
    assert client.all == []


class TestFind:
  def test_finds_it(self, client, tmp_path):
    made = project.find_or_create(client, tmp_path, make_query())
    assert project.find(client, tmp_path) == made

  def test_rejects_run_that_has_none(self, client, tmp_path):
    with pytest.raises(ValueError, match="got none: push its query first"):
      project.find(client, tmp_path)
    project.write_link(tmp_path, project.create_link(URL))
    with pytest.raises(ValueError, match="got none: push its query first"):
      project.find(client, tmp_path)


class TestAddClasses:
  def test_adds_what_is_new(self, client, tmp_path):
    made = project.find_or_create(client, tmp_path, make_query())
    project.add_classes(client, made, make_query(class_names=("okapi", "cat")))
    (changed,) = client.all
    assert classes_of(changed.config) == [
      "cat",
      'dog & "wolf"',
      "zebra",
      "okapi",
    ]

  def test_nothing_new_changes_nothing(self, client, tmp_path):
    made = project.find_or_create(client, tmp_path, make_query())
    project.add_classes(client, made, make_query(class_names=("cat",)))
    assert "set_config" not in client.calls

  def test_is_done_in_spite_of_a_lost_connection(self, client, tmp_path):
    made = project.find_or_create(client, tmp_path, make_query())
    client.failures["set_config"] = [(lost(), None), (lost(), "work")]
    project.add_classes(client, made, make_query(class_names=("okapi",)))
    assert classes_of(client.all[0].config)[3:] == ["okapi"]


class TestWithClasses:
  def test_keeps_what_people_have_changed(self):
    config = (
      "<View><!-- ours --><Header value='A &amp; B'/>"
      "<Choices name='other' toName='image'><Choice value='okapi'/></Choices>"
      "<Image name='image' value='$image'/>"
      "<Choices name='label' toName='image' layout='inline'>"
      "<Choice value='cat' hotkey='c'/></Choices></View>"
    )
    changed = project.with_classes(config, make_query(class_names=("okapi",)))
    root: Any = ElementTree.fromstring(changed)
    assert "<!-- ours -->" in changed
    assert root.find("Header").get("value") == "A & B"
    assert root.find(".//Choice[@value='cat']").get("hotkey") == "c"
    label = root.find("Choices[@name='label']")
    assert label.get("layout") == "inline"
    assert [c.get("value") for c in label] == ["cat", "okapi"]

  @each(
    "config", ["", "no XML", "<View/>", '<View><Choices name="other"/></View>']
  )
  def test_rejects_one_without_our_choices(self, config):
    with pytest.raises(ValueError, match="choices by the name 'label'"):
      project.with_classes(config, make_query())


class TestShowPredictions:
  def test_shows_those_of_the_last_round(self, client, tmp_path):
    for round_num in (3, 4, 4):
      asked = make_query(round_num=round_num)
      found = project.find_or_create(client, tmp_path, asked)
      transfer.push(client, found, asked)
      project.show_predictions(client, found, asked)
      (changed,) = client.all
      assert changed.model_version == f"decern_jax, round {round_num}"
    assert client.calls.count("set_model_version") == 2

  def test_round_without_predictions_changes_nothing(self, client, tmp_path):
    items = tuple(i._replace(predictions=()) for i in make_query().items)
    asked = make_query(items=items)
    found = project.find_or_create(client, tmp_path, asked)
    project.show_predictions(client, found, asked)
    assert "set_model_version" not in client.calls


class TestShowFolders:
  @pytest.fixture
  def found(self, client, tmp_path):
    return project.find_or_create(client, tmp_path, make_query())

  def test_shows_the_folder_of_all_images_once(self, client, found):
    for _ in range(2):
      project.show_folders(client, found, make_query().items)
    assert client.shown[found.number] == ["/images"]

  def test_path_may_be_elsewhere_than_its_id_says(self, client, found):
    items = (Item("x", "/a/b/1.jpg"), Item("y/1.jpg", "/c/y/1.jpg"))
    project.show_folders(client, found, items)
    assert client.shown[found.number] == ["/a/b", "/c"]

  def test_images_in_a_store_have_none(self, client, found):
    project.show_folders(client, found, (Item("1.jpg", "gs://b/1.jpg"),))
    assert client.shown[found.number] == []

  def test_lost_answer_adds_no_second_one(self, client, found):
    client.failures["add_folder"] = [(lost(), "work")]
    project.show_folders(client, found, make_query().items)
    assert client.shown[found.number] == ["/images"]

  def test_server_that_stays_away_is_an_error(self, client, found):
    client.failures["folders"] = [(lost(), None)] * 99
    with pytest.raises(TransientError):
      project.show_folders(client, found, make_query().items)
