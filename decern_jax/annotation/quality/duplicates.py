"""Images that are the same to the eye."""

import collections
from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image
from scipy import fft

# Pixels of a side that an image is reduced to, and of its frequencies that
# tell it.
_SIDE = 32
_NUM_FREQUENCIES = 8


def perceptual_hash(image: np.ndarray) -> int:
  """Returns a number that images have in common that look the same.

  A bit for each of the 8 x 8 lowest frequencies (DCT) of the image in 32 x 32
  shades of grey: whether it is above their median.

  Args:
    image: uint8 [height, width, bands], RGB where there are three; of others
      the mean is taken.

  Returns:
    64 bits, the lowest frequency first.

  References:
    Zauner, "Implementation and benchmarking of perceptual image hash
    functions", 2010; the `phash` of ImageHash.
  """
  if image.shape[-1] == 3:
    grey = Image.fromarray(image).convert("L")
  else:
    grey = Image.fromarray(image.mean(axis=-1).round().astype(np.uint8))
  pixels = grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
  frequencies = fft.dctn(np.asarray(pixels, np.float64), type=2)
  lowest = frequencies[:_NUM_FREQUENCIES, :_NUM_FREQUENCIES]
  bits = (lowest > np.median(lowest)).ravel()
  return int("".join("1" if bit else "0" for bit in bits), 2)


def group(hashes: Mapping[str, int]) -> tuple[tuple[str, ...], ...]:
  """Returns the images that have a hash in common.

  Args:
    hashes: The hash of each image, by name.

  Returns:
    Groups of two names or more, in the order of the first of each.
  """
  names = collections.defaultdict(list)
  for name, value in hashes.items():
    names[value].append(name)
  return tuple(tuple(same) for same in _several(names.values()))


def _several(groups: Iterable[list[str]]) -> Iterable[list[str]]:
  return (same for same in groups if len(same) > 1)
