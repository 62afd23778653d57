"""Tests of decern_jax/cli/predict.py."""

import csv
import functools
import os
import shutil
import subprocess
import sys
from typing import Any

from absl import flags, logging
from absl.testing import flagsaver
import cv2
from etils import epath
import numpy as np
import pytest
from scipy import special

from decern_jax.cli import config_flag, main, predict
from decern_jax.ops.head import logits
from decern_jax.runs import model_file, records
from decern_jax.training import evaluation
from tests import tiny
from tests.table import each

EVALUATE = evaluation.evaluate_head


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("predict")
  tiny.write_image_folder(folder / "data")
  tiny.write_weights(folder / "weights.safetensors")
  return folder


@pytest.fixture(scope="module")
def run(folder):
  """The folder of a finished run, and the probabilities of its last test."""
  config = tiny.make_config(
    folder / "data",
    folder / "weights.safetensors",
    folder / "cache",
    num_rounds=1,
    selection__initial_budget=8,
    train__learning_rate=0.03,
    system__embed_batch_size=8,
  )
  probs = []

  def evaluate(head, features, labels, valid):
    outputs = special.softmax(np.asarray(logits(head, features)), axis=-1)
    probs.append(outputs[np.asarray(valid)])
    return EVALUATE(head, features, labels, valid)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(evaluation, "evaluate_head", evaluate)
    main.run(config, epath.Path(folder / "run"))
  return folder / "run", probs[-1]


@pytest.fixture(scope="module")
def workdir(run):
  """The folder of a finished run."""
  return run[0]


@pytest.fixture
def images(folder, tmp_path):
  """A copy of the test images, to be changed."""
  return shutil.copytree(folder / "data" / "test", tmp_path / "images")


