"""Tests of decern_jax/distributed/memory.py."""

import numpy as np

from decern_jax.distributed import memory

MEGABYTES = 2**20


class TestMeasurePeak:
  def test_finds_what_was_taken_and_given_back(self):
    with memory.measure_peak() as peak:
      assert peak.added is None
      array = np.ones(64 * MEGABYTES, np.uint8)
      del array
    assert 60 * MEGABYTES < peak.added < 90 * MEGABYTES

  def test_forgets_earlier_peaks(self):
    array = np.ones(256 * MEGABYTES, np.uint8)
    del array
    with memory.measure_peak() as peak:
      pass
    assert peak.added < 16 * MEGABYTES

  def test_finds_nothing_where_the_system_does_not_tell(
    self, monkeypatch, tmp_path
  ):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "no" / "file")
    with memory.measure_peak() as peak:
      pass
    assert peak.added is None
