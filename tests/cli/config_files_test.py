"""Tests of decern_jax/cli/config_files.py."""

import pytest

from decern_jax.cli import config_files
from decern_jax.cli.config_files import PRETRAINING, RUN
from tests import tiny
from tests.table import each


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
  """Works in an empty folder."""
  monkeypatch.chdir(tmp_path)


class TestNames:
  def test_are_the_files_of_each_kind(self):
    runs, others = config_files.names(RUN), config_files.names(PRETRAINING)
    assert {"quickstart", "cub", "my_images"} <= set(runs)
    assert "pretrain_quickstart" in others
    files = {path.stem for path in (tiny.ROOT / "configs").glob("*.py")}
    assert files == {*runs, *others, "common", "pretrain_common"}


class TestLoad:
  def test_takes_a_name_in_any_folder(self):
    assert config_files.load("quickstart", RUN).num_rounds == 6
    found = config_files.load("pretrain_quickstart", PRETRAINING)
    assert found.model.name == "resnet18"

  def test_gives_the_argument(self):
    assert config_files.load("cub:resnet50", RUN).model.name == "resnet50"
    assert config_files.load("cub", RUN).model.name == "vit_small16"
    file = tiny.ROOT / "configs" / "cub.py"
    assert config_files.load(f"{file}:resnet50", RUN).model.name == "resnet50"

  def test_takes_a_file_that_uses_what_ships(self, tmp_path):
    (tmp_path / "mine.py").write_text(
      "from decern_jax.configs import common\n"
      "def get_config():\n"
      "  config = common.get_config()\n"
      "  config.num_rounds = 3\n"
      "  return config\n"
    )
    for value in ("mine.py", "./mine.py", tmp_path / "mine.py"):
      assert config_files.load(str(value), RUN).num_rounds == 3

  @each(
    "value, kind, message",
    [
      (
        "quickstrat",
        RUN,
        "Unknown configuration: 'quickstrat'. Did you mean 'q",
      ),
      ("quickstart", PRETRAINING, "mean 'pretrain_quickstart'. .*uc_merced.$"),
      ("pretrain_quickstart", RUN, "Did you mean 'quickstart'"),
      ("zzz", RUN, "'zzz'. Expected the path of a file or one of big.* cub,"),
      ("", RUN, "Unknown configuration: ''"),
      ("configs/quickstart.py", RUN, "No such file: .*mean 'quickstart'"),
      ("quickstart.py", RUN, "No such file: .*Did you mean 'quickstart'"),
      (r"C:\a\cub.py:x", RUN, r"No such file: 'C:\\\\a\\\\cub.py'"),
      ("quickstart:a", RUN, "'quickstart' without an argument.*'quickstart:a'"),
      ("cub:a", RUN, "Unknown variant 'a'"),
    ],
  )
  def test_refuses_others(self, value, kind, message):
    with pytest.raises(ValueError, match=message):
      config_files.load(value, kind)

  def test_refuses_a_file_of_another_kind(self, tmp_path):
    (tmp_path / "a.py").write_text("def get_config(x):\n  return x\n")
    with pytest.raises(ValueError, match="'a.py' with an argument"):
      config_files.load("a.py", RUN)
    (tmp_path / "a.py").write_text("")
    with pytest.raises(
      ValueError, match="function `get_config` in a.py, got n"
    ):
      config_files.load("a.py", RUN)


class TestNameOf:
  @each(
    "value, name, file, argument",
    [
      ("cub", "cub", "cub", ""),
      ("cub:resnet50", "cub-resnet50", "cub", "resnet50"),
      ("a/cub.py:b/c", "cub-b-c", "a/cub.py", "b/c"),
      (r"C:\a\cub.py", "cub", r"C:\a\cub.py", ""),
      (r"c:/a/cub.py:b", "cub-b", "c:/a/cub.py", "b"),
      (r"..\cub.py:b", "cub-b", r"..\cub.py", "b"),
    ],
  )
  def test_splits_values(self, value, name, file, argument):
    assert config_files.split(value) == (file, argument)
    assert config_files.name_of(value) == name
