"""Tests of decern_jax/report/comparison.py."""

import os
from typing import Any

import pytest

from decern_jax.report import comparison
from decern_jax.runs import workdir
from tests.report import made_up
from tests.table import each

CURVES = {"random": {1: (0.3, 0.5), 11: (0.2, 0.4)}, "margin": {1: (0.3, 0.6)}}


def collect(*folders) -> comparison.Comparison:
  return comparison.collect(folders, options=made_up.OPTIONS)


@pytest.fixture
def folder(tmp_path):
  return made_up.write_runs(tmp_path / "runs", CURVES)


def add(folder, strategy="decern", seed=1, curve=(0.3, 0.7), **options):
  found = made_up.make_records(curve)
  return made_up.write_run(folder, strategy, seed, found, **options)


class TestCollect:
  def test_groups_by_strategy_and_seed(self, folder):
    found = collect(folder)
    assert {name: list(runs) for name, runs in found.runs.items()} == {
      "margin": [1],
      "random": [1, 11],
    }
    assert found.runs["random"][11] == made_up.make_records((0.2, 0.4))
    assert found.unfinished == ()

  def test_keeps_the_settings_that_are_shared(self, folder):
    assert collect(folder).settings == {
      "dataset.name": "image_folder",
      "model.name": "small_cnn",
      "train.scope": "head",
      "num_rounds": 2,
    }

  def test_orders_seeds_as_numbers(self, tmp_path):
    curve = (0.3, 0.5)
    curves = {"random": {111: curve, 2: curve, 11: curve}}
    found = made_up.collect(tmp_path, curves)
    assert list(found.runs["random"]) == found.seeds == [2, 11, 111]

  def test_does_not_depend_on_the_order_of_folders(self, folder):
    first, second = folder / "random", folder / "margin"
    assert collect(first, second) == collect(second, first)

  def test_a_strategy_may_have_its_own_options(self, folder):
    add(folder / "a", selection__options__diversity_gamma=0.3)
    assert list(collect(folder).runs) == ["decern", "margin", "random"]

  def test_options_that_a_strategy_varies_make_several(self, folder):
    add(folder / "a", selection__options__diversity_gamma=0.3)
    add(folder / "b", selection__options__diversity_gamma=0.8)
    assert list(collect(folder).runs) == [
      "decern diversity_gamma=0.3",
      "decern diversity_gamma=0.8",
      "margin",
      "random",
    ]

  def test_options_of_another_strategy_do_not_matter(self, folder):
    add(folder / "a", "margin", 2, selection__options__diversity_gamma=0.3)
    assert list(collect(folder).runs["margin"]) == [1, 2]

  def test_leaves_out_unfinished_runs_by_name(self, folder):
    add(folder / "late", num_rounds=3)
    found = collect(folder)
    assert found.unfinished == (f"{folder / 'late'} (2 of 3 rounds)",)
    assert "decern" not in found.runs

  def test_rejects_unfinished_runs_alone(self, tmp_path):
    add(tmp_path / "late", num_rounds=3)
    with pytest.raises(ValueError, match=r"late \(2 of 3 rounds\)"):
      collect(tmp_path)

  def test_rejects_two_runs_of_a_strategy_and_seed(self, folder):
    add(folder / "again", "random", 11)
    with pytest.raises(ValueError, match=r"random with seed 11.*again.*seed11"):
      collect(folder)

  def test_rejects_other_settings(self, folder):
    add(folder / "other", train__scope="all", train__num_epochs=3)
    message = (
      r"same settings, got .*margin.* and .*other, which differ:"
      r"\n  train.num_epochs: None and 3\n  train.scope: 'head' and 'all'$"
    )
    with pytest.raises(ValueError, match=message):
      collect(folder / "margin", folder)

  @each("num_rounds", [1, 3])
  def test_rejects_other_numbers_of_rounds(self, folder, num_rounds):
    add(folder / "other", curve=(0.3, 0.5, 0.7)[:num_rounds])
    with pytest.raises(ValueError, match=f"num_rounds: 2 and {num_rounds}"):
      collect(folder / "margin", folder)

  def test_shows_the_first_of_many_differences(self, folder):
    settings: Any = {f"x{i}": i for i in range(20)}
    add(folder / "other", **settings)
    with pytest.raises(ValueError, match="x15: None and 15\n  and 12 more$"):
      collect(folder / "margin", folder)

  def test_rejects_other_data(self, folder):
    add(folder / "other", data={"train": "13 examples abc"})
    with pytest.raises(ValueError, match="same data.*\n.*'12 .*' and '13"):
      collect(folder / "margin", folder)

  def test_shows_where_long_lists_part(self, folder):
    names = ["ant", "bee", "cow"]
    add(folder / "other", data={"class_names": names})
    with pytest.raises(ValueError, match=r"\[2:\]: \['cat'\] and \['cow'\]"):
      collect(folder / "margin", folder)

  def test_shows_that_a_list_is_longer(self, folder):
    names = [*made_up.CLASSES, "dog"]
    add(folder / "other", data={"class_names": names})
    with pytest.raises(ValueError, match=r"\[3:\]: \[\] and \['dog'\]"):
      collect(folder / "margin", folder)

  def test_rejects_other_numbers_of_labels(self, folder):
    found = made_up.make_records((0.3, 0.7), num_labeled=(10, 19))
    made_up.write_run(folder / "other", "decern", 1, found)
    with pytest.raises(ValueError, match=r"\[1:\]: \[20\] and \[19\]"):
      collect(folder / "margin", folder)


