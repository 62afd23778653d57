"""Finds images that look the same, by perceptual hashes."""

import collections
from collections.abc import Hashable, Mapping
from typing import TypeVar

from jaxtyping import UInt8
import numpy as np
from PIL import Image
import scipy

# Side length that an image is reduced to, and the number of lowest frequencies
# per axis that the hash keeps.
_SIDE = 32
_NUM_FREQUENCIES = 8

_Name = TypeVar("_Name", bound=Hashable)


def perceptual_hash(image: UInt8[np.ndarray, "height width bands"]) -> int:
  """Computes a hash that is equal for images that look the same.

  The image is reduced to 32 x 32 shades of grey. Each of the 8 x 8 lowest
  frequencies of its DCT gives a bit: whether it is above their median.

  Args:
    image: RGB if it has three bands; of other images the mean band is used.

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
  frequencies = np.asarray(
    scipy.fft.dctn(np.asarray(pixels, np.float64), type=2)
  )
  lowest = frequencies[:_NUM_FREQUENCIES, :_NUM_FREQUENCIES]
  bits = (lowest > np.median(lowest)).ravel()
  return int("".join("1" if bit else "0" for bit in bits), 2)


def group(hashes: Mapping[_Name, int]) -> tuple[tuple[_Name, ...], ...]:
  """Groups the images with equal hashes.

  Returns:
    Groups of two names or more, in the order of their first names.
  """
  names: dict[int, list[_Name]] = collections.defaultdict(list)
  for name, value in hashes.items():
    names[value].append(name)
  return tuple(tuple(same) for same in names.values() if len(same) > 1)
