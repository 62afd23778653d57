"""Serves the labeling page of a run to one person.

  decern-jax label --workdir=RUN [--annotator=NAME] [--open]

RUN is the folder of a run that waits for labels. The page shows the images of
its query one by one; every answer is saved at once, in RUN/answers. The page
can stay open while `decern-jax run` reads the answers and writes a new query.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import getpass
import os
import signal
import webbrowser

from absl import flags
from etils import epath

from decern_jax.annotation import query
from decern_jax.annotation.page.current_query import (
  MAX_NAME_LENGTH,
  CurrentQuery,
)
from decern_jax.annotation.page.server import (
  ADDRESS_FILE,
  Server,
  load_address,
  save_address,
)
from decern_jax.cli import command
from decern_jax.distributed import processes
from decern_jax.io import storage
from decern_jax.io.validation import check_integer

PathLike = str | os.PathLike[str]

COMMAND = command.Command(required=("workdir",))

LOCK_FILE = "page.lock"

_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of a run that waits for labels.",
  allow_override=True,  # of the flag of `main`, if both are imported
)
_PORT = flags.DEFINE_integer(
  "port", 0, "Port of this machine; 0: the previous one, or any free one."
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
    port: Port of this machine; 0 for the previous port if it is free, else any.
    annotator: Name of the annotator; None for the name of this user.
    open_browser: Whether to open the page in the browser.

  Raises:
    ValueError: If an argument is not valid, there is no query, the port is
      taken, or another process serves the page.
    OSError: If the folders of queries and answers cannot be written.
  """
  check_integer("port", port, low=0, high=2**16 - 1)
  annotator = _check_annotator(annotator)
  folder = _check_query(workdir)
  answers = folder / query.ANSWERS_FOLDER
  storage.check_writable(answers)
  with storage.hold_lock(
    answers / LOCK_FILE,
    refusal="Expected one labeling page at a time, got a second one",
  ):
    current_query = CurrentQuery(folder, annotator)
    server = _open_server(folder, port, current_query)
    with server, _until_interrupted():
      _print_address(server, annotator)
      if open_browser:
        webbrowser.open(server.address.url)
      server.serve_forever()
    # `count` waits for an answer that is being written.
    answered, asked = current_query.count()
  processes.say(
    f"Ended: {answered} of {asked} images have an answer, in"
    f" {current_query.log}."
  )


def _check_annotator(name: str | None) -> str:
  """Returns the name of the annotator; "" for a user without a name."""
  if name is None:
    with contextlib.suppress(OSError, KeyError):
      return getpass.getuser()
    return ""
  if not name.strip() or not name.isprintable() or len(name) > MAX_NAME_LENGTH:
    raise ValueError(
      f"Expected `annotator` of 1 to {MAX_NAME_LENGTH} characters that can be"
      f" printed, got {name!r:.400}."
    )
  return name.strip()


def _check_query(workdir: PathLike) -> epath.Path:
  """Returns the folder of a run with a query; writes nothing to it."""
  if storage.is_remote(workdir):
    raise ValueError(
      "Expected `workdir` on a disk of this machine, where one page can lock"
      f" it, got {workdir}."
    )
  folder = epath.Path(workdir).expanduser()
  query.read(folder, query.require_latest_round(folder))
  return folder


def _open_server(
  folder: epath.Path, port: int, current_query: CurrentQuery
) -> Server:
  """Returns the server, at the previous address if it is free."""
  path = folder / query.FOLDER / ADDRESS_FILE
  previous = load_address(path)
  address = dataclasses.replace(previous, port=port or previous.port)
  try:
    server = Server(address, current_query)
  except OSError as error:
    if port:
      raise ValueError(
        f"Expected a free `port`, got {port}: {error}."
      ) from None
    server = Server(dataclasses.replace(address, port=0), current_query)
  save_address(path, server.address)
  return server


def _print_address(server: Server, annotator: str) -> None:
  """Prints the address of the page, and how many images have an answer."""
  answered, asked = server.current_query.count()
  processes.say(
    f"The run asks about {asked} images, of which {answered} have an answer"
    f"{f' by {annotator}' if annotator else ''}. Label them at\n"
    f"  {server.address.url}\n"
    "(the address is the key: keep it to yourself). Answers are saved at once"
    f" in {server.current_query.log}; Ctrl-C ends."
  )


@contextlib.contextmanager
def _until_interrupted() -> Iterator[None]:
  """Leaves the block without an error on Ctrl-C or SIGTERM."""
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
      _WORKDIR.value or "",
      port=_PORT.value,
      annotator=_ANNOTATOR.value,
      open_browser=_OPEN.value,
    ),
    if_interrupted="Interrupted; every answer is saved.",
  )
