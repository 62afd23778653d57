"""The configurations of `configs/`, from a checkout or as installed."""

import pathlib
from typing import TYPE_CHECKING, Any

_installed = pathlib.Path(__file__).with_suffix("")
_checkout = _installed.parents[1] / "configs"
__path__ = [str(_installed if _installed.is_dir() else _checkout)]

if TYPE_CHECKING:

  def __getattr__(name: str) -> Any: ...
