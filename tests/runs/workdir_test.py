"""Tests of decern_jax/runs/workdir.py."""

import json
import os
import re

from etils import epath
import pytest

from decern_jax.runs import workdir
from decern_jax.runs.workdir import CONFIG_FILE, DATA_FILE, check_free, claim
from tests.table import each

CONFIG = {
  "num_rounds": 8,
  "seeds": (1, 11),
  "dataset": {"name": "image_folder", "path": "photos", "image_size": 224},
  "selection": {"strategy": "decern", "budget": None, "gamma": 0.5},
  "system": {"num_devices": None, "cache_dir": "runs/cache"},
}
SETTINGS = {"dataset.path": "photos", "num_rounds": 8, "seed": 1}


def changed(**values) -> dict:
  """Returns the configuration with values for dotted names, `.` as `__`."""
  config = json.loads(json.dumps(CONFIG))
  for name, value in values.items():
    section = config
    *path, last = name.split("__")
    for part in path:
      section = section[part]
    section[last] = value
  return config


class TestIdentity:
  def test_is_flat_sorted_and_has_the_seed(self):
    assert list(workdir.identity(CONFIG, 11).items()) == [
      ("dataset.image_size", 224),
      ("dataset.name", "image_folder"),
      ("dataset.path", "photos"),
      ("num_rounds", 8),
      ("selection.budget", None),
      ("selection.gamma", 0.5),
      ("selection.strategy", "decern"),
      ("seed", 11),
    ]

  def test_ignores_system_and_the_other_seeds(self):
    other = changed(seeds=(1,), system__num_devices=4, system__cache_dir="/c")
    assert workdir.identity(other, 1) == workdir.identity(CONFIG, 1)

  def test_differs_by_seed(self):
    assert workdir.identity(CONFIG, 1) != workdir.identity(CONFIG, 11)

  @each(
    "name, value",
    [
      ("num_rounds", 9),
      ("dataset__path", "others"),
      ("dataset__image_size", 160),
      ("selection__budget", 5),
      ("selection__gamma", 0.25),
      ("selection__strategy", "random"),
    ],
  )
  def test_differs_by_every_other_setting(self, name, value):
    other = changed(**{name: value})
    assert workdir.identity(other, 1) != workdir.identity(CONFIG, 1)

  def test_is_what_json_gives_back(self):
    found = workdir.identity({**CONFIG, "sizes": (1, 2)}, 1)
    assert json.loads(json.dumps(found)) == found
    assert found["sizes"] == [1, 2]


class TestDefaultPath:
  def test_names_config_strategy_and_changes(self):
    path = workdir.default_path("photos", CONFIG, CONFIG)
    assert re.fullmatch(r"runs/photos/decern-[0-9a-f]{8}", os.fspath(path))

  def test_is_the_same_in_every_process(self):
    path = workdir.default_path("photos", changed(num_rounds=3), CONFIG)
    assert os.fspath(path) == "runs/photos/decern-65e27fa8"

  @each(
    "change",
    [
      {"num_rounds": 9},
      {"dataset__path": "others"},
      {"selection__budget": 5},
      {"selection__gamma": 0.25},
    ],
  )
  def test_changes_with_a_changed_field(self, change):
    path = workdir.default_path("photos", changed(**change), CONFIG)
    assert path != workdir.default_path("photos", CONFIG, CONFIG)

  def test_names_the_strategy_that_runs(self):
    config = changed(selection__strategy="random")
    assert workdir.default_path("a", config, CONFIG).name.startswith("random-")

  def test_is_shared_by_seeds_and_systems(self):
    config = changed(seeds=(5,), system__num_devices=2)
    assert workdir.default_path("a", config, CONFIG) == workdir.default_path(
      "a", CONFIG, CONFIG
    )

  def test_does_not_change_with_a_default_that_was_not_touched(self):
    """A release may change a default without moving everybody's runs."""
    newer = changed(dataset__image_size=160)
    assert workdir.default_path("a", newer, newer) == workdir.default_path(
      "a", CONFIG, CONFIG
    )


class TestCheckFree:
  def test_leaves_no_folder(self, tmp_path):
    (tmp_path / "runs").mkdir()
    check_free(tmp_path / "runs/a/b", SETTINGS, file_name=CONFIG_FILE)
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs"]

  def test_accepts_the_run_of_these_settings(self, tmp_path):
    claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)
    check_free(tmp_path, SETTINGS, file_name=CONFIG_FILE)

  def test_refuses_the_run_of_others(self, tmp_path):
    claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)
    with pytest.raises(ValueError, match="num_rounds: 8 there, 9 now"):
      check_free(tmp_path, {**SETTINGS, "num_rounds": 9}, file_name=CONFIG_FILE)

  @each("below", ["file", "file/deeper"])
  def test_refuses_a_folder_that_cannot_be_made(self, tmp_path, below):
    (tmp_path / "file").write_text("")
    folder = tmp_path / below
    message = rf"`workdir` that can be written, got {folder}: .*(Not a|exists)"
    with pytest.raises(ValueError, match=message):
      check_free(folder, SETTINGS, file_name=CONFIG_FILE)

  def test_refuses_a_folder_without_room(self, tmp_path, monkeypatch):
    def fail(*unused, **ignored):
      raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(epath.Path("a")), "write_bytes", fail)
    with pytest.raises(ValueError, match=r"can be written.*No space left"):
      check_free(tmp_path, SETTINGS, file_name=CONFIG_FILE)


