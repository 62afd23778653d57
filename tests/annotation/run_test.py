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

from decern_jax.annotation import answers, formats, inbox, query
from decern_jax.annotation.answers import RoundLabels
from decern_jax.annotation.run import run_with_people
from decern_jax.annotation.state import Answer
from decern_jax.cli import main
from decern_jax.distributed import processes
from decern_jax.runs import driver, experiment, model_file, records, workdir
from tests import tiny
from tests.annotation import hidden
from tests.annotation.hidden import BUDGET, asked, respond, respond_truly
from tests.table import each


def ids_of(where: pathlib.Path) -> list[str]:
  return [item.id for item in asked(where).items]


def round_labels(where: pathlib.Path, round_num: int) -> RoundLabels:
  found = answers.read_round(where, round_num)
  assert found is not None
  return found


def answer_three(where: pathlib.Path, class_of: dict[str, str]) -> str:
  """Answers three of the four images of a query; returns the fourth."""
  *three, left = ids_of(where)
  respond(where, [Answer(i, (class_of[i],)) for i in three])
  return left


def ask_again(where: pathlib.Path, id_: str) -> query.Query:
  """Puts an image into the last query, in place of its first one."""
  last = asked(where)
  items = (last.items[0]._replace(id=id_), *last.items[1:])
  query.write(where, last._replace(items=items))
  return asked(where)


def fill_in(where: pathlib.Path, round_num: int, labels: dict[str, str]):
  """Hands back the table of a query, as a spreadsheet saves it."""
  (table,) = query.folder_of(where, round_num).glob("*.csv")
  with open(table, encoding="utf-8-sig", newline="") as file:
    rows = list(csv.DictReader(file))
  with open(where / query.ANSWERS_FOLDER / table.name, "w") as file:
    writer = csv.DictWriter(file, [*rows[0]])
    writer.writeheader()
    writer.writerows({**r, "label": labels.get(r["id"], "")} for r in rows)


