"""Tests that the table of tests/mutants.py fits the package."""

from tests import mutants


class TestMutants:
  def test_each_changes_one_place_that_tests_can_notice(self):
    wrong = []
    for mutant in mutants.MUTANTS:
      text = (mutants.ROOT / "decern_jax" / mutant.file).read_text()
      tests = [mutants.ROOT / "tests" / name for name in mutant.tests]
      if (
        text.count(mutant.old) != 1
        or mutant.new == mutant.old
        or not tests
        or not all(path.is_file() for path in tests)
      ):
        wrong.append(mutant)
    assert wrong == []
    assert len(mutants.MUTANTS) >= 25
