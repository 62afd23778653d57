"""Fixtures of tests of storage."""

import pytest

from tests.io import fake_store


@pytest.fixture
def store():
  with fake_store.installed() as store:
    yield store
