"""Pushes a query to Label Studio, and pulls annotations from it.

  LABEL_STUDIO_API_KEY=... decern-jax annotate --workdir=RUN

RUN is the folder of a run that waits for labels. Images that are not on the
server yet are added to it, and all submitted annotations are written to
RUN/answers, where the run finds them. The same command can be repeated.
`docs/label_studio.md` says how to start a server.
"""

from collections.abc import Sequence
import os

from absl import flags
from etils import epath

from decern_jax.annotation import query
from decern_jax.annotation.studio import project, transfer
from decern_jax.annotation.studio.client import KEY_VARIABLE, Client
from decern_jax.cli import command
from decern_jax.distributed import processes
from decern_jax.io import storage
from decern_jax.io.validation import shorten
from decern_jax.runs import workdir as run_folder

PathLike = str | os.PathLike[str]

COMMAND = command.Command(required=("workdir",))

ACTIONS = ("both", "push", "pull")

_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of a run that waits for labels.",
  allow_override=True,  # of the flag of `main`, if both are imported
)
_URL = flags.DEFINE_string(
  "url", "http://localhost:8080", "Address of Label Studio."
)
_ACTION = flags.DEFINE_enum(
  "action",
  "both",
  ACTIONS,
  "push: brings the query of the run to Label Studio; pull: takes annotations.",
)
_ALLOW_HTTP = flags.DEFINE_bool(
  "allow_http",
  False,
  "Whether the key may be sent unencrypted, to an http:// address of another"
  " machine.",
)
_DOCUMENT_ROOT = flags.DEFINE_string(
  "document_root",
  "/",
  "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT of the server, below which the images"
  " are.",
)


def annotate(
  workdir: PathLike,
  *,
  url: str,
  action: str,
  document_root: str,
  allow_http: bool = False,
) -> None:
  """Pushes a query to Label Studio, and pulls annotations from it.

  Args:
    workdir: Directory of a run that waits for labels.
    url: Address of the server. The key of its user comes from the environment.
    action: One of `ACTIONS`.
    document_root: Folder on the server's machine; it shows the files below it.
    allow_http: Whether the key may be sent to another machine unencrypted.

  Raises:
    ValueError: If an argument is not valid, the run has no query, or the server
      refuses; shows why.
    RuntimeError: If the server cannot be reached.
    OSError: If the run cannot be read or written.
  """
  if action not in ACTIONS:
    raise ValueError(f"Unknown `action` {action!r}; expected one of {ACTIONS}.")
  folder = storage.as_path(workdir).expanduser()
  latest = query.read(folder, query.require_latest_round(folder))
  key = os.environ.get(KEY_VARIABLE, "")
  client = Client(url, key, allow_http=allow_http)
  client.check()
  with run_folder.lock(folder):
    if action != "pull":
      _push(client, folder, latest, document_root)
    if action != "push":
      _pull(client, folder)


def _push(
  client: Client, folder: epath.Path, latest: query.Query, document_root: str
) -> None:
  found = project.find_or_create(client, folder, latest)
  project.add_classes(client, found, latest)
  project.show_folders(client, found, latest.items)
  pushed = transfer.push(client, found, latest, document_root=document_root)
  project.show_predictions(client, found, latest)
  processes.say(
    f"Round {latest.round} asks about {len(latest.items)} images:"
    f" {pushed.num_there} were in Label Studio, {pushed.num_added} came to it."
    f" Label them at\n  {client.url}/projects/{found.number}/data"
  )
  if pushed.left_out:
    processes.say(
      f"{len(pushed.left_out)} were left out, whose names are no valid text:"
      f" {shorten(map(repr, pushed.left_out))}. The page of"
      " decern_jax.label shows them."
    )


def _pull(client: Client, folder: epath.Path) -> None:
  pulled = transfer.pull(client, project.find(client, folder), folder)
  for problem in pulled.problems:
    processes.say(f"not taken: {problem}")
  if not pulled.num_answers:
    processes.say("No annotation was submitted yet.")
    return
  processes.say(
    f"{pulled.num_answers} submitted annotations are in {pulled.path}. Run"
    " decern_jax.main again to take them in."
  )


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  command.run(
    argv,
    lambda: annotate(
      _WORKDIR.value or "",
      url=_URL.value,
      action=_ACTION.value,
      document_root=_DOCUMENT_ROOT.value,
      allow_http=_ALLOW_HTTP.value,
    ),
    if_interrupted="Interrupted; the same command again goes on.",
  )
