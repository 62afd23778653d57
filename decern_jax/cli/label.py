"""Opens the labeling page of a run, for one person at this machine.

  python -m decern_jax.label --workdir=RUN [--annotator=NAME] [--open]

RUN is the folder of a run that waits for labels. The page shows the images that
it asks about, one by one; every answer is saved at once, in RUN/answers. It can
stay open while `decern_jax.main` takes the labels in and asks anew.
"""

from collections.abc import Iterator, Sequence
import contextlib
import getpass
import os
import signal
import webbrowser

from absl import app, flags
from etils import epath

from decern_jax.annotation import query
from decern_jax.annotation.page import address
from decern_jax.annotation.page.server import Server
from decern_jax.annotation.page.session import MAX_NAME_LENGTH, Session
from decern_jax.cli import command
from decern_jax.distributed import processes
from decern_jax.io import storage
from decern_jax.io.validation import check_integer

PathLike = str | os.PathLike[str]

LOCK_FILE = "page.lock"

_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of a run that waits for labels.",
  allow_override=True,  # of the flag of `main`, if both are imported
)
_PORT = flags.DEFINE_integer(
  "port", 0, "Port of this machine; 0: the last one, or any that is free."
)
_ANNOTATOR = flags.DEFINE_string(
  "annotator", None, "Who labels. Default: the name of this user."
)
_OPEN = flags.DEFINE_bool("open", False, "Opens the page in the browser.")


def label(
  workdir: PathLike, *, port: int, annotator: str | None, open_browser: bool
) -> None:
  """Serves the labeling page of a run until it is interrupted.

  Args:
    workdir: Directory of a run, on a disk of this machine.
    port: Port of this machine; 0: that of the last time if it is free, else
      any.
    annotator: Who labels; None: this user.
    open_browser: Whether to open the page.

  Raises:
    ValueError: If an argument is not right, there is no query, the port is
      taken, or the page is open already.
    OSError: If the folders of queries and answers cannot be written.
  """
  check_integer("port", port, low=0, high=2**16 - 1)
  annotator = _check_annotator(annotator)
  folder = _check_asked(workdir)
  answers = folder / query.ANSWERS_FOLDER
  storage.check_writable(answers)
  with storage.hold_lock(
    answers / LOCK_FILE,
    refusal="Expected one labeling page at a time, got a second one",
  ):
    session = Session(folder, annotator)
    with _open_server(folder, port, session) as server, _until_interrupted():
      _say_where(server, annotator)
      if open_browser:
        webbrowser.open(server.address.url)
      server.serve_forever()
    # Waits for an answer that is being written.
    answered, asked = session.count()
  processes.say(
    f"Ended: {answered} of {asked} images have an answer, in {session.log}."
  )


def _check_annotator(name: str | None) -> str:
  """Returns who labels."""
  if name is None:
    # Of a user without a name: nothing is told.
    with contextlib.suppress(OSError, KeyError):
      return getpass.getuser()
    return ""
  if not name.strip() or not name.isprintable() or len(name) > MAX_NAME_LENGTH:
    raise ValueError(
      f"Expected `annotator` of 1 to {MAX_NAME_LENGTH} characters that can be"
      f" printed, got {name!r:.400}."
    )
  return name.strip()


def _check_asked(workdir: PathLike) -> epath.Path:
  """Returns the folder of a run that asks, before anything is written to it."""
  if storage.is_remote(workdir):
    raise ValueError(
      "Expected `workdir` on a disk of this machine, where one page can lock"
      f" it, got {workdir}."
    )
  folder = epath.Path(workdir).expanduser()
  query.read(folder, query.require_latest_round(folder))
  return folder


def _open_server(folder: epath.Path, port: int, session: Session) -> Server:
  """Returns the server, by default at the address of the last time."""
  kept = folder / query.FOLDER / address.FILE_NAME
  last = address.choose(kept)
  try:
    server = Server(last._replace(port=port or last.port), session)
  except OSError as error:
    if port:
      raise ValueError(
        f"Expected a free `port`, got {port}: {error}."
      ) from None
    server = Server(last._replace(port=0), session)
  address.keep(kept, server.address)
  return server


def _say_where(server: Server, annotator: str) -> None:
  """Prints what a person needs to begin."""
  answered, asked = server.session.count()
  processes.say(
    f"The run asks about {asked} images, of which {answered} have an answer"
    f"{f' by {annotator}' if annotator else ''}. Label them at\n"
    f"  {server.address.url}\n"
    "(the address is the key: keep it to yourself). Answers are saved at once"
    f" in {server.session.log}; Ctrl-C ends."
  )


@contextlib.contextmanager
def _until_interrupted() -> Iterator[None]:
  """Lets Ctrl-C and SIGTERM end what is done within."""
  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    with contextlib.suppress(KeyboardInterrupt):
      yield
  finally:
    signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  command.run(
    argv,
    lambda: label(
      _WORKDIR.value,
      port=_PORT.value,
      annotator=_ANNOTATOR.value,
      open_browser=_OPEN.value,
    ),
    if_interrupted="Interrupted; every answer is saved.",
  )


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  app.run(main)
