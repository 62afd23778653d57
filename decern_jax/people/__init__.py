"""Runs whose labels come from people."""

from decern_jax.people.session import run

__all__ = ["run"]
