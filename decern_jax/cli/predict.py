"""Labels images with the model of a run.

  decern-jax predict --workdir=RUN --images=DIR --output=FILE.csv

RUN is the folder of a finished run. The file has a row per image in DIR and its
subfolders: its path in DIR, and the most probable classes, each with its
probability. `decern_jax.report.predictions` says how to read unusual names.
"""

from collections.abc import Iterator, Sequence
import functools
import os
import pathlib
from typing import cast

from absl import flags, logging
import numpy as np

from decern_jax.cli import command
from decern_jax.data.dataset import Split
from decern_jax.data.decoding import decode_image
from decern_jax.data.image_files import EXTENSIONS
from decern_jax.data.transforms import resize_and_center_crop
from decern_jax.distributed import processes
from decern_jax.distributed.sharding import make_mesh
from decern_jax.features import embedding
from decern_jax.io.validation import check_integer, shorten
from decern_jax.report import predictions
from decern_jax.runs import model_file
from decern_jax.training import learner

PathLike = str | os.PathLike[str]

COMMAND = command.Command(required=("workdir", "images", "output"))

_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of a finished run.",
  allow_override=True,  # of the flag of `main`, if both are imported
)
_IMAGES = flags.DEFINE_string(
  "images", None, "Folder of the images, which may be in folders of their own."
)
_OUTPUT = flags.DEFINE_string("output", None, "The CSV file to write.")
_TOP = flags.DEFINE_integer("top", 5, "Classes of each image.")
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", 64, "Images that the model sees at once."
)
_NUM_WORKERS = flags.DEFINE_integer(
  "num_workers", None, "Threads that decode images; default: one per core."
)


def predict(
  workdir: PathLike,
  images: PathLike,
  output: PathLike,
  *,
  top: int,
  batch_size: int,
  num_workers: int | None,
) -> None:
  """Writes the most probable classes of every image of a folder.

  Images that cannot be read are skipped with a warning.

  Args:
    workdir: Folder of a finished run.
    images: The folder.
    output: The CSV file, which is written atomically. An existing file is
      replaced.
    top: Number of classes to list per image, at least 1; all if there are
      fewer.
    batch_size: Number of images in a batch, at least 1.
    num_workers: Number of threads that decode images, at least 1; None for one
      per core.

  Raises:
    ValueError: If an argument is outside its range, no image can be read, the
      file cannot be written, or the run is not finished.
  """
  check_integer("top", top, low=1)
  check_integer("batch_size", batch_size, low=1)
  if num_workers is None:
    num_workers = os.cpu_count() or 1
  check_integer("num_workers", num_workers, low=1)
  root = pathlib.Path(images).expanduser()
  output = pathlib.Path(output).expanduser()
  paths = find_images(root)
  predictions.check_writable(output)
  model = model_file.load(workdir)
  reader = _Reader(root, paths)
  probs = _compute_probs(model, reader, batch_size, num_workers)
  read = [i for i, path in enumerate(paths) if path not in reader.failures]
  if not read:
    raise ValueError(
      f"Expected an image in {root} that can be read, got {len(paths)} that"
      f" cannot: {reader.describe_failures()}."
    )
  predictions.write(
    output, [paths[i] for i in read], probs[read], model.class_names, top=top
  )
  processes.say(f"Labeled {len(read)} images in {output}.")
  if reader.failures:
    logging.warning(
      "Left out %d of %d images, which cannot be read: %s.",
      len(reader.failures),
      len(paths),
      reader.describe_failures(),
    )


def find_images(root: pathlib.Path) -> list[str]:
  """Lists the images in a folder and its subfolders.

  Hidden files and folders, and files of other types, are ignored. Links are
  followed, except to a folder that contains the link.

  Returns:
    Sorted POSIX paths in the folder, at least one.

  Raises:
    ValueError: If there is no such folder, or no image in it.
  """
  if not root.is_dir():
    found = "a file" if root.exists() else "no such folder"
    raise ValueError(f"Expected `images` to be a folder, got {root}: {found}.")
  paths = sorted(path.relative_to(root).as_posix() for path in _walk(root, ()))
  if not paths:
    raise ValueError(
      f"Expected images in {root} with one of {EXTENSIONS}, got none."
    )
  return paths


def _walk(
  folder: pathlib.Path, outer: tuple[pathlib.Path, ...]
) -> Iterator[pathlib.Path]:
  """Yields the images in a folder; `outer` holds the folders around it."""
  here = (*outer, folder.resolve())
  for path in folder.iterdir():
    if path.name.startswith("."):
      continue
    if path.is_dir():
      if path.resolve() not in here:
        yield from _walk(path, here)
    elif path.name.lower().endswith(EXTENSIONS):
      yield path


class _Reader:
  """Decodes images, and records the errors of those that it cannot read.

  Attributes:
    failures: The error of each image that cannot be read, by path.
  """

  def __init__(self, root: pathlib.Path, paths: Sequence[str]):
    self.failures: dict[str, str] = {}
    self._root = root
    self._paths = paths

  @property
  def split(self) -> Split:
    """The images as a split with placeholder labels."""
    no_labels = np.zeros(len(self._paths), np.int32)
    return Split(tuple(self._paths), no_labels, self._read)

  def describe_failures(self) -> str:
    """Describes the first few errors."""
    return shorten(f"{k!r} ({v})" for k, v in sorted(self.failures.items()))

  def _read(self, index: int) -> np.ndarray:
    path = self._paths[index]
    try:
      return decode_image((self._root / path).read_bytes())
    except (OSError, ValueError) as error:
      self.failures[path] = str(error)
      # Returns a placeholder, whose row is dropped later. Checking all images
      # first would decode each of them twice.
      return np.zeros((1, 1, 3), np.uint8)


def _compute_probs(
  model: model_file.TrainedModel,
  reader: _Reader,
  batch_size: int,
  num_workers: int,
) -> np.ndarray:
  """Returns the class probabilities, float32 [images, classes]."""
  mesh = make_mesh()
  split = reader.split
  batches = embedding.embed_split(
    model.backbone.apply,
    model.backbone.variables,
    split,
    functools.partial(resize_and_center_crop, **model.transform),
    name="images",
    batch_size=batch_size,
    num_workers=num_workers,
    mesh=mesh,
  )
  rows = np.concatenate([*batches])
  part = learner.place(rows, split, mesh)
  assert model.backbone.head is not None  # every run saves one
  probs = embedding.predict(
    model.backbone.head, part.features, is_multi_label=model.is_multi_label
  )
  return np.asarray(probs)[: len(rows)]


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  command.run(
    argv,
    lambda: predict(
      # Required flags.
      cast(str, _WORKDIR.value),
      cast(str, _IMAGES.value),
      cast(str, _OUTPUT.value),
      top=_TOP.value,
      batch_size=_BATCH_SIZE.value,
      num_workers=_NUM_WORKERS.value,
    ),
    if_interrupted="Interrupted; nothing was written.",
  )
