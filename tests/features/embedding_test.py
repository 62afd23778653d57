"""Tests of decern_jax/features/embedding.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from decern_jax.data.dataset import Split
from decern_jax.distributed.rows import InMemory
from decern_jax.distributed.sharding import make_mesh, place_on_host
from decern_jax.features import embedding
from tests import oracle
from tests.table import each

IMAGES = np.random.default_rng(0).integers(
  256, size=(13, 2, 3, 3), dtype=np.uint8
)
VARIABLES = {"kernel": np.arange(6.0, dtype=np.float32).reshape(3, 2)}


def apply(variables, images):
  """Means over height and width, times a kernel."""
  return images.astype(jnp.float32).mean(axis=(1, 2)) @ variables["kernel"]


def batches_of(size: int):
  return (IMAGES[start : start + size] for start in range(0, 13, size))


class TestEmbed:
  @each("num_devices, batch_size", [(1, 5), (8, 1), (8, 5), (8, 13), (8, 64)])
  def test_keeps_the_order_with_a_short_last_batch(
    self, num_devices, batch_size
  ):
    batches = embedding.embed(
      apply,
      VARIABLES,
      batches_of(batch_size),
      batch_size=batch_size,
      mesh=make_mesh(num_devices),
    )
    found = np.concatenate([*batches])
    expected = IMAGES.mean(axis=(1, 2)) @ VARIABLES["kernel"]
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_traces_one_program_for_all_batches_and_parts(self):
    traces = []

    def counted(variables, images):
      traces.append(images.shape)
      return apply(variables, images)

    mesh = make_mesh(2)
    options = {"batch_size": 4, "mesh": mesh}
    [*embedding.embed(counted, VARIABLES, [next(batches_of(4))], **options)]
    first = len(traces)
    assert first > 0
    for _ in range(2):
      [*embedding.embed(counted, VARIABLES, batches_of(4), **options)]
    assert len(traces) == first


class TestEmbedSplit:
  split = Split(
    ids=tuple(f"{i}.png" for i in range(13)),
    labels=np.zeros(13, np.int32),
    read=IMAGES.__getitem__,
  )

  def embed(self, **options):
    batches = embedding.embed_split(
      apply,
      VARIABLES,
      self.split,
      lambda image: 255 - image,
      name="train",
      batch_size=4,
      num_workers=2,
      mesh=make_mesh(2),
      **options,
    )
    return np.concatenate([*batches])

  def test_transforms_and_embeds_every_example(self):
    expected = (255 - IMAGES).mean(axis=(1, 2)) @ VARIABLES["kernel"]
    found = self.embed()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == np.float32

  @each("indices", [[12], [3, 0, 7, 7, 12, 1], [*range(8)]])
  def test_embeds_the_examples_in_the_order_of_their_indices(self, indices):
    found = self.embed(indices=np.array(indices))
    # The order of the sums within a batch may differ by rounding alone.
    np.testing.assert_allclose(found, self.embed()[indices], rtol=1e-6)


class TestApplyInChunks:
  @each("num_images", [1, 3, 4, 13])
  def test_equals_the_whole_batch(self, num_images):
    images = IMAGES[:num_images]
    found = jax.jit(functools.partial(embedding.apply_in_chunks, apply))(
      VARIABLES, images
    )
    expected = images.mean(axis=(1, 2)) @ VARIABLES["kernel"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)

  def test_shows_the_model_one_image_in_a_program_of_few(self):
    seen = []

    def note(variables, images):
      seen.append(images.shape)
      return apply(variables, images)

    chunks = functools.partial(embedding.apply_in_chunks, note)
    jax.eval_shape(chunks, VARIABLES, IMAGES)
    assert set(seen) == {(1, 2, 3, 3)}

  def test_has_the_gradients_of_the_whole_batch(self):
    """Fine-tuning on one CPU takes them through it."""

    def total(kernel, function):
      found = function({"kernel": kernel}, jnp.asarray(IMAGES))
      return jnp.sum(jnp.tanh(found / 1000.0))

    chunks = functools.partial(embedding.apply_in_chunks, apply)
    kernel = VARIABLES["kernel"]
    found = jax.jit(jax.grad(functools.partial(total, function=chunks)))(kernel)
    means = IMAGES.mean(axis=(1, 2))
    slopes = (1 - np.tanh(means @ kernel / 1000.0) ** 2) / 1000.0
    np.testing.assert_allclose(found, means.T @ slopes, rtol=1e-4)


class TestPredict:
  def test_is_the_softmax_of_the_head(self):
    problem = oracle.make_problem()
    probs = embedding.predict(problem.head, problem.features)
    np.testing.assert_allclose(probs, problem.probs, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(probs).sum(axis=1), 1.0, rtol=1e-5)

  @each("num_devices", [1, 8])
  def test_reads_features_on_the_host(self, num_devices, monkeypatch):
    monkeypatch.setattr(embedding, "BLOCK_ROWS", 3)
    problem = oracle.make_problem()
    rows = place_on_host(InMemory(problem.features), make_mesh(num_devices))
    probs = embedding.predict(problem.head, rows)
    count = len(problem.features)
    np.testing.assert_allclose(probs[:count], problem.probs, rtol=1e-5)
