"""Tests of what is said of pickled weights."""

import re
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest

from decern_jax.models import hub, loading, pickled
from tests.table import each


def command_of(error):
  """The command that a message ends with, as a shell would split it."""
  return shlex.split(str(error.value).partition(" with: ")[2])


class TestCheckLocal:
  @each("suffix", [".pth", ".pt", ".bin"])
  def test_rejects_names_of_pickled_files(self, tmp_path, suffix):
    file = tmp_path / f"w{suffix}"
    with pytest.raises(ValueError, match=re.escape(f"got {file}: pickled")):
      pickled.check_local(file)

  def test_accepts_other_names(self, tmp_path):
    pickled.check_local(tmp_path / "weights.pth.safetensors")

  def test_never_reads_the_file(self, tmp_path):
    file = tmp_path / "w.pth"
    # A pickle that raises ZeroDivisionError when it is read.
    file.write_bytes(b"cbuiltins\neval\n(S'1/0'\ntR.")
    with pytest.raises(ValueError, match="never read here"):
      loading.create("resnet18", weights=file, image_size=32)

  @each("folder", ["plain", 'it\'s a $HOME "folder"'])
  def test_command_converts_a_file(self, tmp_path, folder):
    torch = pytest.importorskip("torch")
    file = tmp_path / folder / "small.pth"
    file.parent.mkdir()
    shipped = loading.create("small_cnn", image_size=32)
    named = {
      "params." + ".".join(key.key for key in path): torch.tensor(
        np.asarray(leaf)
      )
      for path, leaf in jax.tree.leaves_with_path(shipped.variables["params"])
    }
    # As in a state dict: a view, and two names of one tensor.
    kernel = named["params.project.kernel"]
    named["params.project.kernel"] = kernel.T.contiguous().T
    named["head.kernel"] = named["params.project.kernel"]
    named["head.bias"] = named["params.project.bias"]
    torch.save(named, file)
    with pytest.raises(ValueError, match="Write its tensors to") as error:
      loading.create("small_cnn", weights=file, image_size=32)
    program, *arguments = command_of(error)
    assert program == "python"
    subprocess.run([sys.executable, *arguments], check=True, timeout=120)
    converted = loading.create(
      "small_cnn", weights=file.with_suffix(".safetensors"), image_size=32
    )
    assert converted.fingerprint == shipped.fingerprint
    np.testing.assert_array_equal(converted.head.kernel, kernel)


class TestCheckHub:
  def test_command_downloads_and_converts(self, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a.weight": torch.ones(2, 3)}, tmp_path / "there.bin")
    file = hub.HubFile("owner/repo", "refs/pr/1", "part/w.bin")
    with pytest.raises(ValueError, match=r"got 'part/w.bin' of ") as error:
      pickled.check_hub(file)
    _, flag, code = command_of(error)
    place = '"owner/repo", "part/w.bin", revision="refs/pr/1"'
    assert flag == "-c"
    assert f"h.hf_hub_download({place})" in code
    # The download itself is the business of `huggingface_hub`.
    code = code.replace(f"h.hf_hub_download({place})", '"there.bin"')
    subprocess.run(
      [sys.executable, "-c", code], check=True, timeout=120, cwd=tmp_path
    )
    assert (tmp_path / "w.safetensors").is_file()

  def test_default_revision_is_left_out(self):
    file = hub.HubFile("owner/repo", None, "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled") as error:
      pickled.check_hub(file)
    assert "revision" not in command_of(error)[2]

  def test_accepts_safetensors(self):
    pickled.check_hub(hub.HubFile("owner/repo", None, hub.DEFAULT_FILE))
