"""Tests of decern_jax/annotation/studio/transfer.py."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from decern_jax.annotation import formats
from decern_jax.annotation.query import Item
from decern_jax.annotation.studio import client as client_lib
from decern_jax.annotation.studio import project, transfer
from decern_jax.annotation.studio.client import TransientError
from decern_jax.annotation.studio.transfer import BATCH_SIZE, Pushed
from tests.annotation.studio.fake import FakeClient, lost, make_query
from tests.table import each

NUM = 2 * BATCH_SIZE + 1

# What the next requests do: lose the answer, or the request, or succeed.
FAILURES = st.lists(
  st.sampled_from([(lost(), "work"), (lost(), None), (None, None)]), max_size=24
)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
  monkeypatch.setattr(client_lib.time, "sleep", lambda seconds: None)


@pytest.fixture
def client():
  return FakeClient()


@pytest.fixture
def found(client, tmp_path):
  return project.find_or_create(client, tmp_path, make_query())


def ids_of(query):
  return [item.id for item in query.items]


class TestPush:
  def test_brings_all_in_order_and_in_batches(self, client, found):
    asked = make_query(NUM)
    done = transfer.push(client, found, asked)
    assert done == Pushed(0, NUM, ())
    assert client.ids(found.number, 3) == ids_of(asked)
    assert client.batches == [BATCH_SIZE, BATCH_SIZE, 1]

  def test_second_time_brings_none(self, client, found):
    transfer.push(client, found, make_query(NUM))
    done = transfer.push(client, found, make_query(NUM))
    assert done == Pushed(NUM, 0, ())
    assert len(client.ids(found.number, 3)) == NUM

  def test_brings_what_is_missing_alone(self, client, found):
    asked = make_query(5)
    transfer.push(client, found, asked._replace(items=asked.items[1:3]))
    assert transfer.push(client, found, asked) == Pushed(2, 3, ())
    assert sorted(client.ids(found.number, 3)) == ids_of(asked)

  def test_same_images_are_asked_again_in_another_round(self, client, found):
    transfer.push(client, found, make_query())
    done = transfer.push(client, found, make_query(round_num=4))
    assert done.num_added == 3
    assert client.ids(found.number, 4) == client.ids(found.number, 3)

  def test_tasks_of_others_do_not_matter(self, client, found):
    client.data[found.number] += [{}, {"image": "x", "round": [3]}]
    client.data[found.number][1]["decern_id"] = "a b/0.jpg"
    assert transfer.push(client, found, make_query()).num_added == 3

  def test_answer_lost_after_the_server_took_the_tasks(self, client, found):
    client.failures["add_tasks"] = [(lost(), "work")]
    transfer.push(client, found, make_query(NUM))
    assert client.ids(found.number, 3) == ids_of(make_query(NUM))
    assert client.batches == [BATCH_SIZE, BATCH_SIZE, 1]

  def test_request_lost_before_the_server_took_them(self, client, found):
    client.failures["add_tasks"] = [(lost(), None)]
    transfer.push(client, found, make_query(NUM))
    assert client.ids(found.number, 3) == ids_of(make_query(NUM))

  def test_server_takes_them_long_after_the_time_was_up(self, client, found):
    late = []
    client.failures["add_tasks"] = [(lost(), late.append)]
    client.failures["tasks"] = [(None, None)] * 4 + [
      (None, lambda w: late[0]())
    ]
    transfer.push(client, found, make_query())
    assert client.ids(found.number, 3) == ids_of(make_query())
    assert client.calls.count("add_tasks") == 1

  def test_server_that_took_a_part_gets_the_rest(self, client, found):
    asked = make_query(5)

    def take_two(work):
      work()
      del client.data[found.number][2:]

    client.failures["add_tasks"] = [(lost(), take_two)]
    transfer.push(client, found, asked)
    assert client.batches == [5, 3]
    assert client.ids(found.number, 3) == ids_of(asked)

  def test_server_errors_are_tried_again(self, client, found):
    error = lost(may_be_done=False)
    client.failures["add_tasks"] = [(error, None), (error, None)]
    client.failures["tasks"] = [(error, None)] * 3
    assert transfer.push(client, found, make_query()).num_added == 3

  def test_server_that_stays_away_is_an_error_and_the_rest_comes_later(
    self, client, found
  ):
    client.failures["add_tasks"] = [(None, None)] + [(lost(), None)] * 99
    with pytest.raises(TransientError):
      transfer.push(client, found, make_query(NUM))
    del client.failures["add_tasks"]
    done = transfer.push(client, found, make_query(NUM))
    assert done == Pushed(BATCH_SIZE, BATCH_SIZE + 1, ())
    assert client.ids(found.number, 3) == ids_of(make_query(NUM))

  def test_tasks_that_do_not_come_are_an_error(self, client, found):
    client.add_tasks = lambda number, tasks: None
    with pytest.raises(RuntimeError, match="as done, got nothing"):
      transfer.push(client, found, make_query())

  @settings(max_examples=20, deadline=None, derandomize=True)
  @given(st.fixed_dictionaries({"add_tasks": FAILURES, "tasks": FAILURES}))
  def test_nothing_is_there_twice_whatever_fails(self, failures):
    client, asked = FakeClient(), make_query(NUM)
    client.create_project("name", "mine", "<View/>")
    (found,) = client.all
    client.failures.update(failures)
    for _ in range(4):
      try:
        transfer.push(client, found, asked)
      except TransientError:
        continue
      break
    client.failures.clear()
    transfer.push(client, found, asked)
    assert sorted(client.ids(found.number, 3)) == sorted(ids_of(asked))

  def test_names_that_are_no_text_are_left_out(self, client, found):
    item = Item("bad \udcff.jpg", "/images/bad \udcff.jpg")
    asked = make_query()
    done = transfer.push(
      client, found, asked._replace(items=(item, *asked.items))
    )
    assert done == Pushed(0, 3, (item.id,))

  def test_hard_names_are_taken(self, client, found):
    id_ = "a\nb/q?&#%25 'ü'\".jpg"
    asked = make_query(items=(Item(id_, f"/images/{id_}"),))
    transfer.push(client, found, asked)
    (data,) = client.data[found.number]
    assert data["decern_id"] == id_
    assert data["image"] == (
      "/data/local-files/?d=images/a%0Ab/q%3F%26%23%2525%20%27%C3%BC%27%22.jpg"
    )

  @each(
    "root, address",
    [
      ("/", "images/a%20b/0.jpg"),
      ("/images", "a%20b/0.jpg"),
      ("/images/", "a%20b/0.jpg"),
    ],
  )
  def test_addresses_are_below_the_document_root(
    self, client, found, root, address
  ):
    client.data[found.number].clear()
    transfer.push(client, found, make_query(1), document_root=root)
    (data,) = client.data[found.number]
    assert data["image"] == f"/data/local-files/?d={address}"

  @each("root", ["/other", "/image", "/images/a b/0.jpg/x"])
  def test_rejects_images_outside_of_it(self, client, found, root):
    message = f"images below `document_root` {root}, got /images/a b/0.jpg"
    with pytest.raises(ValueError, match=message):
      transfer.push(client, found, make_query(1), document_root=root)
    assert client.data[found.number] == []

  def test_rejects_images_that_the_server_does_not_show(self, client, found):
    client.is_serving = False
    with pytest.raises(ValueError, match=r"got no such .*`document_root`\) /i"):
      transfer.push(client, found, make_query(), document_root="/images")
    assert client.data[found.number] == []

  def test_looks_at_one_image_for_what_is_missing_alone(self, client, found):
    client.failures["can_show"] = [(lost(), None)]
    for _ in range(2):
      transfer.push(client, found, make_query())
    assert client.calls.count("can_show") == 2

  def test_images_in_a_store_keep_their_addresses(self, client, found):
    asked = make_query(items=(Item("1.jpg", "gs://b/1.jpg"),))
    client.is_serving = False
    transfer.push(client, found, asked, document_root="/x")
    assert client.data[found.number][0]["image"] == "gs://b/1.jpg"


class TestPull:
  @pytest.fixture
  def pushed(self, client, found):
    transfer.push(client, found, make_query())
    return found

  def test_writes_what_the_run_reads(self, client, pushed, tmp_path):
    client.annotate(pushed.number, "a b/0.jpg", ["cat"])
    client.annotate(pushed.number, "a b/2.jpg", None)
    done = transfer.pull(client, pushed, tmp_path)
    assert (done.num_answers, done.problems) == (2, ())
    assert done.path == tmp_path / "answers" / "label_studio.json"
    answers = formats.read_file(done.path).answers
    assert [(a.id, a.labels) for a in answers] == [
      ("a b/0.jpg", ("cat",)),
      ("a b/2.jpg", None),
    ]

  def test_later_pull_has_all(self, client, pushed, tmp_path):
    for n, label in enumerate(("cat", "zebra"), start=1):
      client.annotate(pushed.number, f"a b/{n}.jpg", [label])
      done = transfer.pull(client, pushed, tmp_path)
      assert len(formats.read_file(done.path).answers) == n

  def test_nothing_submitted_leaves_the_file_alone(
    self, client, pushed, tmp_path
  ):
    assert transfer.pull(client, pushed, tmp_path).num_answers == 0
    assert not (tmp_path / "answers").exists()
    client.annotate(pushed.number, "a b/1.jpg", ["cat"])
    path = transfer.pull(client, pushed, tmp_path).path
    before = path.read_bytes()
    client.annotated[pushed.number].clear()
    transfer.pull(client, pushed, tmp_path)
    assert path.read_bytes() == before

  def test_lost_connection_is_tried_again(self, client, pushed, tmp_path):
    client.annotate(pushed.number, "a b/1.jpg", ["cat"])
    client.failures["export"] = [(lost(), None)] * 3
    assert transfer.pull(client, pushed, tmp_path).num_answers == 1

  @each("content", [b"", b"[{", b"{}", b"null"])
  def test_rejects_what_is_no_export(self, client, pushed, tmp_path, content):
    client.export = lambda number: content
    with pytest.raises(ValueError, match="Expected"):
      transfer.pull(client, pushed, tmp_path)
    assert not (tmp_path / "answers").exists()

  def test_tells_what_it_does_not_understand(self, client, pushed, tmp_path):
    client.annotate(pushed.number, "a b/1.jpg", ["cat"])
    client.annotated[pushed.number].append(
      {"data": {"image": "x"}, "annotations": [{"id": 5, "result": []}]}
    )
    done = transfer.pull(client, pushed, tmp_path)
    assert done.num_answers == 1
    (problem,) = done.problems
    assert "annotation 5" in problem
