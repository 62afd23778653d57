"""Compares strategies on Grocery Store, with a frozen MobileNetV2.

  python -m benchmarks.grocery_store --data=DIR --weights=FILE.safetensors

DIR holds {train,test}/<class>/*.jpg, FILE MobileNetV2's ImageNet weights. Runs
what is missing of 4 strategies x 5 seeds, 8 rounds of 81 labels, prints the
table of the README and draws its picture: some minutes on 2 CPU cores. The same
command again resumes.
"""

import argparse
import subprocess
import sys

from etils import epath
import numpy as np

from decern_jax.report import figures, records, statistics

STRATEGIES = ("decern", "margin", "entropy", "random")
SEEDS = (1, 11, 111, 1111, 11111)


def run(strategy: str, data: str, weights: str, workdir: epath.Path) -> list:
  """Runs a strategy where it is not done yet, and returns its records."""
  command = [
    *(sys.executable, "-m", "decern_jax.main"),
    "--config=configs/image_folder.py",
    f"--config.dataset.path={data}",
    f"--config.model.weights={weights}",
    f"--config.selection.strategy={strategy}",
    f"--config.seeds={SEEDS}",
    f"--workdir={workdir / strategy}",
  ]
  subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
  return [records.read(workdir / strategy / f"seed{s}") for s in SEEDS]


def main() -> None:
  """Runs the comparison."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data", required=True)
  parser.add_argument("--weights", required=True)
  parser.add_argument("--workdir", default="runs/grocery_store")
  parser.add_argument("--picture", default="docs/grocery_store.png")
  options = parser.parse_args()
  workdir = epath.Path(options.workdir)
  runs = {
    strategy: run(strategy, options.data, options.weights, workdir)
    for strategy in STRATEGIES
  }
  labels = [record["num_labeled"] for record in runs["random"][0]]
  print("| strategy | " + " | ".join(map(str, labels)) + " | AUBC |")
  print("| --- |" + " --- |" * (len(labels) + 1))
  for strategy, seeds in runs.items():
    accuracy = 100 * np.array(
      [[record["test"]["accuracy"] for record in run] for run in seeds]
    )
    areas = [
      statistics.area_under_budget_curve(labels, row) for row in accuracy
    ]
    cells = " | ".join(f"{value:.1f}" for value in accuracy.mean(axis=0))
    spread = np.std(areas, ddof=1)
    print(f"| {strategy} | {cells} | {np.mean(areas):.1f} ± {spread:.1f} |")
  figures.learning_curve(runs, options.picture)


if __name__ == "__main__":
  main()
