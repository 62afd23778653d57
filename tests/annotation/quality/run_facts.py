"""A run that has found something of everything."""

import dataclasses

from decern_jax.annotation.quality.findings import POOL, Facts
from decern_jax.annotation.query import Item, Query
from decern_jax.annotation.state import Answer

CLASSES = ("ant", "bee", "cat")


def make_query(round_num: int, *ids: str, **changes) -> Query:
  items = tuple(
    Item(id_, f"/images/{id_}", 0.25, (("ant", 0.5), ("bee", 0.25)))
    for id_ in ids
  )
  asked = Query(round_num, CLASSES, False, items, "margin")
  return asked._replace(**changes)


def make_record(round_num: int, *selected: str, accuracy: float = 0.5) -> dict:
  return {
    "round": round_num,
    "num_labeled": 2 * round_num + 2,
    "test": {"accuracy": accuracy},
    "selected": list(selected),
    "nearest_labeled": [[["a", 0.9]] for _ in selected],
    "cluster_sizes": [3 for _ in selected],
  }


def make_facts(**changes) -> Facts:
  """Returns facts of two rounds and three queries, of two people."""
  facts = Facts(
    title="insects",
    class_names=CLASSES,
    num_images=50,
    queries=(
      make_query(0, "a", "b", strategy="typiclust"),
      make_query(1, "c", "d"),
      make_query(2, "e", "<f>"),
    ),
    answers=(
      Answer("a", ("ant",), "ann"),
      Answer("b", ("bee",), "ann"),
      Answer("c", ("ant",), "ann"),
      Answer("c", ("bee",), "bob"),
      Answer("d", None, "bob"),
    ),
    records=(
      make_record(0, "c", "d", accuracy=0.5),
      make_record(1, "e", "<f>", accuracy=0.75),
    ),
    labels_held_out={"test": {"t1": ("ant",), "t2": ("bee",)}},
    hashes={
      POOL: {"a": 7, "b": 8, "c": 7, "d": 9},
      "test": {"t1": 8, "t2": 5, "t3": 5},
    },
    probs=None,
    labeled=(),
    is_multi_label=False,
  )
  return dataclasses.replace(facts, **changes)
