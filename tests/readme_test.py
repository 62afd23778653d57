"""Tests that the README is true."""

import re

from configs import common
from tests import tiny
from tests.table import each

PAGES = [tiny.ROOT / "README.md", *sorted((tiny.ROOT / "docs").glob("*.md"))]
README = (tiny.ROOT / "README.md").read_text()
FIELDS = dict(tiny.leaves(common.get_config().to_dict()))


def blocks(language: str) -> list[str]:
  return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


class TestReadme:
  def test_examples_of_the_functions_run(self):
    one_call, functions = blocks("python")
    names = {}
    exec(one_call, names)
    assert len(set(names["indices"].tolist())) == 20
    assert names["indices"].min() >= 50
    names = {}
    exec(functions, names)
    assert len(set(names["selected"].tolist())) == 20
    assert names["scores"].shape == (950,)

  def test_flags_are_fields_of_the_configuration(self):
    flags = re.findall(r"--config\.([\w.]+)", README)
    assert len(flags) > 5
    assert set(flags) <= set(FIELDS)

  def test_modules_of_commands_exist(self):
    modules = set(re.findall(r"-m ((?:decern_jax|benchmarks)\.\w+)", README))
    assert len(modules) > 4
    for module in modules:
      path = tiny.ROOT / module.replace(".", "/")
      files = (path.with_suffix(".py"), path / "__main__.py")
      assert any(file.is_file() for file in files), module

  def test_commands_begin_with_the_main_job_and_the_tests(self):
    first, second = blocks("sh")[0].strip().splitlines()
    assert first.endswith("-m decern_jax.main --config=configs/quickstart.py")
    assert second.endswith("-m pytest")

  @each("page", PAGES)
  def test_links_and_files_are_there(self, page):
    text = page.read_text()
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named = re.findall(
      r"(?<![\w/])((?:configs|decern_jax|tests|benchmarks)/[\w/]+\.\w+)", text
    )
    missing = [name for name in linked if not (page.parent / name).exists()]
    missing += [name for name in named if not (tiny.ROOT / name).exists()]
    assert missing == []
