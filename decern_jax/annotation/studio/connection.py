"""A connection to a Label Studio, whose errors say what is wrong."""

from collections.abc import Callable
import re
from typing import Any, TypeVar
import urllib.parse

from decern_jax.annotation.studio.patience import LostError

KEY_VARIABLE = "LABEL_STUDIO_API_KEY"
"""Environment variable that holds the key, which is never written anywhere."""

# The server, or what stands before it, may be there again in a moment.
_TRY_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))

# What stands before the server gave up waiting for it.
_UNCLEAR = frozenset((408, 502, 504))

Answer = TypeVar("Answer")


class MissingError(ValueError):
  """The server says that there is no such thing."""


class Connection:
  """The client of the package label-studio-sdk, and what its errors mean.

  Attributes:
    url: Address of the server, without a slash at the end.
    client: The client, to be called within `call`.
  """

  def __init__(self, url: str, key: str, *, seconds: float):
    """Checks how to reach a server, and reaches for nothing yet.

    Args:
      url: Its address.
      key: The key of a user: a personal access token or a legacy one.
      seconds: How long an answer may take.

    Raises:
      ValueError: If there is no such address or key, or the package is missing.
    """
    self.url = _check_url(url)
    key = _check_key(key)
    self._sdk, self._httpx = _import_sdk()
    # A redirect would turn a request into another one, and the package would
    # repeat on its own what must not be done twice.
    self._http = self._httpx.Client(timeout=seconds, follow_redirects=False)
    self.client = self.call(
      lambda: self._sdk.LabelStudio(
        base_url=self.url,
        api_key=key,
        timeout=seconds,
        max_retries=0,
        httpx_client=self._http,
      )
    )

  def status(self, path: str) -> int:
    """Returns the status that the server gives a path of its own.

    Args:
      path: The path, with a slash at the beginning.

    Raises:
      LostError: As in `call`.
      ValueError: As in `call`.
    """
    # The package has no method for paths that are not of its interface.
    return self.call(
      lambda: (
        self._http.get(
          self.url + path, headers=self.client._client_wrapper.get_headers()
        ).status_code
      )
    )

  def close(self) -> None:
    """Ends it."""
    self._http.close()

  def call(self, ask: Callable[[], Answer]) -> Answer:
    """Returns an answer, or raises an error that shows what is wrong.

    Args:
      ask: Uses the client.

    Returns:
      What it returned.

    Raises:
      LostError: If there was no proper answer; there may be one the next time.
      MissingError: If the server has no such thing.
      ValueError: If it refuses, or is none.
    """
    refused = self._sdk.core.ApiError
    try:
      return ask()
    except self._httpx.TransportError as error:
      raise self._lost(error) from None
    except refused as error:
      raise self._refusal(error) from None
    except (ValueError, TypeError, AttributeError) as error:
      # Where a key is exchanged, or in what the package makes of an answer.
      raise ValueError(
        f"Expected Label Studio at {self.url}, got an answer of another kind"
        f" ({type(error).__name__})."
      ) from None

  def _lost(self, error: Exception) -> LostError:
    unsent = (self._httpx.ConnectError, self._httpx.ConnectTimeout)
    return LostError(
      f"Expected an answer of Label Studio at {self.url}, got"
      f" {str(error).rstrip('.') or type(error).__name__}.",
      is_unclear=not isinstance(error, unsent),
    )

  def _refusal(self, error: Any) -> Exception:
    """Returns the error that tells what the server answered."""
    status = error.status_code
    moved = (error.headers or {}).get("location")
    told = (
      f"status {status}: {f'see {moved}' if moved else _detail(error.body)}"
    )
    if status in _TRY_AGAIN:
      return LostError(
        f"Expected Label Studio at {self.url} to do what it was asked, got"
        f" {told}.",
        is_unclear=status in _UNCLEAR,
      )
    if status in (401, 403):
      return ValueError(
        f"Expected a key in {KEY_VARIABLE} that Label Studio at {self.url}"
        f" takes, got {told}. Its page Account & Settings shows keys."
      )
    kind = MissingError if status == 404 else ValueError
    return kind(
      f"Expected Label Studio at {self.url} to do what it was asked, got"
      f" {told}."
    )


def _detail(body: Any) -> str:
  """Returns what the body of an answer tells, in short."""
  if isinstance(body, dict):
    body = body.get("validation_errors") or body.get("detail") or body
  if isinstance(body, dict):
    body = body.get("non_field_errors") or body
  if isinstance(body, list) and len(body) == 1:
    (body,) = body
  text = " ".join(str(body).split()).rstrip(".")
  return f"a page that begins {text[:40]!r}" if text[:1] == "<" else text[:400]


def _check_url(url: str) -> str:
  """Returns an address of a server, in one form."""
  try:
    parts = urllib.parse.urlsplit(url)
    is_right = parts.scheme in ("http", "https") and bool(parts.hostname)
    is_right = is_right and (parts.port is None or parts.port > 0)
  except ValueError:
    is_right = False
  if not is_right or parts.query or parts.fragment or not url.isprintable():
    raise ValueError(
      f"Expected `url` such as http://localhost:8080, got {url!r}."
    )
  if "@" in parts.netloc:
    raise ValueError(
      "Expected `url` without a user or a password, which would be written to"
      " disk, got one with them."
    )
  return url.rstrip("/")


def _check_key(key: str) -> str:
  """Returns a key as it can be sent; never shows it."""
  key = key.strip()
  if not key:
    raise ValueError(
      f"Expected the key of a user of Label Studio in {KEY_VARIABLE}, got"
      " none. Its page Account & Settings shows keys."
    )
  if not re.fullmatch("[!-~]+", key):
    raise ValueError(
      f"Expected a key in {KEY_VARIABLE} of ASCII letters, digits and signs,"
      " got other characters."
    )
  return key


def _import_sdk() -> tuple[Any, Any]:
  """Returns the package, and the one that it speaks HTTP by."""
  try:
    import httpx
    import label_studio_sdk
    import label_studio_sdk.core
  except ImportError as error:
    raise ValueError(
      "Expected the package label-studio-sdk, which"
      ' `pip install "decern_jax[labelstudio]"` installs, got'
      f" {str(error) or 'none'}."
    ) from None
  if not hasattr(label_studio_sdk, "LabelStudio"):
    raise ValueError(
      "Expected label-studio-sdk >= 2, got an older one:"
      ' `pip install --upgrade "decern_jax[labelstudio]"`.'
    )
  return label_studio_sdk, httpx
