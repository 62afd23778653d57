"""Tiny data sets of tfds, which tests prepare from builders of their own."""

import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds


def encode(value: int) -> bytes:
  """Returns a PNG of 6 x 8 equal pixels."""
  pixels = np.full((6, 8, 3), value, np.uint8)
  return cv2.imencode(".png", pixels)[1].tobytes()


def prepared(name: str):
  """Makes a fixture of the folder with a prepared data set."""

  @pytest.fixture(scope="module")
  def data_dir(tmp_path_factory) -> pathlib.Path:
    data_dir = tmp_path_factory.mktemp("tfds")
    builder = tfds.builder(name, data_dir=data_dir)
    builder.download_and_prepare(file_format="array_record")
    return data_dir

  return data_dir