@pytest.fixture
def label(workdir, images, tmp_path):
  """Labels images and reads the file, header included."""

  def label(
    workdir=workdir,
    output=tmp_path / "out.csv",
    images=images,
    **options: Any,
  ):
    settings = {"top": 5, "batch_size": 8, "num_workers": 2, **options}
    predict.predict(workdir, images, output, **settings)
    with open(
      output, newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
      return list(csv.reader(file))

  return label


@pytest.fixture
def forbid_work(monkeypatch):
  """Makes the test fail if the model is loaded."""
  monkeypatch.setattr(
    predict.model_file, "load", lambda path: pytest.fail("work began")
  )


def probs_by_path(rows: list[list[str]]) -> dict[str, np.ndarray]:
  """Returns the probabilities of each image in the order of the classes."""
  found = {}
  for path, *pairs in rows[1:]:
    of_class = dict(zip(pairs[::2], map(float, pairs[1::2]), strict=True))
    found[path] = np.array([of_class[name] for name in tiny.CLASSES])
  return found


class TestPredict:
  def test_probabilities_are_those_of_the_run(self, run, label):
    workdir, expected = run
    found = probs_by_path(label(workdir))
    assert list(found) == [
      f"{name}/{number:02d}.png" for name in tiny.CLASSES for number in range(6)
    ]
    np.testing.assert_allclose(
      list(found.values()), expected, rtol=0, atol=1e-6
    )

  def test_is_right_as_often_as_the_run(self, workdir, label):
    rows = label(top=1)[1:]
    right = [path.split("/")[0] == name for path, name, _ in rows]
    record = records.read(workdir)[-1]
    assert np.mean(right) == pytest.approx(record["test"]["accuracy"])
    assert np.mean(right) > 0.3

  @each("top", [1, 3, 5])
  def test_has_the_most_probable_classes_first(self, label, top):
    header, *rows = label(top=top)
    count = min(top, len(tiny.CLASSES))
    assert len(header) == 1 + 2 * count
    assert len(rows) == 24
    for row in rows:
      probs = [float(value) for value in row[2::2]]
      assert probs == sorted(probs, reverse=True)
      assert len(set(row[1::2])) == count

  @each(
    "options", [{"batch_size": 5}, {"batch_size": 24}, {"num_workers": None}]
  )
  def test_does_not_depend_on_batches_and_threads(self, label, options):
    found = probs_by_path(label(**options))
    expected = probs_by_path(label())
    assert list(found) == list(expected)
    for path, probs in found.items():
      np.testing.assert_allclose(probs, expected[path], rtol=0, atol=1e-5)

  def test_tells_how_many_and_where(self, label, tmp_path, capsys):
    label()
    line = f"Labeled 24 images in {tmp_path / 'out.csv'}.\n"
    assert capsys.readouterr().out == line

  def test_unusual_names_are_kept(self, label, images):
    names = [b'a,"b"\n.png', b"caf\xe9.png", "蟻 .PNG".encode()]
    for number, name in enumerate(names):
      path = os.path.join(os.fsencode(images), b"ant", b"%02d.png" % number)
      os.rename(path, os.path.join(os.fsencode(images), name))
    found = [os.fsencode(row[0]) for row in label()[1:]]
    assert set(names) < set(found)
    assert len(found) == 24

  def test_leaves_out_what_cannot_be_read_with_a_warning(
    self, label, images, warnings
  ):
    before = probs_by_path(label())
    broken = images / "bee" / "03.png"
    broken.write_bytes(broken.read_bytes()[:100])
    (images / "ant" / "00.png").write_text("")
    (images / "ant" / "lost.jpg").symlink_to(images / "nowhere.jpg")
    after = probs_by_path(label())
    assert set(before) - set(after) == {"ant/00.png", "bee/03.png"}
    for path, probs in after.items():
      np.testing.assert_allclose(probs, before[path], rtol=0, atol=1e-5)
    (message,) = warnings
    assert message.startswith("Left out 3 of 25 images, which cannot be read")
    for path in ("'ant/00.png' (", "'ant/lost.jpg' (", "'bee/03.png' ("):
      assert path in message

  def test_rejects_a_folder_of_unreadable_images(self, label, tmp_path):
    (tmp_path / "broken").mkdir()
    for name in ("a.png", "b.jpg"):
      (tmp_path / "broken" / name).write_text("text")
    with pytest.raises(ValueError, match=r"got 2 that cannot: 'a\.png' \(.*'b"):
      label(images=tmp_path / "broken")
    assert not (tmp_path / "out.csv").exists()

  @each(
    "options, message",
    [
      ({"top": 0}, "1 <= `top`, got 0"),
      ({"batch_size": 0}, "1 <= `batch_size`, got 0"),
      ({"num_workers": 0}, "1 <= `num_workers`, got 0"),
      ({"images": "nowhere"}, "`images` to be a folder, got nowhere: no such"),
    ],
  )
  @pytest.mark.usefixtures("forbid_work")
  def test_rejects_an_option_before_the_work(self, label, options, message):
    with pytest.raises(ValueError, match=message):
      label(**options)

  @pytest.mark.usefixtures("forbid_work")
  def test_rejects_an_output_before_the_work(self, label, tmp_path):
    with pytest.raises(ValueError, match=r"can be written, got .*/no/out\.csv"):
      label(output=tmp_path / "no" / "out.csv")

  @each("name", ["model.safetensors", "config.json", "data.json"])
  def test_rejects_a_run_that_is_not_finished(
    self, label, workdir, tmp_path, monkeypatch, name
  ):
    monkeypatch.setattr(
      model_file.models, "create", lambda *args, **kw: pytest.fail("work began")
    )
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(ValueError, match=f"run without {name}"):
      label(tmp_path / "run")


def run_command(*arguments: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, "-m", "decern_jax.predict", *arguments],
    env={
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "PYTHONPATH": os.fspath(tiny.ROOT),
    },
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


class TestCommand:
  def test_labels_and_warns(self, workdir, images, tmp_path):
    (images / "broken.png").write_text("text")
    cv2.imwrite(os.fspath(images / "x.webp"), np.full((5, 300), 9, np.uint8))
    output = tmp_path / "out.csv"
    result = run_command(
      f"--workdir={workdir}",
      f"--images={images}",
      f"--output={output}",
      "--top=1",
      "--batch_size=8",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"Labeled 25 images in {output}.\n"
    (warning,) = result.stderr.splitlines()
    assert "Left out 1 of 26 images" in warning
    lines = output.read_text().splitlines()
    assert lines[0] == "path,class_1,prob_1"
    assert lines[1].startswith("ant/00.png,")
    assert lines[-1].startswith("x.webp,")
    assert len(lines) == 26

  @each(
    "name, message",
    [
      ("images", "error: Expected `images` to be a folder, got "),
      ("workdir", "error: Expected the folder of a finished run, got "),
      ("output", "error: Expected an `output` that can be written, got "),
    ],
  )
  def test_a_mistake_ends_in_a_line(
    self, workdir, folder, tmp_path, name, message
  ):
    values = {
      "workdir": workdir,
      "images": folder / "data" / "test",
      "output": tmp_path / "out.csv",
      name: tmp_path / "no" / "where",
    }
    arguments = [f"--{key}={value}" for key, value in values.items()]
    level = logging.get_absl_logger().level
    with (
      flagsaver.flagsaver(),
      pytest.raises(SystemExit, match=f"^{message}"),
    ):
      predict.main(flags.FLAGS(["predict", *arguments]))
    logging.get_absl_logger().setLevel(level)
    assert not (tmp_path / "out.csv").exists()

  def test_asks_for_its_flags(self):
    result = run_command("--images=a", "--output=b")
    assert result.returncode == 1
    assert result.stderr.startswith("error: Expected --workdir, got none.")
    assert "Traceback" not in result.stderr


class TestFindImages:
  @pytest.fixture
  def make(self, tmp_path):
    def make(*names):
      for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
      return tmp_path

    return make

  def test_is_sorted_and_recursive(self, make):
    root = make("b/c/d.png", "b.png", "a/z.jpg", "B.png", "b/a.png")
    assert predict.find_images(root) == [
      "B.png",
      "a/z.jpg",
      "b.png",
      "b/a.png",
      "b/c/d.png",
    ]

  def test_ignores_hidden_and_other_files(self, make):
    root = make("a.png", ".b.png", ".c/d.png", "e/.f/g.png", "h.txt", "png")
    assert predict.find_images(root) == ["a.png"]

  def test_takes_all_types_in_any_case(self, make):
    names = ["a.BMP", "b.gif", "c.JPEG", "d.Jpg", "e.tif", "f.tiff", "g.webp"]
    assert predict.find_images(make(*names)) == names

  def test_a_folder_may_be_named_like_an_image(self, make):
    assert predict.find_images(make("a.png/b.png")) == ["a.png/b.png"]

  def test_follows_links_once(self, make):
    root = make("a/b/c.png", "d/e.png")
    (root / "a" / "b" / "up").symlink_to(root)
    (root / "a" / "to_d").symlink_to(root / "d")
    (root / "d" / "to_a").symlink_to(root / "a")
    assert predict.find_images(root) == [
      "a/b/c.png",
      "a/to_d/e.png",
      "d/e.png",
      "d/to_a/b/c.png",
    ]

  def test_rejects_a_folder_without_images(self, make):
    with pytest.raises(ValueError, match=r"images in .*'\.png'.*got none"):
      predict.find_images(make("a.txt"))

  def test_rejects_what_is_no_folder(self, make):
    root = make("a.png")
    with pytest.raises(ValueError, match=r"got .*/a\.png: a file"):
      predict.find_images(root / "a.png")
    with pytest.raises(ValueError, match=r"got .*/b: no such folder"):
      predict.find_images(root / "b")


class TestMain:
  @pytest.fixture
  def call(self, call_command):
    return functools.partial(call_command, predict)

  def test_flags_have_defaults(self, call):
    assert call("--workdir=run", "--images=a", "--output=b.csv") == (
      ("run", "a", "b.csv"),
      {"top": 5, "batch_size": 64, "num_workers": None},
    )

  def test_passes_options(self, call):
    _, options = call(
      "--workdir=run", "--top=2", "--batch_size=3", "--num_workers=4"
    )
    assert options == {"top": 2, "batch_size": 3, "num_workers": 4}


class TestWorkdirFlag:
  def test_is_that_of_either_command(self):
    """Both modules define it, whichever is imported first."""
    with flagsaver.flagsaver(workdir="here"):
      assert predict._WORKDIR.value == config_flag.WORKDIR.value == "here"
