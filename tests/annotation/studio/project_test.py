"""Tests of decern_jax/annotation/studio/project.py."""

from xml.etree import ElementTree

import pytest

from decern_jax.annotation.formats import label_studio
from decern_jax.annotation.query import Item
from decern_jax.annotation.studio import patience, project, record, transfer
from decern_jax.annotation.studio.patience import LostError
from tests.annotation.studio.fake import URL, FakeServer, lost, make_query
from tests.table import each


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
  monkeypatch.setattr(patience.time, "sleep", lambda seconds: None)


@pytest.fixture
def server():
  return FakeServer()


def classes_of(config: str) -> list[str]:
  return [c.get("value") for c in ElementTree.fromstring(config).iter("Choice")]


class TestFindOrCreate:
  def test_makes_a_project_with_the_classes(self, server, tmp_path):
    made = project.find_or_create(server, tmp_path, make_query())
    assert [made] == server.all
    assert made.config == label_studio.labeling_config(make_query())

  def test_remembers_it(self, server, tmp_path):
    made = project.find_or_create(server, tmp_path, make_query())
    assert project.find_or_create(server, tmp_path, make_query()) == made
    kept = record.read(tmp_path)
    assert (kept.url, kept.project) == (URL, made.number)
    assert server.calls.count("create_project") == 1

  @each("before", ["work", None])
  def test_lost_answer_makes_no_second_one(self, server, tmp_path, before):
    server.failures["create_project"] = [(lost(), before)]
    project.find_or_create(server, tmp_path, make_query())
    assert len(server.all) == 1

  def test_kill_before_it_is_remembered_makes_no_second_one(
    self, server, tmp_path, monkeypatch
  ):
    def killed(workdir, kept):
      if kept.project is not None:
        raise KeyboardInterrupt
      write(workdir, kept)

    write = record.write
    monkeypatch.setattr(record, "write", killed)
    with pytest.raises(KeyboardInterrupt):
      project.find_or_create(server, tmp_path, make_query())
    monkeypatch.setattr(record, "write", write)
    found = project.find_or_create(server, tmp_path, make_query())
    assert [found] == server.all

  def test_other_runs_have_their_own(self, server, tmp_path):
    first = project.find_or_create(server, tmp_path / "..", make_query())
    (tmp_path / "b").mkdir()
    second = project.find_or_create(server, tmp_path / "b", make_query())
    (tmp_path / ".." / record.FILE_NAME).unlink()
    assert first.number != second.number

  @each("name", ["x" * 100, "x", "not text \udcff"])
  def test_any_name_of_a_run_is_taken(self, server, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    project.find_or_create(server, folder, make_query())
    assert len(server.all) == 1

  def test_rejects_one_that_is_gone(self, server, tmp_path):
    project.find_or_create(server, tmp_path, make_query())
    server.all.clear()
    with pytest.raises(ValueError, match=f"project 7 of {URL}, .* got none"):
      project.find_or_create(server, tmp_path, make_query())

  def test_rejects_another_server(self, server, tmp_path):
    project.find_or_create(server, tmp_path, make_query())
    server.url = "http://other:1"
    with pytest.raises(ValueError, match=f"`url` {URL}, .*got http://other:1"):
      project.find_or_create(server, tmp_path, make_query())

  def test_rejects_query_without_classes(self, server, tmp_path):
    with pytest.raises(ValueError, match="names of classes .* got none"):
      project.find_or_create(server, tmp_path, make_query(class_names=()))
    assert server.all == []


class TestFind:
  def test_finds_it(self, server, tmp_path):
    made = project.find_or_create(server, tmp_path, make_query())
    assert project.find(server, tmp_path) == made

  def test_rejects_run_that_has_none(self, server, tmp_path):
    with pytest.raises(ValueError, match="got none: push its query first"):
      project.find(server, tmp_path)
    record.write(tmp_path, record.make(URL))
    with pytest.raises(ValueError, match="got none: push its query first"):
      project.find(server, tmp_path)


class TestAddClasses:
  def test_adds_what_is_new(self, server, tmp_path):
    made = project.find_or_create(server, tmp_path, make_query())
    project.add_classes(server, made, make_query(class_names=("okapi", "cat")))
    (changed,) = server.all
    assert classes_of(changed.config) == [
      "cat",
      'dog & "wolf"',
      "zebra",
      "okapi",
    ]

  def test_nothing_new_changes_nothing(self, server, tmp_path):
    made = project.find_or_create(server, tmp_path, make_query())
    project.add_classes(server, made, make_query(class_names=("cat",)))
    assert "configure" not in server.calls

  def test_is_done_in_spite_of_a_lost_connection(self, server, tmp_path):
    made = project.find_or_create(server, tmp_path, make_query())
    server.failures["configure"] = [(lost(), None), (lost(), "work")]
    project.add_classes(server, made, make_query(class_names=("okapi",)))
    assert classes_of(server.all[0].config)[3:] == ["okapi"]


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
    root = ElementTree.fromstring(changed)
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
  def test_shows_those_of_the_last_round(self, server, tmp_path):
    for round_num in (3, 4, 4):
      asked = make_query(round_num=round_num)
      found = project.find_or_create(server, tmp_path, asked)
      transfer.push(server, found, asked)
      project.show_predictions(server, found, asked)
      (changed,) = server.all
      assert changed.model_version == f"decern_jax, round {round_num}"
    assert server.calls.count("show_model") == 2

  def test_round_without_predictions_changes_nothing(self, server, tmp_path):
    items = tuple(i._replace(predictions=()) for i in make_query().items)
    asked = make_query(items=items)
    found = project.find_or_create(server, tmp_path, asked)
    project.show_predictions(server, found, asked)
    assert "show_model" not in server.calls


class TestShowFolders:
  @pytest.fixture
  def found(self, server, tmp_path):
    return project.find_or_create(server, tmp_path, make_query())

  def test_shows_the_folder_of_all_images_once(self, server, found):
    for _ in range(2):
      project.show_folders(server, found, make_query().items)
    assert server.shown[found.number] == ["/images"]

  def test_path_may_be_elsewhere_than_its_id_says(self, server, found):
    items = (Item("x", "/a/b/1.jpg"), Item("y/1.jpg", "/c/y/1.jpg"))
    project.show_folders(server, found, items)
    assert server.shown[found.number] == ["/a/b", "/c"]

  def test_images_in_a_store_have_none(self, server, found):
    project.show_folders(server, found, (Item("1.jpg", "gs://b/1.jpg"),))
    assert server.shown[found.number] == []

  def test_lost_answer_adds_no_second_one(self, server, found):
    server.failures["add_folder"] = [(lost(), "work")]
    project.show_folders(server, found, make_query().items)
    assert server.shown[found.number] == ["/images"]

  def test_server_that_stays_away_is_an_error(self, server, found):
    server.failures["folders"] = [(lost(), None)] * 99
    with pytest.raises(LostError):
      project.show_folders(server, found, make_query().items)
