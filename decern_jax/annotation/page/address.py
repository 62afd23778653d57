"""The address of the page: a port, and a secret that is the key to it.

Both are kept with the run, for its owner's eyes alone, so that a page that
stands open in a browser goes on when its server is started again.
"""

import contextlib
import json
import os
import re
import secrets
import stat
from typing import NamedTuple

from etils import epath

HOST = "127.0.0.1"
FILE_NAME = "page_address.json"

_NUM_SECRET_BYTES = 24
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")


class Address(NamedTuple):
  """Where the page is.

  Attributes:
    port: Port of this machine; 0: any that is free.
    token: The secret that every request must name.
  """

  port: int
  token: str

  @property
  def url(self) -> str:
    """What a browser opens."""
    return f"http://{HOST}:{self.port}/{self.token}/"


def choose(path: epath.PathLike) -> Address:
  """Returns the address that a file keeps, or a new one at any port.

  A file that others could read, or wrote, is not trusted.

  Args:
    path: A file that `keep` has written, or none.
  """
  with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
    kept = json.loads(_read_private(path))
    port, token = int(kept["port"]), kept["token"]
    if 0 < port < 2**16 and _TOKEN.fullmatch(token):
      return Address(port, token)
  return Address(0, secrets.token_urlsafe(_NUM_SECRET_BYTES))


def keep(path: epath.PathLike, address: Address) -> None:
  """Keeps an address for the next start, where that is possible.

  Args:
    path: The file; whoever is not its owner cannot read it.
    address: The address.
  """
  with contextlib.suppress(OSError):
    # What is there may be readable, or be held open, by others.
    epath.Path(path).unlink(missing_ok=True)
    only_if_new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(path, only_if_new, 0o600), "w") as file:
      json.dump(address._asdict(), file)


def _read_private(path: epath.PathLike) -> bytes:
  """Reads a file of this user, that nobody else can read or write."""
  with open(path, "rb") as file:
    status = os.fstat(file.fileno())
    is_open_to_others = status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if status.st_uid != os.getuid() or is_open_to_others:
      raise PermissionError(f"{path} is not private.")
    return file.read()
