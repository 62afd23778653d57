"""Tests of weights on the Hub, by a server on this machine that plays it."""

import ast
import functools
import http.server
import os
import pathlib
import re
import shlex
import subprocess
import sys
import threading

import huggingface_hub
from huggingface_hub import constants
import jax
import numpy as np
import pytest

from decern_jax.models import hub, loading
from tests import tiny
from tests.table import each

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOT = pathlib.Path(__file__).parents[2]


class FakeHub(http.server.BaseHTTPRequestHandler):
  """Serves `server.files`, by (repository, revision) and path."""

  def do_HEAD(self):  # noqa: N802
    self.answer()

  def do_GET(self):  # noqa: N802
    self.wfile.write(self.answer())

  def answer(self):
    """Sends the headers and returns what follows them."""
    owner, repo, _, revision, file = self.path[1:].split("/", 4)
    assert isinstance(self.server, Hub)
    repos = self.server.files
    revision = revision.replace("%2F", "/")
    if (repo_name := f"{owner}/{repo}") == "owner/gated":
      return self.refuse(403, "GatedRepo")
    if repo_name not in {name for name, _ in repos}:
      return self.refuse(404, "RepoNotFound")
    if (repo_name, revision) not in repos:
      return self.refuse(404, "RevisionNotFound")
    if file not in repos[repo_name, revision]:
      return self.refuse(404, "EntryNotFound")
    content = repos[repo_name, revision][file]
    self.send_response(200)
    self.send_header("X-Repo-Commit", COMMIT)
    self.send_header("ETag", f'"{hash(content):x}"')
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    return content

  def refuse(self, status, code):
    self.send_response(status)
    self.send_header("X-Error-Code", code)
    self.send_header("Content-Length", "0")
    self.end_headers()
    return b""

  def log_message(self, *unused_args):
    """Keeps quiet."""


class Hub(http.server.ThreadingHTTPServer):
  """Has files by (repository, revision) and path."""

  def __init__(self, files: dict[tuple[str, str], dict[str, bytes]]):
    super().__init__(("127.0.0.1", 0), FakeHub)
    self.files, self.url = files, f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def weights(tmp_path):
  """A file of random weights of `small_cnn`."""
  return tiny.write_weights(tmp_path / "w.safetensors")


@pytest.fixture
def server(weights):
  """A Hub with one repository."""
  content = weights.read_bytes()
  server = Hub(
    {
      ("owner/repo", "main"): {"model.safetensors": content},
      ("owner/repo", "refs/pr/1"): {"part/tuned.safetensors": content},
    }
  )
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  yield server
  server.shutdown()
  server.server_close()
  thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """An empty cache."""
  folder = tmp_path / "cache"
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
  return folder


@pytest.fixture
def offline(cache, monkeypatch):
  """The cache alone, without a Hub."""
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  return cache


@pytest.fixture
def online(server, cache, monkeypatch):
  """The Hub of this machine, and the cache."""
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
  download = functools.partial(
    huggingface_hub.hf_hub_download, endpoint=server.url
  )
  monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
  return server


def fill(cache, repo, file, content, revision="main"):
  """Puts a file where `huggingface_hub` keeps it."""
  folder = cache / f"models--{repo.replace('/', '--')}"
  snapshot = folder / "snapshots" / COMMIT / file
  blob = folder / "blobs" / "etag"
  reference = folder / "refs" / revision
  for path in (snapshot, blob, reference):
    path.parent.mkdir(parents=True, exist_ok=True)
  blob.write_bytes(content)
  snapshot.symlink_to(os.path.relpath(blob, snapshot.parent))
  reference.write_text(COMMIT)


def create(weights):
  return loading.create("small_cnn", weights=weights, image_size=32)


class TestIsHubName:
  @each("name", ["hf://", "hf://owner/repo"])
  def test_is_told_by_the_prefix(self, name):
    assert hub.is_hub_name(name)

  @each("name", ["w.safetensors", pathlib.Path("hf://a/b")])
  def test_local_files_are_none(self, name):
    assert not hub.is_hub_name(name)


