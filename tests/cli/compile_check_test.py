"""Tests of decern_jax/cli/compile_check.py, on simulated devices."""

import importlib.util
import json
import os
import re
import subprocess
import sys

from absl import logging
from absl.testing import flagsaver
import numpy as np
import pytest

from decern_jax.cli import command, compile_check
from decern_jax.compile_check import program, round_programs, topology
from decern_jax.models.backbones import small_cnn
from tests import tiny
from tests.table import each

# A thousand rows: what is split over the devices is an eighth of it.
SIZES = ("--num_train=1000", "--num_test=80", "--num_classes=10")
SMALL = ("--config.dataset.image_size=32", "--config.dataset.resize_size=32")
DIM = small_cnn.FEATURE_DIM
NAMES = [
  "training of the head",
  "features of a batch",
  "evaluation",
  "predict",
  "class anchors",
  "discrepancy confusion",
  "select by score",
]

pytestmark = [
  # The shape of an array stands for the array.
  pytest.mark.usefixtures("unannotated"),
]


@pytest.fixture
def check(monkeypatch):
  """Runs the command in this process."""

  def check(*arguments, config="quickstart", sizes=SIZES):
    file = tiny.ROOT / "configs" / f"{config}.py"
    argv = ["compile_check", f"--config={file}", *sizes, *SMALL, *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    level = logging.get_absl_logger().level
    try:
      with flagsaver.flagsaver():
        compile_check.main(command.parse(argv))
    finally:
      logging.get_absl_logger().setLevel(level)

  monkeypatch.chdir(tiny.ROOT)
  return check


@pytest.fixture
def measure_nothing(monkeypatch):
  """Gives every program a GiB, without compiling it."""
  monkeypatch.setattr(
    program,
    "measure",
    lambda item: program.Figures(item.name, temporaries=2**30),
  )


def error_of(check, *arguments, **options) -> str:
  with pytest.raises(SystemExit) as exit_:
    check(*arguments, **options)
  return str(exit_.value.code)


class TestMain:
  def test_tells_what_every_program_needs(self, check, capsys, tmp_path):
    file = tmp_path / "figures.json"
    check("--topology=cpu:8", f"--json={file}", "--device_memory_gib=1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cpu:8: 8 x cpu of 1.00 GiB"
    assert lines[1].startswith(
      "1,000 training and 80 test images of 10 classes"
    )
    names = [line[:22].strip() for line in lines[3:-1]]
    assert names == ["MiB per device", *NAMES]
    assert re.fullmatch(
      r"Largest: '[\w ]+', 0\.0\d GiB per device, \d\.\d% of its memory\."
      " Everything fits.",
      lines[-1],
    )
    content = json.loads(file.read_text())
    assert content["fits"] is True
    assert content["device_memory"] == 2**30
    figures = {row["name"]: row for row in content["programs"]}
    assert list(figures) == NAMES
    shard = 4 * 125 * DIM
    head = 4 * (DIM * 10 + 10)
    assert figures["predict"]["arguments"] == shard + head
    assert figures["predict"]["outputs"] == 4 * 125 * 10
    for row in content["programs"]:
      assert (
        row["total"]
        == sum(
          row[name]
          for name in (
            "arguments",
            "outputs",
            "temporaries",
            "code",
            "resident",
          )
        )
        - row["aliased"]
      )

  def test_says_what_does_not_fit_and_what_helps(self, check, measure_nothing):
    message = error_of(check, "--topology=cpu:8", "--device_memory_gib=0.5")
    lines = message.splitlines()
    assert len(lines) == len(NAMES)
    assert lines[1] == (
      "'features of a batch' needs 1.00 GiB per device of 0.50 GiB. It helps: a"
      " smaller `system.embed_batch_size`, or more devices."
    )

  def test_writes_the_figures_of_what_does_not_fit(
    self, check, measure_nothing, tmp_path
  ):
    file = tmp_path / "figures.json"
    error_of(
      check, "--topology=cpu:8", "--device_memory_gib=0.5", f"--json={file}"
    )
    assert json.loads(file.read_text())["fits"] is False

  def test_fails_where_the_compiler_has_no_room(self, check, monkeypatch):
    monkeypatch.setattr(
      program,
      "measure",
      lambda item: program.Figures(item.name, refusal="2T exceeds 1G."),
    )
    message = error_of(check, "--topology=cpu:8")
    assert "more than the compiler has (2T exceeds 1G). It helps:" in message

  def test_compares_with_no_device_where_there_is_none(
    self, check, measure_nothing, capsys, tmp_path
  ):
    file = tmp_path / "figures.json"
    check("--topology=cpu:8", f"--json={file}")
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "cpu:8: 8 x cpu"
    assert "--device_memory_gib compares it with a device." in out
    assert json.loads(file.read_text())["fits"] is None

  def test_takes_the_memory_of_the_kind(
    self, check, measure_nothing, monkeypatch
  ):
    monkeypatch.setattr(topology, "device_memory", lambda mesh: 2**29)
    assert "1.00 GiB per device of 0.50 GiB" in error_of(
      check, "--topology=cpu:8"
    )

  @each("name", ["badge", "decern_multilabel"])
  def test_names_a_strategy_that_is_not_compiled(
    self, check, measure_nothing, capsys, tmp_path, name
  ):
    file = tmp_path / "figures.json"
    check(
      "--topology=cpu:8",
      f"--config.selection.strategy={name}",
      f"--json={file}",
    )
    out = capsys.readouterr().out
    assert f"The selection by '{name}' is left out: only that of decern" in out
    content = json.loads(file.read_text())
    assert content["not_compiled"] == [name]
    assert [row["name"] for row in content["programs"]] == NAMES[:3]

  def test_tells_of_a_batch_that_is_not_split(
    self, check, measure_nothing, capsys
  ):
    check(
      "--topology=cpu:8",
      "--config.train.method=supervised",
      "--config.train.scope=all",
      "--config.train.batch_size=12",
    )
    assert (
      "  12 images do not divide over 8 devices:" in capsys.readouterr().out
    )

  def test_takes_the_number_of_devices_of_a_run(
    self, check, measure_nothing, capsys
  ):
    check("--topology=cpu:8", "--config.system.num_devices=2")
    assert "cpu:8: 2 x cpu" in capsys.readouterr().out

  @each(
    "arguments, message",
    [
      (["--topology=v5e"], "got 'v5e'"),
      (["--topology=cpu:99"], "got 'cpu:99'"),
      (["--topology=cpu:8", "--json=no/such/x.json"], "got no/such/x.json"),
      (["--topology=cpu:8", "--config.num_rounds=0"], "`num_rounds`, got 0"),
      (["--topology=cpu:8", "--num_train=50"], "got 60"),
    ],
  )
  def test_tells_of_mistakes_before_it_compiles(
    self, check, monkeypatch, arguments, message
  ):
    monkeypatch.setattr(round_programs, "list_programs", None)
    assert message in error_of(check, *arguments)

  def test_names_the_sizes_that_are_not_published(self, check):
    assert "Expected --num_train, --num_test, --num_classes for" in error_of(
      check, "--topology=cpu:8", sizes=()
    )

  def test_asks_for_the_memory_of_an_unknown_kind(self, check, monkeypatch):
    class Unknown:
      platform, device_kind = "tpu", "TPU v99"

    class Mesh:
      devices = np.array([Unknown()])

    monkeypatch.setattr(topology, "make_mesh", lambda name, **options: Mesh())
    message = error_of(check, "--topology=v99:2x2")
    assert "Expected `--device_memory_gib`" in message
    assert "'TPU v99' is not known" in message


class TestCommand:
  def run(self, *arguments: str) -> subprocess.CompletedProcess:
    removed = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "JAX_COMPILATION_CACHE_DIR")
    environment = {
      name: value for name, value in os.environ.items() if name not in removed
    }
    return subprocess.run(
      [
        *(sys.executable, "-m", "decern_jax.compile_check"),
        *("--config=configs/quickstart.py", *SIZES, *SMALL, *arguments),
      ],
      cwd=tiny.ROOT,
      env={**environment, "JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      timeout=300,
      check=False,
    )

  def test_simulates_the_devices_and_fails_if_a_program_does_not_fit(self):
    done = self.run(
      "--topology=cpu:3",
      "--config.selection.strategy=random",
      "--device_memory_gib=0.0001",
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("cpu:3: 3 x cpu of 0.00 GiB\n")
    assert "error: 'training of the head' needs" in done.stderr

  @each("missing", ["config", "topology"])
  def test_needs_both_flags(self, missing):
    given = [
      *("--config=configs/quickstart.py", "--topology=cpu:2"),
    ]
    done = subprocess.run(
      [
        *(sys.executable, "-m", "decern_jax.compile_check"),
        *(flag for flag in given if not flag.startswith(f"--{missing}")),
      ],
      cwd=tiny.ROOT,
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )
    assert done.returncode != 0
    assert f"--{missing}" in done.stdout + done.stderr

  @pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is missing"
  )
  def test_compiles_for_tpus(self):
    done = self.run("--topology=v5e:2x2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("v5e:2x2: 4 x TPU v5 lite of 15.75 GiB\n")
    assert done.stdout.endswith("Everything fits.\n")
    assert all(f"\n{name} " in done.stdout for name in NAMES)
