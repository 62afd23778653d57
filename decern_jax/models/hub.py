"""Weights on the Hugging Face Hub, and pickled weights, which are refused.

A file of the Hub is named `hf://owner/repo@revision/file`.
"""

import json
import os
import pathlib
import re
import shlex
from typing import NamedTuple
import urllib.parse

from decern_jax.io import extras

PREFIX = "hf://"
DEFAULT_FILE = "model.safetensors"
PICKLED_SUFFIXES = (".bin", ".pt", ".pth")

FORM = f"{PREFIX}owner/repo[@revision][/path/file.safetensors]"
_PATTERN = re.compile(
  r"hf://(?P<repo>[\w.-]+/[\w.-]+)"
  # The revision of a pull request contains slashes.
  r"(?:@(?P<revision>refs/[\w.-]+/[\w.-]+|[^/@]+))?"
  r"(?:/(?P<file>[^@]+))?"
)


class HubFile(NamedTuple):
  """A file of a repository.

  Attributes:
    repo: Owner and name, as in `"timm/vit_small_patch16_224.dino"`.
    revision: Branch, tag or commit; None for the default branch.
    file: Path in the repository.
  """

  repo: str
  revision: str | None
  file: str

  def __str__(self) -> str:
    revision = self.revision or "the default branch"
    return f"{self.file!r} of {self.repo!r} at {revision}"


def is_hub_name(weights: str | os.PathLike[str]) -> bool:
  """Returns whether weights are named by their place on the Hub."""
  return isinstance(weights, str) and weights.startswith(PREFIX)


def parse(name: str) -> HubFile:
  """Parses the name of a file on the Hub.

  Args:
    name: `hf://owner/repo[@revision][/path/file]`. The default file is
      `model.safetensors`; `%2F` in a revision is a slash.

  Raises:
    ValueError: If the name has another form.
  """
  match = _PATTERN.fullmatch(name)
  if match is None or ".." in name or "--" in match["repo"]:
    raise ValueError(f"Expected weights named {FORM}, got {name!r}.")
  revision = match["revision"]
  return HubFile(
    match["repo"],
    urllib.parse.unquote(revision) if revision else None,
    match["file"] or DEFAULT_FILE,
  )


def fetch(file: HubFile) -> pathlib.Path:
  """Downloads a file of the Hub, unless the newest one is in the cache.

  The environment variables of `huggingface_hub` apply: `HF_HOME` is the place
  of the cache, `HF_HUB_OFFLINE=1` uses only the cache, `HF_TOKEN` opens private
  repositories. Without a connection the cached file is used.

  Raises:
    ValueError: If the repository, revision or file does not exist, if access
      is refused, or if the Hub is not reached and the cache lacks the file.
  """
  with extras.needed("hub", f"The file {file}"):
    import huggingface_hub
    from huggingface_hub import errors

  try:
    path = huggingface_hub.hf_hub_download(
      file.repo, file.file, revision=file.revision
    )
  # A lost connection is an HTTPError, a full disk an OSError.
  except (
    errors.HFValidationError,
    errors.HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    OSError,
  ) as error:
    raise ValueError(
      f"Expected weights on the Hugging Face Hub, got {file}: "
      f"{_explain(error)}."
    ) from error
  return pathlib.Path(path)


def _explain(error: Exception) -> str:
  """Returns what went wrong and what to do; subclasses come first."""
  from huggingface_hub import constants, errors

  match error:
    case errors.GatedRepoError():
      return (
        "the repository is gated; ask for access on its page and set HF_TOKEN"
      )
    case errors.RepositoryNotFoundError():
      return (
        "no such repository, or a private one; check the name, or set HF_TOKEN"
      )
    case errors.RevisionNotFoundError():
      return "no such revision; check what follows the @"
    case errors.LocalEntryNotFoundError():
      return (
        "the Hub was not reached (no connection, or HF_HUB_OFFLINE is set) and "
        f"the cache in {constants.HF_HUB_CACHE} has no such "
        "file; download it where there is a connection, or name a local file"
      )
    case errors.EntryNotFoundError():
      return "no such file there; append the path of one that its page lists"
  message = " ".join(str(error).split()).rstrip(".")
  return f"{type(error).__name__}: {message}"


def check_not_pickled_file(file: str | os.PathLike[str]) -> None:
  """Refuses a local file whose extension is that of a pickled file.

  Args:
    file: A local file, which need not exist; `~` is the home folder.

  Raises:
    ValueError: If it is pickled. The message shows how to convert it.
  """
  path = pathlib.Path(file).expanduser()
  if path.suffix in PICKLED_SUFFIXES:
    target = os.fspath(path.with_suffix(".safetensors"))
    _refuse(os.fspath(path), "", _quoted(os.fspath(path)), target)


def check_not_pickled(file: HubFile) -> None:
  """Refuses a file of the Hub whose extension is that of a pickled file.

  Raises:
    ValueError: If it is pickled. The message shows how to download and convert
      it.
  """
  path = pathlib.PurePosixPath(file.file)
  if path.suffix in PICKLED_SUFFIXES:
    place = f"{_quoted(file.repo)}, {_quoted(file.file)}"
    if file.revision:
      place += f", revision={_quoted(file.revision)}"
    source = f"h.hf_hub_download({place})"
    modules = ", huggingface_hub as h"
    _refuse(str(file), modules, source, f"{path.stem}.safetensors")


def _refuse(found: str, modules: str, source: str, target: str) -> None:
  # Cloned, because safetensors refuses tensors that share memory.
  code = (
    f"import torch, safetensors.torch as s{modules}; "
    "s.save_file({k: v.clone().contiguous() for k, v in torch.load("
    f'{source}, map_location="cpu", weights_only=True).items()}}, '
    f"{_quoted(target)})"
  )
  raise ValueError(
    f"Expected a .safetensors file, got {found}: pickled, which is never read "
    "here because it may run any code. Write its tensors to "
    f"{target} with: python -c {shlex.quote(code)}"
  )


def _quoted(text: str) -> str:
  """Returns a Python literal in double quotes, for the shell's single ones."""
  return json.dumps(text, ensure_ascii=False)