class TestParse:
  @each(
    "name, file",
    [
      (
        "hf://timm/vit_small_patch16_224.dino",
        ("timm/vit_small_patch16_224.dino", None, "model.safetensors"),
      ),
      ("hf://o/r@v1.0", ("o/r", "v1.0", "model.safetensors")),
      ("hf://o/r/a/b.safetensors", ("o/r", None, "a/b.safetensors")),
      ("hf://o/r@v1/b.safetensors", ("o/r", "v1", "b.safetensors")),
      ("hf://o/r@refs/pr/1", ("o/r", "refs/pr/1", "model.safetensors")),
      ("hf://o/r@refs/pr/1/b.file", ("o/r", "refs/pr/1", "b.file")),
      ("hf://o/r@my%2Fbranch/b.file", ("o/r", "my/branch", "b.file")),
    ],
  )
  def test_reads_every_form(self, name, file):
    assert hub.parse(name) == file

  @each(
    "name",
    [
      "hf://",
      "hf://repo",
      "hf://owner/",
      "hf://owner/repo/",
      "hf://owner/repo@",
      "hf://owner/repo@/file",
      "hf://owner/re po",
      "hf://owner/repo/../file",
      "hf://owner/repo/file@main",
    ],
  )
  def test_rejects_other_forms(self, name):
    message = (
      f"hf://owner/repo[@revision][/path/file.safetensors], got {name!r}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
      hub.parse(name)


class TestFetch:
  def test_downloads_once_and_then_needs_no_hub(
    self, online, weights, monkeypatch
  ):
    backbone = create("hf://owner/repo")
    assert backbone.fingerprint == create(weights).fingerprint
    online.files[("owner/repo", "main")] = {}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert create("hf://owner/repo").fingerprint == backbone.fingerprint

  def test_downloads_a_named_file_of_a_revision(self, online, weights):
    name = "hf://owner/repo@refs/pr/1/part/tuned.safetensors"
    path = hub.fetch(hub.parse(name))
    assert path.name == "tuned.safetensors"
    assert path.read_bytes() == weights.read_bytes()

  def test_takes_a_newer_file(self, online, tmp_path):
    create("hf://owner/repo")
    newer = tiny.write_weights(tmp_path / "newer.safetensors", seed=1)
    # A new commit has a new folder; this Hub has one, so the old one goes.
    for link in (tmp_path / "cache").rglob("model.safetensors"):
      link.unlink()
    online.files[("owner/repo", "main")] = {
      "model.safetensors": newer.read_bytes()
    }
    assert create("hf://owner/repo").fingerprint == create(newer).fingerprint

  @each("revision", ["main", "v1"])
  def test_offline_reads_a_cache_that_others_filled(
    self, offline, weights, revision
  ):
    repo = f"o/{revision}"
    fill(offline, repo, "a/w.safetensors", weights.read_bytes(), revision)
    backbone = create(f"hf://{repo}@{revision}/a/w.safetensors")
    assert backbone.fingerprint == create(weights).fingerprint

  def test_rejects_what_is_not_cached_offline(self, offline):
    message = (
      "got 'w.safetensors' of 'o/r' at the default branch: the Hub was not "
      "reached (no connection, or HF_HUB_OFFLINE is set) and the cache in "
      f"{offline} has no such file; download it"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
      create("hf://o/r/w.safetensors")

  @each(
    "name, message",
    [
      ("owner/repos", "no such repository, or a private one; check the name"),
      ("owner/gated", "gated; ask for access on its page and set HF_TOKEN"),
      ("owner/repo@v2", "no such revision; check what follows the @"),
      (
        "owner/repo/w.safetensors",
        "no such file there; append the path of one",
      ),
    ],
  )
  def test_says_what_the_hub_refuses(self, online, name, message):
    with pytest.raises(ValueError, match=message) as error:
      create(f"hf://{name}")
    found = str(hub.parse(f"hf://{name}"))
    assert f"on the Hugging Face Hub, got {found}: " in str(error.value)

  def test_rejects_names_that_the_hub_cannot_have(self, online):
    with pytest.raises(ValueError, match="got .*: HFValidationError: "):
      create("hf://owner/.repo-")

  def test_tells_other_errors_in_one_line(self, cache, monkeypatch):
    def fail(*unused_args, **unused_options):
      raise OSError("No space left\non device.")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ValueError, match="OSError: No space left on device.$"):
      create("hf://owner/repo")

  def test_follows_the_environment(self, server, weights, tmp_path):
    def fetch(**changes):
      # The module by its path: the package would import JAX.
      script = (
        "import runpy; hub = runpy.run_path('decern_jax/models/hub.py');"
        " print(hub['fetch'](hub['parse']('hf://owner/repo')))"
      )
      return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), **changes},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
      ).stdout.strip()

    downloaded = fetch(HF_ENDPOINT=server.url, HF_HUB_OFFLINE="0")
    assert pathlib.Path(downloaded).is_relative_to(tmp_path / "home")
    assert pathlib.Path(downloaded).read_bytes() == weights.read_bytes()
    assert fetch(HF_HUB_OFFLINE="1") == downloaded


