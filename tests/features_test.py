"""Tests of decern_jax/features.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax import features
from decern_jax.data.dataset import Split
from decern_jax.sharding import make_mesh
from tests import oracle

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
  @pytest.mark.parametrize("num_devices", [1, 8])
  @pytest.mark.parametrize("batch_size", [1, 5, 13, 64])
  def test_keeps_the_order_with_a_short_last_batch(
    self, num_devices, batch_size
  ):
    found = features.embed(
      apply,
      VARIABLES,
      batches_of(batch_size),
      batch_size=batch_size,
      mesh=make_mesh(num_devices),
    )
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
    features.embed(
      counted, VARIABLES, [next(batches_of(4))], batch_size=4, mesh=mesh
    )
    first = len(traces)
    assert first > 0
    for _ in range(2):
      features.embed(counted, VARIABLES, batches_of(4), batch_size=4, mesh=mesh)
    assert len(traces) == first


class TestEmbedSplit:
  split = Split(
    ids=tuple(f"{i}.png" for i in range(13)),
    labels=np.zeros(13, np.int32),
    read=IMAGES.__getitem__,
  )

  def embed(self, **options):
    return features.embed_split(
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

  def test_transforms_and_embeds_every_example(self):
    expected = (255 - IMAGES).mean(axis=(1, 2)) @ VARIABLES["kernel"]
    found = self.embed()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == np.float32

  @pytest.mark.parametrize(
    "positions", [[12], [3, 0, 7, 7, 12, 1], [*range(8)]]
  )
  def test_embeds_the_positions_in_their_order(self, positions):
    found = self.embed(positions=np.array(positions))
    # The order of the sums within a batch may differ by rounding alone.
    np.testing.assert_allclose(found, self.embed()[positions], rtol=1e-6)


class TestApplyInChunks:
  @pytest.mark.parametrize("num_images", [1, 3, 4, 13])
  def test_equals_the_whole_batch(self, num_images):
    images = jnp.asarray(IMAGES[:num_images])
    found = features.apply_in_chunks(apply, VARIABLES, images)
    expected = apply(VARIABLES, images)
    np.testing.assert_allclose(found, expected, rtol=1e-6)

  def test_shows_the_model_one_image_in_a_program_of_few(self):
    seen = []

    def note(variables, images):
      seen.append(images.shape)
      return apply(variables, images)

    features.apply_in_chunks(note, VARIABLES, jnp.asarray(IMAGES))
    assert set(seen) == {(1, 2, 3, 3)}

  def test_has_the_gradients_of_the_whole_batch(self):
    """Fine-tuning on one CPU takes them through it."""

    def total(kernel, function):
      found = function({"kernel": kernel}, jnp.asarray(IMAGES))
      return jnp.sum(jnp.tanh(found / 100.0))

    chunks = functools.partial(features.apply_in_chunks, apply)
    found, expected = (
      jax.grad(total)(jnp.asarray(VARIABLES["kernel"]), function)
      for function in (chunks, apply)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class TestCached:
  rows = np.arange(12.0, dtype=np.float32).reshape(4, 3)

  def cached(self, folder, *, rows=None, key=("data", "weights")):
    """Returns the features and how often they were computed."""
    calls = []

    def compute():
      calls.append(1)
      return self.rows if rows is None else rows

    found = features.cached(folder, key, num_rows=4, compute=compute)
    return found, len(calls)

  def file_of(self, folder):
    (path,) = folder.iterdir()
    return path

  def test_computes_the_first_time_alone(self, tmp_path):
    for expected_calls in (1, 0, 0):
      found, num_calls = self.cached(tmp_path / "new" / "folder")
      np.testing.assert_array_equal(found, self.rows)
      assert found.dtype == np.float32
      assert num_calls == expected_calls

  def test_another_key_has_another_file(self, tmp_path):
    keys = [("data", "weights"), ("data", "other"), ("datawe", "ights")]
    for key in keys:
      assert self.cached(tmp_path, key=key)[1] == 1
    assert len(list(tmp_path.iterdir())) == 3

  def test_leaves_no_scratch_file(self, tmp_path):
    self.cached(tmp_path)
    assert self.file_of(tmp_path).suffix == ".features"

  def assert_computes_anew(self, tmp_path, caplog):
    caplog.clear()
    found, num_calls = self.cached(tmp_path)
    assert num_calls == 1
    np.testing.assert_array_equal(found, self.rows)
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert self.file_of(tmp_path).name in record.getMessage()
    assert self.cached(tmp_path)[1] == 0

  @pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\x93NUMPY\x01\x00", b"PK\x03\x04 no zip"]
  )
  def test_computes_a_corrupt_file_anew_with_a_warning(
    self, tmp_path, caplog, content
  ):
    self.cached(tmp_path)
    self.file_of(tmp_path).write_bytes(content)
    self.assert_computes_anew(tmp_path, caplog)

  @pytest.mark.parametrize("cut", [1, 47, 100])
  def test_computes_a_truncated_file_anew_with_a_warning(
    self, tmp_path, caplog, cut
  ):
    self.cached(tmp_path)
    path = self.file_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    self.assert_computes_anew(tmp_path, caplog)

  @pytest.mark.parametrize("found", [rows[:3], np.zeros((5, 3), np.float32)])
  def test_computes_another_number_of_rows_anew_with_a_warning(
    self, tmp_path, caplog, found
  ):
    self.cached(tmp_path)
    path = self.file_of(tmp_path)
    features.cached(
      tmp_path / "other", ("",), num_rows=len(found), compute=lambda: found
    )
    (other,) = (tmp_path / "other").iterdir()
    other.replace(path)
    other.parent.rmdir()
    self.assert_computes_anew(tmp_path, caplog)

  def test_a_flipped_bit_anywhere_is_never_an_error_nor_a_wrong_feature(
    self, tmp_path
  ):
    self.cached(tmp_path)
    path = self.file_of(tmp_path)
    whole = path.read_bytes()
    for place in range(len(whole)):
      flipped = bytearray(whole)
      flipped[place] ^= 1
      path.write_bytes(bytes(flipped))
      np.testing.assert_array_equal(self.cached(tmp_path)[0], self.rows)


class TestPredict:
  def test_is_the_softmax_of_the_head(self):
    problem = oracle.make_problem()
    probs = features.predict(problem.head, problem.features)
    np.testing.assert_allclose(probs, problem.probs, rtol=1e-5)
    np.testing.assert_allclose(jax.numpy.sum(probs, axis=1), 1.0, rtol=1e-5)
