"""Times the training input pipeline against Pillow's, as PyTorch users have it.

  python -m benchmarks.pipeline

64 synthetic photos of about 500 x 400 pixels, as JPEG of quality 88, about 70
KB each, in memory. All sides run alternately in one process; medians and ranges
of 25 rounds are printed. The single-threaded sides use one thread each.
"""

import functools
import io
import itertools
import math
import random
import statistics
import time

import cv2
import numpy as np
from PIL import Image

from decern_jax.data.augmentation import random_resized_crop_and_flip
from decern_jax.data.dataset import Split
from decern_jax.data.decoding import decode_image
from decern_jax.data.pipeline import BatchPlan, training_batches

NUM_PHOTOS = 64
ROUNDS = 25
IMAGE_SIZE = 224
BATCH_SIZE = 32
NUM_WORKERS = 2
NUM_AHEAD = 64


def make_photo(rng: np.random.Generator) -> bytes:
  """Returns a JPEG file of noise with the spectrum of photos."""
  width, height = int(rng.integers(480, 520)), int(rng.integers(380, 420))
  frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
  frequency[0, 0] = np.inf  # no mean
  spectrum = np.fft.rfft2(rng.normal(size=(3, height, width)))
  channels = np.fft.irfft2(spectrum / frequency**1.35, (height, width))
  channels /= channels.std(axis=(1, 2), keepdims=True)
  channels = 0.9 * channels[:1] + 0.45 * channels  # colors go together
  pixels = np.clip(128 + 50 * channels, 0, 255).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "JPEG", quality=88)
  return file.getvalue()


def pillow_crop_and_flip(photo: bytes) -> np.ndarray:
  """ImageFolder, RandomResizedCrop, RandomHorizontalFlip; torch left out."""
  with Image.open(io.BytesIO(photo)) as file:
    image = file.convert("RGB")
  width, height = image.size
  left, top, box_width, box_height = 0, 0, width, height
  for _ in range(10):
    area = width * height * random.uniform(0.08, 1.0)
    ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
    w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < w <= width and 0 < h <= height:
      left, top = random.randint(0, width - w), random.randint(0, height - h)
      box_width, box_height = w, h
      break
  image = image.crop((left, top, left + box_width, top + box_height))
  image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
  if random.random() < 0.5:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  return np.asarray(image)


def with_pillow(photos: list[bytes]) -> float:
  """Returns images per second of Pillow, in one thread."""
  start = time.perf_counter()
  for photo in photos:
    pillow_crop_and_flip(photo)
  return len(photos) / (time.perf_counter() - start)


def with_ours(photos: list[bytes]) -> float:
  """Returns images per second of `decern_jax`, in one thread."""
  start = time.perf_counter()
  for index, photo in enumerate(photos):
    rng = np.random.default_rng((0, index))
    random_resized_crop_and_flip(
      decode_image(photo), rng, image_size=IMAGE_SIZE
    )
  return len(photos) / (time.perf_counter() - start)


def pipeline_batches(photos: list[bytes]):
  """Returns the endless batches of epochs that two threads decode."""
  split = Split(
    ids=tuple(f"photo {i}" for i in range(len(photos))),
    labels=np.zeros(len(photos), np.int32),
    read=lambda index: decode_image(photos[index]),
  )
  plans = (
    BatchPlan(indices, (0, epoch))
    for epoch in itertools.count()
    for indices in np.arange(len(photos)).reshape(-1, BATCH_SIZE)
  )
  augment = functools.partial(
    random_resized_crop_and_flip, image_size=IMAGE_SIZE
  )
  return training_batches(
    split, plans, augment, num_workers=NUM_WORKERS, num_ahead=NUM_AHEAD
  )


def with_pipeline(photos: list[bytes]) -> float:
  """Returns images per second of the pipeline, without the first batches.

  The look-ahead is the same when the clock starts and stops, so that no image
  is decoded outside of the measured time.
  """
  num_batches = 4 * len(photos) // BATCH_SIZE
  batches = pipeline_batches(photos)
  for _ in range(2):
    next(batches)
  start = time.perf_counter()
  for _ in range(num_batches):
    next(batches)
  seconds = time.perf_counter() - start
  batches.close()
  return num_batches * BATCH_SIZE / seconds


def main() -> None:
  """Runs the comparison."""
  cv2.setNumThreads(1)  # its own threads would help only one side
  rng = np.random.default_rng(0)
  photos = [make_photo(rng) for _ in range(NUM_PHOTOS)]
  mean_size = statistics.mean(map(len, photos)) / 1000
  print(f"{NUM_PHOTOS} photos of {mean_size:.0f} KB, to {IMAGE_SIZE} pixels:")
  sides = {
    "Pillow, 1 thread": with_pillow,
    "decern_jax, 1 thread": with_ours,
    f"training_batches, {NUM_WORKERS} threads": with_pipeline,
  }
  rates = {name: [] for name in sides}
  for _ in range(ROUNDS):
    for name, measure in sides.items():
      rates[name].append(measure(photos))
  for name, values in rates.items():
    print(
      f"  {name}: {statistics.median(values):.0f} images/s"
      f" [{min(values):.0f}-{max(values):.0f}]"
    )
  pillow, ours, pipeline = rates.values()
  print(
    f"  round by round: decern_jax / Pillow {_ratio(ours, pillow)},"
    f" {NUM_WORKERS} threads / 1 {_ratio(pipeline, ours)}"
  )


def _ratio(rates: list[float], others: list[float]) -> str:
  """Returns median and range of the ratios of rates of the same round."""
  ratios = [rate / other for rate, other in zip(rates, others, strict=True)]
  return (
    f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
  )


if __name__ == "__main__":
  main()