class TestHubFile:
  def test_reads_as_file_repository_and_revision(self):
    file = hub.HubFile("o/r", "v1", "w.file")
    assert str(file) == "'w.file' of 'o/r' at v1"


def command_of(error):
  """The command that a message ends with, as a shell would split it."""
  return shlex.split(str(error.value).partition(" with: ")[2])


class TestCheckNotPickledFile:
  @each("suffix", [".pth", ".pt", ".bin"])
  def test_rejects_names_of_pickled_files(self, tmp_path, suffix):
    file = tmp_path / f"w{suffix}"
    with pytest.raises(ValueError, match=re.escape(f"got {file}: pickled")):
      hub.check_not_pickled_file(file)

  def test_accepts_other_names(self, tmp_path):
    hub.check_not_pickled_file(tmp_path / "weights.pth.safetensors")

  def test_never_reads_the_file(self, tmp_path):
    file = tmp_path / "w.pth"
    # A pickle that raises ZeroDivisionError when it is read.
    file.write_bytes(b"cbuiltins\neval\n(S'1/0'\ntR.")
    with pytest.raises(ValueError, match="never read here"):
      loading.create("resnet18", weights=file, image_size=32)

  @each("folder", ["plain", 'it\'s a $HOME "folder"'])
  def test_command_is_one_program_that_names_both_files(self, tmp_path, folder):
    file = tmp_path / folder / "small.pth"
    with pytest.raises(ValueError, match="Write its tensors to") as error:
      hub.check_not_pickled_file(file)
    program, flag, code = command_of(error)
    assert (program, flag) == ("python", "-c")
    texts = [
      node.value
      for node in ast.walk(ast.parse(code))
      if isinstance(node, ast.Constant)
    ]
    assert str(file) in texts
    assert str(file.with_suffix(".safetensors")) in texts

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
    _, *arguments = command_of(error)
    subprocess.run([sys.executable, *arguments], check=True, timeout=120)
    converted = loading.create(
      "small_cnn", weights=file.with_suffix(".safetensors"), image_size=32
    )
    assert converted.fingerprint == shipped.fingerprint
    assert converted.head is not None
    np.testing.assert_array_equal(converted.head.kernel, kernel)


class TestCheckNotPickled:
  def test_command_downloads_and_converts(self):
    file = hub.HubFile("owner/repo", "refs/pr/1", "part/w.bin")
    with pytest.raises(ValueError, match=r"got 'part/w.bin' of ") as error:
      hub.check_not_pickled(file)
    _, flag, code = command_of(error)
    place = '"owner/repo", "part/w.bin", revision="refs/pr/1"'
    assert flag == "-c"
    assert f"h.hf_hub_download({place})" in code
    assert '"w.safetensors"' in code
    ast.parse(code)

  def test_default_revision_is_left_out(self):
    file = hub.HubFile("owner/repo", None, "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled") as error:
      hub.check_not_pickled(file)
    assert "revision" not in command_of(error)[2]

  def test_accepts_safetensors(self):
    hub.check_not_pickled(hub.HubFile("owner/repo", None, hub.DEFAULT_FILE))
