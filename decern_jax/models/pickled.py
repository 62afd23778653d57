"""PyTorch's pickled weights: refused, with the command that converts them."""

import json
import os
import pathlib
import shlex

from decern_jax.models.hub import HubFile

SUFFIXES = (".bin", ".pt", ".pth")


def check_local(file: str | os.PathLike[str]) -> None:
  """Refuses a file whose name says that it is pickled.

  Args:
    file: A local file of weights, there or not; `~` is the home folder.

  Raises:
    ValueError: If it is one; says how to convert it.
  """
  path = pathlib.Path(file).expanduser()
  if path.suffix in SUFFIXES:
    target = os.fspath(path.with_suffix(".safetensors"))
    _refuse(os.fspath(path), "", _quoted(os.fspath(path)), target)


def check_hub(file: HubFile) -> None:
  """Refuses a file of the Hub whose name says that it is pickled.

  Args:
    file: The file, there or not; nothing is downloaded.

  Raises:
    ValueError: If it is one; says how to download and convert it.
  """
  path = pathlib.PurePosixPath(file.file)
  if path.suffix in SUFFIXES:
    place = f"{_quoted(file.repo)}, {_quoted(file.file)}"
    if file.revision:
      place += f", revision={_quoted(file.revision)}"
    source = f"h.hf_hub_download({place})"
    modules = ", huggingface_hub as h"
    _refuse(str(file), modules, source, f"{path.stem}.safetensors")


def _refuse(found: str, modules: str, source: str, target: str) -> None:
  # Tensors of one memory are cloned: safetensors refuses them.
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
  """Python's literal in double quotes, which the shell's single ones keep."""
  return json.dumps(text, ensure_ascii=False)
