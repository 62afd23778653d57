"""Tests of decern_jax/annotation/query.py."""

import json

from etils import epath
import pytest

from decern_jax.annotation import query
from decern_jax.annotation.query import Item, Query
from tests.io import fake_store
from tests.table import each

ASKED = Query(
  3,
  ("cat", "dög", "?;,"),
  True,
  (
    Item("a/1.jpg", "/images/a/1.jpg", 0.1, (("dög", 0.75), ("cat", 0.25))),
    Item("line\nbreak \udcff", "gs://bucket/line\nbreak \udcff", digest="0f"),
  ),
  "decern",
  17,
)


@pytest.fixture(params=["disk", "store"])
def workdir(request, tmp_path):
  if request.param == "disk":
    yield epath.Path(tmp_path / "run")
  else:
    with fake_store.installed():
      yield epath.Path("gs://bucket/run")


def corrupt(workdir, change):
  """Changes the file of round 3 as a function says."""
  path = query.write(workdir, ASKED)
  value = json.loads(path.read_text())
  path.write_text(json.dumps(change(value)))


class TestFolderOf:
  def test_sorts_by_name_as_by_number(self, tmp_path):
    names = [query.folder_of(tmp_path, n).name for n in (0, 9, 10, 9999)]
    assert names == sorted(names)
    assert names[1] == "0009"


class TestWrite:
  def test_returns_the_file_in_the_folder_of_the_round(self, workdir):
    path = query.write(workdir, ASKED)
    assert path.exists()
    assert path.parent == query.folder_of(workdir, 3)

  def test_replaces_the_query_of_a_round_that_is_done_again(self, workdir):
    query.write(workdir, ASKED)
    query.write(workdir, ASKED._replace(items=()))
    assert query.read(workdir, 3).items == ()

  def test_is_json_for_other_programs(self, tmp_path):
    value = json.loads(query.write(tmp_path, ASKED).read_text())
    assert value["items"][0]["predictions"] == [["dög", 0.75], ["cat", 0.25]]
    assert value["round"] == 3


class TestRead:
  @each("asked", [ASKED, Query(3, (), False, ()), ASKED._replace(strategy="")])
  def test_returns_what_was_written(self, workdir, asked):
    query.write(workdir, asked)
    assert query.read(workdir, 3) == asked

  def test_refuses_a_round_that_has_not_asked(self, workdir):
    with pytest.raises(ValueError, match=r"0003.*no such file"):
      query.read(workdir, 3)

  @each(
    "content",
    [b"", b"{", b"[]", b"3", b'"text"', b"null", b"\xff", b"[" * 100_000]
    + [b"{}", b'{"items": 3}', b'{"items": [3], "class_names": []}'],
  )
  def test_refuses_another_file(self, tmp_path, content):
    query.write(tmp_path, ASKED).write_bytes(content)
    with pytest.raises(ValueError, match=r"query\.json"):
      query.read(tmp_path, 3)

  @each(
    "field, values",
    [
      ("id", [3, True, None, []]),
      ("path", [3, True, None, []]),
      ("digest", [3, True, None, []]),
      ("score", ["0.5", True, []]),
      ("predictions", [3, None, [["cat", True]], [[None, 0.5]], ["cat"]]),
    ],
  )
  def test_refuses_an_item_with_a_field_of_another_type(
    self, tmp_path, field, values
  ):
    for value in values:

      def change(content, value=value):
        content["items"][0][field] = value
        return content

      corrupt(tmp_path, change)
      with pytest.raises(ValueError, match=r"query\.json"):
        query.read(tmp_path, 3)

  @each(
    "change",
    [
      {"round": "3"},
      {"round": True},
      {"round": 4},
      {"round": 3.0},
      {"num_answers": "17"},
      {"num_answers": 17.0},
      {"num_answers": True},
      {"num_answers": None},
      {"class_names": ["cat", None]},
      {"is_multi_label": 1},
      {"is_multi_label": None},
      {"strategy": None},
      {"class_names": "cat"},
      {"class_names": [1]},
      {"class_names": None},
      {"is_multi_label": "yes"},
      {"items": {"id": "a"}},
      {"items": [["a", "b"]]},
      {"items": [{"id": "a"}]},
      {"items": [{"id": 1, "path": "b", "predictions": []}]},
      {"items": [{"id": "a", "path": 1, "predictions": []}]},
      {"items": [{"id": "a", "path": "b", "predictions": [["cat"]]}]},
      {"items": [{"id": "a", "path": "b", "predictions": [["cat", "x"]]}]},
      {"items": [{"id": "a", "path": "b", "predictions": [["cat", None]]}]},
      {"items": [{"id": "a", "path": "b", "predictions": [[1, 0.5]]}]},
      {"items": [{"id": "a", "path": "b", "predictions": [], "score": "x"}]},
      {"items": [{"id": "a", "path": "b", "predictions": [], "other": 1}]},
      {"strategy": 3},
      {"other": 3},
    ],
  )
  def test_refuses_a_field_of_another_type(self, tmp_path, change):
    corrupt(tmp_path, lambda value: {**value, **change})
    with pytest.raises(ValueError, match=r"query\.json"):
      query.read(tmp_path, 3)


class TestLatestRound:
  def test_is_none_before_the_first(self, workdir):
    assert query.latest_round(workdir) is None

  def test_is_the_last_by_number(self, workdir):
    for round_num in (0, 9, 10, 10_000):
      query.write(workdir, ASKED._replace(round=round_num))
      assert query.latest_round(workdir) == round_num

  def test_a_folder_without_a_query_has_not_asked(self, tmp_path):
    query.write(tmp_path, ASKED)
    query.folder_of(tmp_path, 4).mkdir()
    assert query.latest_round(tmp_path) == 3

  @each("name", ["²", "٣", "5", "00005", "-005", "0x10"])
  def test_is_not_misled_by_other_names(self, tmp_path, name):
    path = query.write(tmp_path, ASKED)
    other = path.parent.parent / name
    other.mkdir()
    (other / query.FILE_NAME).write_bytes(path.read_bytes())
    assert query.latest_round(tmp_path) == 3


class TestReadAll:
  def test_reads_every_query_in_order(self, workdir):
    assert query.read_all(workdir) == ()
    for round_num in (1, 0, 2):
      query.write(workdir, ASKED._replace(round=round_num))
    assert [asked.round for asked in query.read_all(workdir)] == [0, 1, 2]

  def test_rejects_one_that_is_missing(self, workdir):
    query.write(workdir, ASKED._replace(round=1))
    with pytest.raises(ValueError, match=r"0000.query\.json, got no such"):
      query.read_all(workdir)


class TestRequireLatestRound:
  def test_is_the_last(self, workdir):
    query.write(workdir, ASKED)
    query.write(workdir, ASKED._replace(round=11))
    assert query.require_latest_round(workdir) == 11

  def test_a_run_that_asks_nothing_is_refused(self, workdir):
    with pytest.raises(
      ValueError, match=r"got no query in .*queries: `decern-"
    ):
      query.require_latest_round(workdir)