class TestClaim:
  def test_makes_the_folder_and_writes_the_settings(self, tmp_path):
    claim(tmp_path / "a" / "b", SETTINGS, file_name=CONFIG_FILE)
    written = (tmp_path / "a" / "b" / "config.json").read_text()
    assert json.loads(written) == SETTINGS
    assert written.endswith("}\n")
    assert written.count("\n") == len(SETTINGS) + 2

  def test_leaves_no_scratch_file(self, tmp_path):
    claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)
    assert [path.name for path in tmp_path.iterdir()] == [CONFIG_FILE]

  def test_accepts_its_own_run_again(self, tmp_path):
    claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)
    before = (tmp_path / CONFIG_FILE).read_text()
    claim(tmp_path, dict(reversed(SETTINGS.items())), file_name=CONFIG_FILE)
    assert (tmp_path / CONFIG_FILE).read_text() == before

  def test_keeps_config_and_data_apart(self, tmp_path):
    claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)
    claim(tmp_path, {"train": "abc"}, file_name=DATA_FILE)
    with pytest.raises(ValueError, match=r"train: 'abc' there, 'abd' now"):
      claim(tmp_path, {"train": "abd"}, file_name=DATA_FILE)

  def test_shows_every_differing_field_and_no_other(self, tmp_path):
    claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)
    others = {"dataset.path": "plants", "num_rounds": 8, "seed": 1, "new": None}
    others["added"] = 0.5
    with pytest.raises(ValueError, match="got") as refusal:
      claim(tmp_path, others, file_name=CONFIG_FILE)
    first, *rest = str(refusal.value).splitlines()
    assert str(tmp_path) in first
    assert "--workdir" in first
    assert rest == [
      "  added: None there, 0.5 now",
      "  dataset.path: 'photos' there, 'plants' now",
    ]

  def test_leaves_the_other_run_alone(self, tmp_path):
    claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)
    with pytest.raises(ValueError, match="seed: 1 there, 2 now"):
      claim(tmp_path, {**SETTINGS, "seed": 2}, file_name=CONFIG_FILE)
    assert json.loads((tmp_path / CONFIG_FILE).read_text()) == SETTINGS

  def test_shortens_long_values(self, tmp_path):
    claim(tmp_path, {"names": ["x" * 9] * 999}, file_name=DATA_FILE)
    with pytest.raises(ValueError, match="names") as refusal:
      claim(tmp_path, {"names": []}, file_name=DATA_FILE)
    assert len(str(refusal.value)) < 600

  @each("text", ["", '{"seed": 1', "null", "[1]", "3", '"a"'])
  def test_refuses_what_is_no_settings(self, tmp_path, text):
    (tmp_path / CONFIG_FILE).write_text(text)
    path = re.escape(str(tmp_path / CONFIG_FILE))
    with pytest.raises(ValueError, match=f"Expected settings in {path}, got"):
      claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)
    assert (tmp_path / CONFIG_FILE).read_text() == text

  def test_refuses_what_is_no_text(self, tmp_path):
    (tmp_path / CONFIG_FILE).write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match=r"settings in .*config\.json, got"):
      claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)

  def test_refuses_what_cannot_be_read(self, tmp_path):
    (tmp_path / CONFIG_FILE).mkdir()
    with pytest.raises(ValueError, match=r"settings in .*Is a directory"):
      claim(tmp_path, SETTINGS, file_name=CONFIG_FILE)

  def test_refuses_a_folder_that_cannot_be_made(self, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"can be written, got .*/file/run"):
      claim(tmp_path / "file" / "run", SETTINGS, file_name=CONFIG_FILE)


class TestLock:
  def test_keeps_out_another_process_and_names_it(self, tmp_path):
    with workdir.lock(tmp_path / "run"):
      message = (
        f"no other process works: .*lock is held by process {os.getpid()} "
      )
      with (
        pytest.raises(ValueError, match=message),
        workdir.lock(tmp_path / "run"),
      ):
        pytest.fail("has it too")

  def test_is_free_again_when_it_is_left(self, tmp_path):
    for _ in range(2):
      with pytest.raises(KeyError), workdir.lock(tmp_path):
        raise KeyError