class TestRounds:
  def test_equal_those_of_a_run_that_simulates_people(self, true_run, tmp_path):
    assert "All rounds are done" in true_run.outputs[-1]
    table = hidden.write_table(true_run.folder, true_run.class_of)
    config = hidden.make_config(
      true_run.folder, dataset__name="label_file", dataset__path=str(table)
    )
    built = experiment.build(
      config, experiment.load(config), seed=1, workdir=tmp_path
    )
    driver.run(built, num_rounds=hidden.NUM_ROUNDS, workdir=tmp_path)
    table.unlink()
    where = true_run.stages[-1]
    ours, simulated = records.read(where), records.read(tmp_path)
    for name in ("num_labeled", "test", "train", "selected", "scores"):
      assert [r[name] for r in ours] == [r[name] for r in simulated], name
    for round_num, record in zip((1, 2), ours, strict=False):
      ids = [item.id for item in query.read(where, round_num).items]
      assert ids == record["selected"]
    assert model_file.load(where).class_names == tuple(sorted(tiny.CLASSES))

  def test_wait_and_say_what_to_do(self, true_run, start, copy_stage, where):
    first = true_run.outputs[0]
    assert f"Round 0 waits for labels of {BUDGET} images" in first
    assert "decern-jax label" in first
    assert "Then run the same command again" in first
    copy_stage(0)
    assert "Round 0 waits" in start()
    ids = ids_of(where)
    respond(where, [Answer(ids[0], ("ant",)), Answer(ids[1], None)])
    output = start()
    assert "2 new answers" in output
    assert "1 have one, 1 were skipped, 2 are left" in output
    assert records.read(where) == []

  def test_go_on_when_told_to_and_count_a_late_answer(
    self, true_run, start, copy_stage, where
  ):
    copy_stage(0)
    left = answer_three(where, true_run.class_of)
    assert "With --go_on it continues" in start()
    assert "round 0: 3 labeled" in start(go_on=True)
    assert query.latest_round(where) == 1
    respond(where, [Answer(left, (true_run.class_of[left],))])
    respond_truly(where, true_run.class_of)
    start()
    assert left in round_labels(where, 1).labels
    assert records.read(where)[1]["num_labeled"] == len(
      {left, *(i.id for r in (0, 1) for i in query.read(where, r).items)}
    )

  def test_take_first_labels_that_nobody_asked_for(
    self, true_run, start, where
  ):
    given = sorted(true_run.class_of)[:7]
    respond(where, [Answer(i, (true_run.class_of[i],)) for i in given])
    assert "round 0: 7 labeled" in start()
    assert [item.id for item in query.read(where, 0).items] == given

  def test_take_new_classes_and_tell_conflicts(
    self, true_run, start, copy_stage, where
  ):
    copy_stage(1)
    respond_truly(where, true_run.class_of)
    id_ = ids_of(where)[0]
    respond(where, [Answer(id_, ("aardvark",), "b")] * 2)
    respond(where, [Answer(id_, ("aardvark",), "c")])
    output = start()
    said = f"'{id_}': somebody said {true_run.class_of[id_]}, b said aardvark,"
    assert f"{said} c said aardvark; used: aardvark (" in output
    names = round_labels(where, 1).class_names
    assert names == (*sorted(tiny.CLASSES), "aardvark")
    assert model_file.load(where).class_names == names

  def test_refuse_by_name_what_nobody_asked_about(
    self, true_run, start, copy_stage, where
  ):
    copy_stage(0)
    other = sorted(set(true_run.class_of) - {*ids_of(where)})[0]
    respond(where, [Answer(other, ("x",)), Answer("no such.png", ("x",))])
    output = start()
    assert f"1 answers about images that nobody asked about: {other!r}" in (
      output
    )
    assert "not in the pool: 'no such.png'" in output
    assert answers.read_log(where / inbox.LOG).answers == ()

  def test_continue_with_the_labels_that_they_began_with(
    self, true_run, start, copy_stage, where, monkeypatch
  ):
    """Whatever is answered between a kill and the same command again."""
    copy_stage(0)
    respond_truly(where, true_run.class_of)
    build = experiment.build

    def stop(*args, **options):
      raise KeyboardInterrupt

    def built(*args, explain=None, **options):
      made = build(*args, explain=explain, **options)
      stopped = dataclasses.replace(made, advance=stop)
      return made if explain is None else stopped

    with monkeypatch.context() as patch:
      patch.setattr(experiment, "build", built)
      with pytest.raises(KeyboardInterrupt):
        start()
    before = round_labels(where, 0)
    respond(where, [Answer(ids_of(where)[0], ("another",))])
    start()
    assert round_labels(where, 0) == before
    assert "another" not in before.class_names

  def test_need_two_classes(self, start, copy_stage, where):
    copy_stage(0)
    first = asked(where).items[0]
    assert first.path.endswith(first.id)
    assert os.path.isabs(first.path)
    assert "A model needs at least one label" in start(go_on=True)

  def test_start_from_typical_images(self, start, where):
    start(selection__initial_strategy="typiclust")
    assert len({*ids_of(where)}) == BUDGET
    assert asked(where).strategy == "typiclust"

  def test_of_several_labels_or_none(self, true_run, start, where):
    options = {
      "dataset__is_multi_label": True,
      "selection__strategy": "entropy",
      "dataset__path": os.fspath(true_run.folder / "images" / "photos"),
    }
    start(**options)
    labels = [("a", "b"), (), ("b",), ("a",)]
    respond(where, list(map(Answer, ids_of(where), labels)))
    assert "round 0: 4 labeled" in start(**options)
    assert round_labels(where, 0).class_names == ("a", "b")
    predictions = asked(where).items[0].predictions
    assert {name for name, _ in predictions} == {"a", "b"}
    assert np.all([0 <= p <= 1 for _, p in predictions])
    # Enough labels for the report to predict them.
    respond(where, list(map(Answer, ids_of(where), labels)))
    start(**options)
    report = json.loads((where / "report" / "report.json").read_text())
    assert report["progress"]["num_labeled"] == 8

  def test_are_those_of_the_command_main(self, true_run, where, capsys):
    config = hidden.make_config(true_run.folder)
    main.run(config, epath.Path(where))
    assert "Round 0 waits" in capsys.readouterr().out
    ids = ids_of(where)
    respond(where, [Answer(ids[0], ("x",)), Answer(ids[1], ("y",))])
    main.run(config, epath.Path(where), go_on=True)
    assert "round 0: 2 labeled, test accuracy" in capsys.readouterr().out


class TestSkippedImages:
  """Three images of the first query are labeled, and one is skipped."""

  @pytest.fixture
  def skipped(self, true_run, start, copy_stage, where) -> str:
    copy_stage(0)
    left = answer_three(where, true_run.class_of)
    fill_in(where, 0, {left: "?"})
    start()
    return left

  def test_go_back_to_the_pool(self, skipped, true_run, start, where):
    seen = {item.id for item in query.read(where, 0).items} - {skipped}
    assert sorted(round_labels(where, 0).labels) == sorted(seen)
    assert not seen & {*ids_of(where)}
    seen |= {*ids_of(where)}
    respond_truly(where, true_run.class_of)
    start()
    assert not seen & {*ids_of(where)}

  def test_may_be_asked_about_and_skipped_again(
    self, skipped, true_run, start, where
  ):
    again = ask_again(where, skipped)
    formats.FORMATS["csv"].write(again, query.folder_of(where, 1))
    others = [item.id for item in again.items[1:]]
    respond(where, [Answer(i, (true_run.class_of[i],)) for i in others])
    assert "3 have one, 0 were skipped, 1 are left" in start()
    # The table says the same of the image as that of the first query.
    fill_in(where, 1, {skipped: "?"})
    assert "round 1: 6 labeled" in start()


