"""Copies a folder to the local disk, once: `stage.py gs://BUCKET/tfds DIR`.

array_record reads local files only, so every host brings the data to its disk.
"""

import logging
import os
import pathlib
import shutil
import sys

import fsspec


def stage(source: str, target: str | os.PathLike[str]) -> int:
  """Copies the files below a folder, unless the target is there already.

  An interrupted copy leaves no target, and is begun anew.

  Args:
    source: Folder that fsspec can read: gs://, s3://, file:// or a path.
    target: Local folder to make.

  Returns:
    The number of files copied: 0 if the target was there.

  Raises:
    ValueError: If there is no file below the source.
  """
  target = pathlib.Path(target)
  if target.exists():
    return 0
  system, root = fsspec.core.url_to_fs(source)
  root = root.rstrip("/")
  files = system.find(root)
  if not files:
    raise ValueError(f"Expected files below {source}, got none.")
  partial = target.with_name(f"{target.name}.partial")
  shutil.rmtree(partial, ignore_errors=True)
  for file in files:
    copy = partial / os.path.relpath(file, root)
    copy.parent.mkdir(parents=True, exist_ok=True)
    system.get_file(file, str(copy))
  partial.rename(target)
  return len(files)


def main(argv: list[str]) -> None:
  """Runs the command.

  Args:
    argv: The program, what to copy, and where to.
  """
  if len(argv) != 3:
    sys.exit("usage: stage.py SOURCE TARGET")
  logging.basicConfig(level=logging.INFO, format="stage.py: %(message)s")
  _, source, target = argv
  try:
    num_files = stage(source, target)
  except (ValueError, OSError, ImportError) as error:
    sys.exit(f"error: {error}")
  if num_files:
    logging.info("copied %d files to %s", num_files, target)
  else:
    logging.info("using what is in %s", target)


if __name__ == "__main__":
  main(sys.argv)
