"""Fixtures of a server on loopback."""

import pytest

from tests.annotation.studio.local_server import LocalServer


@pytest.fixture
def server():
  with LocalServer() as server:
    yield server
