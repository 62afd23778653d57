"""Tests that the README and the pages in docs/ are true."""

import re

from configs import common, pretrain_common
from decern_jax.cli import config_files, console
from tests import tiny
from tests.table import each

PAGES = [tiny.ROOT / "README.md", *sorted((tiny.ROOT / "docs").glob("*.md"))]
README = (tiny.ROOT / "README.md").read_text()
FIELDS = {
  name
  for config in (common.get_config(), pretrain_common.get_config())
  for name, _ in tiny.leaves(config.to_dict())
}
FLAGS = {
  name
  for module in (tiny.ROOT / "decern_jax" / "cli").glob("*.py")
  for name in re.findall(r'DEFINE_\w+\(\s*"(\w+)"', module.read_text())
}


class TestReadme:
  def test_examples_of_the_functions_run(self):
    one_call, functions = tiny.code_blocks("README.md")
    names = {}
    exec(one_call, names)
    assert len(set(names["indices"].tolist())) == 20
    assert names["indices"].min() >= 50
    names = {}
    exec(functions, names)
    assert len(set(names["selected"].tolist())) == 20
    assert names["scores"].shape == (950,)

  def test_commands_begin_with_the_main_job_and_the_tests(self):
    first, second = tiny.code_blocks("README.md", "sh")[0].strip().splitlines()
    assert first.endswith("-m decern_jax.main --config=configs/quickstart.py")
    assert second.endswith("-m pytest")


class TestPages:
  @each("page", PAGES)
  def test_fields_of_configurations_exist(self, page):
    found = re.findall(r"--(?:config|pretrain)\.([\w.]*\w)", page.read_text())
    assert set(found) - FIELDS == set()
    assert found or page.name != "README.md"

  @each("page", PAGES)
  def test_modules_and_flags_of_commands_exist(self, page):
    text = page.read_text().replace("\\\n", " ")
    commands = re.findall(
      r"python -m ((?:decern_jax|benchmarks)\.\w+)([^\n`]*)", text
    )
    verbs = re.findall(r"decern-jax ([a-z][\w-]*)([^\n`]*)", text)
    assert (commands and verbs) or page.name != "README.md"
    for module, rest in commands + verbs:
      path = tiny.ROOT / module.replace(".", "/")
      files = (path.with_suffix(".py"), path / "__main__.py")
      is_verb = module in console.VERBS
      assert is_verb or any(file.is_file() for file in files), module
      if is_verb or module.startswith("decern_jax"):
        flags = re.findall(r" --(?:no)?(\w+)(?![\w.])", rest)
        known = FLAGS | {"config", "pretrain", "help"}
        assert set(flags) - known == set(), rest

  @each("page", PAGES)
  def test_configurations_exist(self, page):
    named = re.findall(
      r"--(config|pretrain)=([a-z]\w*)(?![\w./])", page.read_text()
    )
    assert named or page.name != "README.md"
    kinds = {"config": config_files.RUN, "pretrain": config_files.PRETRAINING}
    for flag, name in named:
      assert name in config_files.names(kinds[flag]), name

  def test_tests_of_the_faults_exist(self):
    page = (tiny.ROOT / "docs" / "faults.md").read_text()
    found = re.findall(r"(tests/\S+\.py) -k (\w+)", page)
    assert len(found) > 5
    for file, name in found:
      text = (tiny.ROOT / file).read_text()
      assert re.search(rf"(class|def) \w*{name}", text), (file, name)

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
