"""Tests of decern_jax/cli/usage.py: every field has a meaning."""

from typing import Annotated

from absl import flags

from decern_jax.cli import config_files, usage
from decern_jax.cli.config_files import PRETRAINING, RUN
from decern_jax.runs.config import Distinct, OneOf, Range
from decern_jax.strategies import declared_options
from tests import tiny
from tests.table import each

FLAGS = flags.FlagValues()
flags.DEFINE_integer("top", 5, "Classes of each image.", flag_values=FLAGS)
flags.DEFINE_bool("open", False, "Opens the page. " * 9, flag_values=FLAGS)
flags.DEFINE_string("images", None, "Folder.", flag_values=FLAGS)


def help_of(*names, kind=RUN):
  values = {name: config_files.load(kind, kind) for name in names}
  flag_list = [FLAGS[name] for name in FLAGS]
  kinds = dict.fromkeys(names, kind)
  return usage.describe(
    "Does it.\n\n  do it\n\nMore.\n", flag_list, kinds, values
  )


class TestFields:
  @each("kind", [RUN, PRETRAINING])
  def test_are_those_of_the_configuration_with_a_meaning_each(self, kind):
    found = [field for field in usage.fields(kind) if field.values]
    expected = dict(tiny.leaves(config_files.load(kind, kind).to_dict()))
    assert {field.name for field in found} == set(expected)
    assert [field.name for field in found if len(field.meaning) < 5] == []
    assert [field.name for field in found if field.meaning[-1] != "."] == []

  def test_options_have_what_strategies_declare(self):
    found = {field.name: field for field in usage.fields(RUN)}
    field = found["selection.options.dropout_rate"]
    assert (
      declared_options()["dropout_rate"].meaning.rstrip(".") in field.meaning
    )
    assert field.meaning.endswith("Of bald, power_bald.")
    assert field.values == "A number from 1e-06 to 0.999999."


class TestValues:
  @each(
    "hint, text",
    [
      (bool, "True or False."),
      (str | None, "Text, or None."),
      (tuple[str, ...], "A tuple; each text."),
      (Annotated[int, Range(low=1)], "An integer of at least 1."),
      (
        Annotated[float | None, Range(0.0, 1.0)],
        "A number from 0 to 1, or None.",
      ),
      (Annotated[float, Range(-float("inf"))], "A number."),
      (Annotated[str, OneOf("x", {"b": 1, "a": 2})], "One of a, b."),
      (
        Annotated[tuple[int, ...], Range(0, 2**32 - 1), Distinct()],
        "A tuple, not empty and without repetitions; each an integer from 0 to"
        " 4294967295.",
      ),
    ],
  )
  def test_are_told(self, hint, text):
    assert usage.describe_values(hint) == text


class TestDescribe:
  def test_shows_flags_and_fields(self):
    text = help_of("config")
    assert text.startswith(
      "Does it.\n\n  do it\n\nMore.\n\nFlags:\n\n  --images=...\n"
    )
    assert "  --[no]open\n      Opens the page." in text
    assert "  --top=5\n      Classes of each image.\n" in text
    field = {field.name: field for field in usage.fields(RUN)}[
      "system.num_devices"
    ]
    assert (
      "\nsystem:\n  Settings that change no result beyond rounding. They may"
      " change between two\n  starts of a run.\n\n  --config.system.num_devices"
      f"=None\n      {field.meaning}\n      {field.values}\n"
    ) in text
    assert max(map(len, text.splitlines())) < 80

  def test_shows_each_configuration(self):
    text = help_of("pretrain", kind=PRETRAINING)
    assert "Fields of the configuration, after --pretrain:" in text
    assert "  --pretrain.dataset.image_size=64\n      Side of the crop" in text