class TestRefusals:
  def test_images_that_are_gone_or_changed(self, true_run, tmp_path, where):
    images = tmp_path / "images"
    shutil.copytree(true_run.folder / "images", images)
    config = hidden.make_config(true_run.folder, dataset__path=str(images))
    run = epath.Path(where)
    run_with_people(config, run)
    item = asked(where).items[0]
    content = pathlib.Path(item.path).read_bytes()
    other = sorted(set(true_run.class_of) - {*ids_of(where)})[0]
    os.rename(images / other, tmp_path / "kept.png")
    with pytest.raises(ValueError, match=f"missing or unreadable: '{other}'"):
      run_with_people(config, run)
    shutil.copy(tmp_path / "kept.png", item.path)
    os.rename(tmp_path / "kept.png", images / other)
    with pytest.raises(ValueError, match=f"with other content: '{item.id}'"):
      run_with_people(config, run)
    pathlib.Path(item.path).write_bytes(content)
    run_with_people(config, run)

  def test_a_second_process(self, true_run, where):
    with workdir.lock(where):
      message = f"no other process works.*process {os.getpid()} on"
      with pytest.raises(ValueError, match=message):
        run_with_people(hidden.make_config(true_run.folder), epath.Path(where))

  @each(
    "changes, message",
    [
      ({"seeds": (1, 2)}, r"one seed.*got \(1, 2\)"),
      ({"selection__budget": None}, "`selection.budget`"),
      ({"labels__formats": ("xls",)}, r"Unknown formats \['xls'\]"),
      ({"selection__initial_strategy": "badge"}, "one of.*got 'badge'"),
    ],
  )
  def test_settings_before_any_work(self, start, where, changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
      start(**changes)
    assert not where.exists()

  def test_several_processes(self, start, where, monkeypatch):
    monkeypatch.setattr(processes, "are_several", lambda: True)
    with pytest.raises(ValueError, match="one process where labels come"):
      start()
    assert not where.exists()


class TestReport:
  def test_tells_what_was_asked_and_what_it_brought(self, true_run):
    def report(stage):
      path = true_run.stages[stage] / "report" / "report.json"
      return json.loads(path.read_text())

    assert report(0)["progress"]["num_labeled"] == 0
    assert len(report(0)["asked"]) == BUDGET
    page = true_run.folder / "run" / "report" / "report.html"
    assert f"Report in {page}." in true_run.outputs[2]
    content = report(2)
    assert content["progress"] == {
      "num_images": hidden.NUM_POOL,
      "num_asked": 3 * BUDGET,
      "num_labeled": 2 * BUDGET,
      "num_skipped": 0,
      "num_rounds": 2,
    }
    rounds = records.read(true_run.stages[2])
    assert [score["value"] for score in content["held_out"]["scores"]] == [
      record["test"]["accuracy"] for record in rounds
    ]
    last = [a for a in content["asked"] if a["round"] == 2]
    assert [a["id"] for a in last] == rounds[1]["selected"]
    # Each image of the pool without a label is in one cluster.
    sizes = [a["cluster_size"] for a in last]
    assert sum(sizes) == hidden.NUM_POOL - 2 * BUDGET
    assert min(sizes) >= 1
    labeled = {a["id"] for a in content["asked"] if a["labels"]}
    for image in last:
      assert {id_ for id_, _ in image["nearest"]} <= labeled
      cosines = [cosine for _, cosine in image["nearest"]]
      assert cosines == sorted(cosines, reverse=True)

  def test_nearest_labeled_images_of_a_model_that_trains(
    self, true_run, start, copy_stage, where
  ):
    changes = {
      "train__scope": "all",
      "train__num_epochs": 1,
      "train__warmup_epochs": 0,
      "train__batch_size": 8,
    }
    start(**changes)
    respond_truly(where, true_run.class_of)
    start(**changes)
    (record,) = records.read(where)
    for nearest in record["nearest_labeled"]:
      # Features that were never computed are zero, and so are their cosines.
      assert all(cosine > 0.1 for _, cosine in nearest)
    assert sum(record["cluster_sizes"]) == hidden.NUM_POOL - BUDGET

  def test_is_the_same_when_nothing_has_happened(
    self, start, copy_stage, where
  ):
    copy_stage(2)
    page = where / "report" / "report.html"
    first = page.read_bytes()
    start()
    assert page.read_bytes() == first

  def test_that_cannot_be_written_hides_nothing(
    self, start, copy_stage, where, capsys
  ):
    copy_stage(0)
    shutil.rmtree(where / "report")
    (where / "report").write_text("in the way")
    with pytest.raises(OSError, match="report"):
      start()
    assert "Round 0 waits for labels" in capsys.readouterr().out
