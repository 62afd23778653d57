"""The folder of a run: its default name, its settings and its lock."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import hashlib
import json
from typing import Any

from etils import epath

from decern_jax.io import storage

CONFIG_FILE = "config.json"
DATA_FILE = "data.json"
LOCK_FILE = "lock"

# Settings that cannot change a result, and lists from which a run uses one
# entry.
NOT_IDENTITY = ("system", "seeds", "strategies", "labels.formats")


def identity(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
  """Returns the settings that identify a run, by dotted name.

  Returns:
    The settings, sorted, with the seed; tuples become lists, as in JSON.
  """
  kept = {k: v for k, v in config.items() if k not in NOT_IDENTITY}
  flat = dict(sorted(_flatten(kept, "").items()))
  flat = {k: v for k, v in flat.items() if k not in NOT_IDENTITY}
  return json.loads(json.dumps({**flat, "seed": seed}))


def default_path(
  config_name: str, config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> epath.Path:
  """Returns the folder of a configuration's runs.

  Args:
    config_name: Name of the configuration file.
    config: All settings, nested.
    defaults: The settings of the file, without the changes by flags.

  Returns:
    `runs/<config>/<strategy>-<hash of the changed settings>`.
  """
  before, after = identity(defaults, 0), identity(config, 0)
  changed = {k: v for k, v in after.items() if before.get(k) != v}
  digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode())
  strategy = config["selection"]["strategy"]
  folder = f"{strategy}-{digest.hexdigest()[:8]}"
  return epath.Path("runs") / config_name / folder


def read_settings(
  path: epath.Path, *, names: Sequence[str] = ()
) -> dict[str, Any]:
  """Returns the settings in a file.

  Args:
    path: The file.
    names: Settings that the file must have.

  Raises:
    ValueError: If the file is missing or damaged, or lacks a setting.
  """
  try:
    found = json.loads(storage.read_bytes(path))
  except (ValueError, OSError) as error:
    raise ValueError(f"Expected settings in {path}, got {error}.") from error
  if not isinstance(found, dict):
    raise ValueError(f"Expected settings in {path}, got {found!r:.200}.")
  missing = [name for name in names if name not in found]
  if missing:
    raise ValueError(
      f"Expected the run of this version of decern_jax, got {path} without"
      f" {', '.join(missing)}."
    )
  return found


def check_free(
  workdir: epath.PathLike, settings: Mapping[str, Any], *, file_name: str
) -> None:
  """Checks that a folder is unused, or belongs to the run of these settings.

  Args:
    workdir: The folder; it need not exist.
    settings: Values that identify the run, as JSON.
    file_name: The file with the settings: `CONFIG_FILE` or `DATA_FILE`.

  Raises:
    ValueError: If the folder cannot be written, or belongs to a run of other
      settings. The message shows the differences.
  """
  path = storage.as_path(workdir) / file_name
  try:
    found = read_settings(path)
  except ValueError as error:
    if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
      raise
    _check_writable(path.parent)
    return
  names = sorted(set(found) | set(settings))
  differing = [
    f"{name}: {found.get(name)!r:.200} there, {settings.get(name)!r:.200} now"
    for name in names
    if found.get(name) != settings.get(name)
  ]
  if differing:
    raise ValueError(
      f"Expected `workdir` of a run with these settings, got {workdir}, whose"
      " run has others (another `--workdir` starts a new run):\n  "
      + "\n  ".join(differing)
    )


def claim(
  workdir: epath.PathLike, settings: Mapping[str, Any], *, file_name: str
) -> None:
  """Assigns a folder to the run of these settings, if not done already.

  Args:
    workdir: As in `check_free`.
    settings: As in `check_free`.
    file_name: As in `check_free`.

  Raises:
    ValueError: As in `check_free`.
  """
  check_free(workdir, settings, file_name=file_name)
  path = storage.as_path(workdir) / file_name
  if not path.exists():
    storage.make_folder(path.parent)
    text = json.dumps(settings, indent=2) + "\n"
    storage.write_atomically(path, text.encode())


@contextlib.contextmanager
def lock(workdir: epath.PathLike) -> Iterator[None]:
  """Locks a folder for this process; does nothing in an object store.

  The system releases the lock however the process ends.

  Args:
    workdir: The folder; created if it does not exist.

  Yields:
    Nothing.

  Raises:
    ValueError: If another process holds the lock; names the process.
    OSError: If the lock file cannot be written.
  """
  folder = storage.as_path(workdir)
  if storage.is_remote(folder):
    yield
    return
  storage.make_folder(folder)
  refusal = "Expected a `workdir` in which no other process works"
  with storage.hold_lock(folder / LOCK_FILE, refusal=refusal):
    yield


def _flatten(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
  """Returns the values of a nested mapping by dotted name."""
  flat = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      flat.update(_flatten(value, f"{prefix}{name}."))
    else:
      flat[f"{prefix}{name}"] = value
  return flat


def _check_writable(folder: epath.Path) -> None:
  """Refuses a folder in which no file can be written; leaves no new folder."""
  places = () if storage.is_remote(folder) else (folder, *folder.parents)
  new = [place for place in places if not place.exists()]
  try:
    storage.check_writable(folder)
  except OSError as error:
    raise ValueError(
      f"Expected a `workdir` that can be written, got {folder}: {error}."
    ) from None
  with contextlib.suppress(OSError):  # another process may have begun to use it
    for place in new:
      place.rmdir()
