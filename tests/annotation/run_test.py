"""Tests of decern_jax/annotation/run.py, on tiny images."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil

from etils import epath
import numpy as np
import pytest

from decern_jax.annotation import (
  answers,
  formats,
  inbox,
  query,
)
from decern_jax.annotation.answers import Answer
from decern_jax.annotation.run import run_with_people
from decern_jax.cli import main
from decern_jax.runs import driver, experiment, model_file, records, workdir
from tests import tiny
from tests.annotation import hidden
from tests.annotation.hidden import BUDGET, asked, respond, respond_truly
from tests.table import each


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("people")
  hidden.write_images(folder / "images")
  tiny.write_weights(folder / "weights.safetensors")
  return folder


@pytest.fixture
def class_of(tmp_path_factory):
  return hidden.write_images(tmp_path_factory.mktemp("again") / "images")


@pytest.fixture
def run(folder, tmp_path, capsys):
  def start(*, go_on=False, **changes) -> str:
    config = hidden.make_config(folder, **changes)
    run_with_people(config, epath.Path(tmp_path / "run"), go_on=go_on)
    return capsys.readouterr().out

  return start


@pytest.fixture
def where(tmp_path):
  return tmp_path / "run"


def fill_in(where: pathlib.Path, round_num: int, labels: dict[str, str]):
  """Hands back the table of a query, as a spreadsheet saves it."""
  (table,) = query.folder_of(where, round_num).glob("*.csv")
  with open(table, encoding="utf-8-sig", newline="") as file:
    rows = list(csv.DictReader(file))
  with open(where / query.ANSWERS_FOLDER / table.name, "w") as file:
    writer = csv.DictWriter(file, [*rows[0]])
    writer.writeheader()
    writer.writerows({**r, "label": labels.get(r["id"], "")} for r in rows)


class TestRun:
  def test_is_the_run_that_simulates_people(
    self, run, where, folder, class_of, tmp_path
  ):
    for _ in range(3):
      run()
      respond_truly(where, class_of)
    assert "All rounds are done" in run()
    table = hidden.write_table(folder, class_of)
    config = hidden.make_config(
      folder, dataset__name="label_file", dataset__path=os.fspath(table)
    )
    table_run = tmp_path / "simulated"
    built = experiment.build(
      config, experiment.load(config), seed=1, workdir=table_run
    )
    driver.run(built, num_rounds=3, workdir=table_run)
    table.unlink()
    ours, simulated = records.read(where), records.read(table_run)
    for name in ("num_labeled", "test", "train", "selected", "scores"):
      assert [r[name] for r in ours] == [r[name] for r in simulated], name
    for ask, record in zip((1, 2), ours, strict=False):
      ids = [item.id for item in query.read(where, ask).items]
      assert ids == record["selected"]
    assert model_file.load(where).class_names == tuple(sorted(tiny.CLASSES))

  def test_waits_and_says_what_to_do(self, run, where, class_of):
    first = run()
    assert f"Round 0 waits for labels of {BUDGET} images" in first
    assert "decern_jax.label" in first
    assert "Then run the same command again" in first
    assert run() == first
    ids = [item.id for item in asked(where).items]
    respond(where, [Answer(ids[0], (class_of[ids[0]],)), Answer(ids[1], None)])
    said = run()
    assert "2 new answers" in said
    assert "1 have one, 1 were skipped, 2 are left" in said
    assert records.read(where) == []

  def test_goes_on_with_what_there_is_when_told_to(self, run, where, class_of):
    run()
    ids = [item.id for item in asked(where).items]
    respond(where, [Answer(i, (class_of[i],)) for i in ids[:3]])
    assert "round 0: 3 labeled" in run(go_on=True)
    assert query.latest_round(where) == 1

  def test_skipped_images_go_back_to_the_pool(self, run, where, class_of):
    run()
    ids = [item.id for item in asked(where).items]
    respond(where, [Answer(i, (class_of[i],)) for i in ids[:3]])
    respond(where, [Answer(ids[3], None)])
    run(selection__strategy="margin")
    state = answers.read_round(where, 0)
    assert sorted(state.labels) == sorted(ids[:3])
    # They are 20 images: all are asked about in the end.
    seen = set(ids[:3])
    for _ in range(2):
      now = [item.id for item in asked(where).items]
      assert not seen & set(now)
      seen |= set(now)
      respond_truly(where, class_of)
      run()

  def test_an_image_that_was_skipped_may_be_asked_about_again(
    self, run, where, class_of
  ):
    run()
    ids = [item.id for item in asked(where).items]
    respond(where, [Answer(i, (class_of[i],)) for i in ids[:3]])
    respond(where, [Answer(ids[3], None)])
    run()
    again = query.read(where, 1)
    items = (again.items[0]._replace(id=ids[3]), *again.items[1:])
    query.write(where, again._replace(items=items))
    respond(where, [Answer(i.id, (class_of[i.id],)) for i in items[1:]])
    assert "3 have one, 0 were skipped, 1 are left" in run()
    respond(where, [Answer(ids[3], None, "again")])
    assert "round 1: 6 labeled" in run()

  def test_tables_of_two_rounds_may_skip_the_same_image(
    self, run, where, class_of
  ):
    run()
    ids = [item.id for item in asked(where).items]
    respond(where, [Answer(i, (class_of[i],)) for i in ids[:3]])
    fill_in(where, 0, {ids[3]: "?"})
    run()
    again = query.read(where, 1)
    items = (again.items[0]._replace(id=ids[3]), *again.items[1:])
    query.write(where, again._replace(items=items))
    formats.FORMATS["csv"].write(
      again._replace(items=items), query.folder_of(where, 1)
    )
    respond(where, [Answer(i.id, (class_of[i.id],)) for i in items[1:]])
    assert "1 are left" in run()
    fill_in(where, 1, {ids[3]: "?"})
    assert "round 1: 6 labeled" in run()

  def test_a_late_answer_counts(self, run, where, class_of):
    run()
    ids = [item.id for item in asked(where).items]
    respond(where, [Answer(i, (class_of[i],)) for i in ids[:3]])
    run(go_on=True)
    respond(where, [Answer(ids[3], (class_of[ids[3]],))])
    respond_truly(where, class_of)
    assert ids[3] in {*class_of}
    run()
    assert ids[3] in answers.read_round(where, 1).labels
    assert records.read(where)[1]["num_labeled"] == len(
      {*ids, *(item.id for item in query.read(where, 1).items)}
    )

  def test_takes_first_labels_that_nobody_asked_for(self, run, where, class_of):
    given = sorted(class_of)[:7]
    respond(where, [Answer(i, (class_of[i],)) for i in given])
    assert "round 0: 7 labeled" in run()
    assert [item.id for item in query.read(where, 0).items] == given

  def test_new_classes_come_between_rounds(self, run, where, class_of):
    run()
    respond_truly(where, class_of)
    run()
    respond_truly(where, class_of)
    ids = [item.id for item in asked(where).items]
    respond(where, [Answer(ids[0], ("aardvark",), "b")] * 2)
    respond(where, [Answer(ids[0], ("aardvark",), "c")])
    said = run()
    assert "'aardvark'" not in said
    assert "somebody said" in said
    names = answers.read_round(where, 1).class_names
    assert names == (*sorted(tiny.CLASSES), "aardvark")
    assert model_file.load(where).class_names == names

  def test_refuses_ids_that_were_not_asked_by_name(self, run, where, class_of):
    run()
    ids = {item.id for item in asked(where).items}
    other = sorted(set(class_of) - ids)[0]
    respond(where, [Answer(other, ("x",)), Answer("no such.png", ("x",))])
    said = run()
    assert f"1 answers about images that nobody asked about: {other!r}" in said
    assert "not in the pool: 'no such.png'" in said
    assert answers.read_log(where / inbox.LOG).answers == ()

  def test_a_started_round_goes_on_with_its_labels(
    self, run, where, class_of, monkeypatch
  ):
    """Whatever is answered between a kill and the same command again."""
    run()
    respond_truly(where, class_of)
    build = experiment.build

    def stop(*args, **options):
      raise KeyboardInterrupt

    def built(*args, explain=None, **options):
      made = build(*args, explain=explain, **options)
      return (
        made if explain is None else dataclasses.replace(made, advance=stop)
      )

    with monkeypatch.context() as patch:
      patch.setattr(experiment, "build", built)
      with pytest.raises(KeyboardInterrupt):
        run()
    before = answers.read_round(where, 0)
    ids = [item.id for item in asked(where).items]
    respond(where, [Answer(ids[0], ("another",))])
    run()
    assert answers.read_round(where, 0) == before
    assert "another" not in answers.read_round(where, 0).class_names

  def test_needs_two_classes(self, folder, run, where):
    run()
    items = asked(where).items
    assert items[0].path.endswith(items[0].id)
    assert os.path.isabs(items[0].path)
    said = run(go_on=True)
    assert "A model needs at least one label" in said

  def test_starts_from_typical_images(self, run, where):
    run(selection__initial_strategy="typiclust")
    first = [item.id for item in asked(where).items]
    assert len(set(first)) == BUDGET
    assert asked(where).strategy == "typiclust"

  def test_refuses_images_that_are_gone_or_changed(
    self, class_of, tmp_path, folder
  ):
    images = tmp_path / "images"
    hidden.write_images(images)
    config = hidden.make_config(folder, dataset__path=os.fspath(images))
    run = epath.Path(tmp_path / "run")
    run_with_people(config, run)
    item = asked(run).items[0]
    content = pathlib.Path(item.path).read_bytes()
    other = sorted(set(class_of) - {i.id for i in asked(run).items})[0]
    os.rename(images / other, tmp_path / "kept.png")
    with pytest.raises(ValueError, match=f"missing or unreadable: '{other}'"):
      run_with_people(config, run)
    shutil.copy(tmp_path / "kept.png", item.path)
    os.rename(tmp_path / "kept.png", images / other)
    with pytest.raises(ValueError, match=f"with other content: '{item.id}'"):
      run_with_people(config, run)
    pathlib.Path(item.path).write_bytes(content)
    run_with_people(config, run)

  def test_a_second_process_is_refused(self, folder, tmp_path, where):
    with workdir.lock(where):
      message = f"no other process works.*process {os.getpid()} on"
      with pytest.raises(ValueError, match=message):
        run_with_people(hidden.make_config(folder), epath.Path(where))

  @each(
    "changes, message",
    [
      ({"seeds": (1, 2)}, r"one seed.*got \(1, 2\)"),
      ({"selection__budget": None}, "`selection.budget`"),
      ({"labels__formats": ("xls",)}, r"Unknown formats \['xls'\]"),
      ({"selection__initial_strategy": "badge"}, "one of.*got 'badge'"),
    ],
  )
  def test_rejects_settings_before_any_work(self, run, where, changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
      run(**changes)
    assert not where.exists()


class TestReport:
  def test_tells_what_was_asked_and_what_it_brought(self, run, where, class_of):
    run()
    content = json.loads((where / "report" / "report.json").read_text())
    assert content["progress"]["num_labeled"] == 0
    assert len(content["asked"]) == BUDGET
    for _ in range(2):
      respond_truly(where, class_of)
      said = run()
    assert f"Report in {where / 'report' / 'report.html'}." in said
    content = json.loads((where / "report" / "report.json").read_text())
    assert content["progress"] == {
      "num_images": hidden.NUM_POOL,
      "num_asked": 3 * BUDGET,
      "num_labeled": 2 * BUDGET,
      "num_skipped": 0,
      "num_rounds": 2,
    }
    records_ = records.read(where)
    scores = content["held_out"]["scores"]
    assert [score["value"] for score in scores] == [
      record["test"]["accuracy"] for record in records_
    ]
    last = [a for a in content["asked"] if a["round"] == 2]
    assert [a["id"] for a in last] == records_[1]["selected"]
    # Each image of the pool without a label is in one cluster.
    sizes = [a["cluster_size"] for a in last]
    assert sum(sizes) == hidden.NUM_POOL - 2 * BUDGET
    assert min(sizes) >= 1
    labeled = {a["id"] for a in content["asked"] if a["labels"]}
    for asked_ in last:
      nearest = asked_["nearest"]
      assert {id_ for id_, _ in nearest} <= labeled
      cosines = [cosine for _, cosine in nearest]
      assert cosines == sorted(cosines, reverse=True)

  def test_nearest_labeled_images_of_a_model_that_trains(
    self, run, where, class_of
  ):
    run(train__scope="all", train__num_epochs=6)
    respond_truly(where, class_of)
    run(train__scope="all", train__num_epochs=6)
    (record,) = records.read(where)
    for nearest in record["nearest_labeled"]:
      # Features that were never computed are zero, and so are their cosines.
      assert all(cosine > 0.1 for _, cosine in nearest)
    assert sum(record["cluster_sizes"]) == hidden.NUM_POOL - BUDGET

  def test_is_the_same_when_nothing_has_happened(self, run, where, class_of):
    run()
    respond_truly(where, class_of)
    run()
    page = where / "report" / "report.html"
    first = page.read_bytes()
    run()
    assert page.read_bytes() == first

  def test_a_report_that_cannot_be_written_hides_nothing(
    self, run, where, capsys
  ):
    run()
    shutil.rmtree(where / "report")
    (where / "report").write_text("in the way")
    with pytest.raises(OSError, match="report"):
      run()
    assert "Round 0 waits for labels" in capsys.readouterr().out


class TestSeveralLabels:
  def test_images_may_have_several_or_none(self, folder, where, run):
    options = {
      "dataset__is_multi_label": True,
      "selection__strategy": "entropy",
      "dataset__path": os.fspath(folder / "images" / "photos"),
    }
    run(**options)
    ids = [item.id for item in asked(where).items]
    labels = [("a", "b"), (), ("b",), ("a",)]
    respond(where, list(map(Answer, ids, labels)))
    said = run(**options)
    assert "round 0: 4 labeled" in said
    assert answers.read_round(where, 0).class_names == ("a", "b")
    predictions = asked(where).items[0].predictions
    assert {name for name, _ in predictions} == {"a", "b"}
    assert np.all([0 <= p <= 1 for _, p in predictions])


class TestMain:
  def test_asks_where_images_have_no_labels(self, folder, where, capsys):
    """The command that runs everything else runs this too."""
    config = hidden.make_config(folder)
    main.run(config, epath.Path(where))
    assert "Round 0 waits" in capsys.readouterr().out
    ids = [item.id for item in asked(where).items]
    respond(where, [Answer(ids[0], ("x",)), Answer(ids[1], ("y",))])
    main.run(config, epath.Path(where), go_on=True)
    assert "round 0: 2 labeled, test accuracy" in capsys.readouterr().out