class TestComparison:
  def test_has_the_labels_and_seeds_of_all(self, folder):
    found = collect(folder)
    assert found.num_labeled == [10, 20]
    assert found.seeds == [1, 11]

  def test_has_curves_of_a_metric(self, folder):
    assert collect(folder).curves("accuracy") == {
      "margin": {1: [0.3, 0.6]},
      "random": {1: [0.3, 0.5], 11: [0.2, 0.4]},
    }


@pytest.fixture
def three(tmp_path):
  curves = {"random": {1: (0.3, 0.5), 2: (0.2, 0.4)}, "margin": {1: (0.3, 0.6)}}
  return made_up.write_runs(tmp_path / "runs", curves)


class TestFind:
  def names(self, *folders) -> list[str]:
    return [f"{run.parent.name}/{run.name}" for run in comparison.find(folders)]

  def test_finds_runs_at_any_depth(self, three):
    expected = ["margin/seed1", "random/seed1", "random/seed2"]
    assert self.names(three) == self.names(three.parent) == expected

  def test_a_run_is_a_folder_too(self, three):
    assert self.names(three / "random/seed2") == ["random/seed2"]

  def test_counts_a_run_once(self, three, monkeypatch):
    monkeypatch.chdir(three)
    found = self.names("random/seed2", "random", three, three / "margin/..")
    assert sorted(found) == ["margin/seed1", "random/seed1", "random/seed2"]

  def test_passes_checkpoints_by(self, three):
    copy = three / "random/seed1/checkpoints/3"
    copy.mkdir(parents=True)
    (copy / workdir.CONFIG_FILE).write_text("{}")
    assert len(self.names(three)) == 3

  @each("name", ["missing", "empty", "file"])
  def test_rejects_a_folder_without_runs(self, tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"config.json, got .*{name}"):
      comparison.find([tmp_path / name])


class TestRead:
  def test_returns_what_the_folder_holds(self, three):
    run = comparison.read(comparison.find([three / "margin"])[0])
    assert run.settings["selection.strategy"] == "margin"
    assert run.data["class_names"] == list(made_up.CLASSES)
    assert run.records == made_up.make_records((0.3, 0.6))
    assert run.num_labeled == [10, 20]
    assert run.is_finished

  @each("done", [0, 1])
  def test_a_run_may_be_under_way(self, tmp_path, done):
    found = made_up.make_records((0.3, 0.6))[:done]
    three = made_up.write_run(
      tmp_path / "seed1", "margin", 1, found, num_rounds=2
    )
    if not done:
      (three / workdir.DATA_FILE).unlink()
    run = comparison.read(comparison.find([three])[0])
    assert not run.is_finished
    assert run.progress == f"{os.fspath(three)} ({done} of 2 rounds)"

  @each("text", ["{", "[]", "7"])
  @each("file", [workdir.CONFIG_FILE, workdir.DATA_FILE])
  def test_rejects_a_file_that_is_no_mapping(self, tmp_path, text, file):
    path = add(tmp_path / "random/seed1") / file
    path.write_text(text)
    with pytest.raises(ValueError, match=f"random/seed1/{file}, got "):
      comparison.read(comparison.find([path.parent])[0])

  @each("name", ["seed", "num_rounds"])
  def test_rejects_settings_of_something_else(self, tmp_path, name):
    path = add(tmp_path / "random/seed1") / workdir.CONFIG_FILE
    path.write_text(path.read_text().replace(f'"{name}"', '"other"'))
    with pytest.raises(ValueError, match=f"random/seed1/.* without {name}"):
      comparison.read(comparison.find([path.parent])[0])
