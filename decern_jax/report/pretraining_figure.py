"""The picture of a pre-training: loss and probe over the epochs."""

from etils import epath
from matplotlib import figure

from decern_jax.pretraining import journal
from decern_jax.report import figures

FILE_NAME = "loss_curve.png"


def draw(workdir: epath.PathLike, records: list[journal.Record]) -> None:
  """Draws the loss over the epochs and, if there is a probe, its metric.

  Args:
    workdir: Folder of the run, where the picture is written.
    records: The records, at least of one epoch.
  """
  picture = figure.Figure(figsize=(6.4, 4.2), layout="constrained")
  axes = picture.subplots()
  trained = [record for record in records if "loss" in record]
  axes.plot(*_series(trained, "loss"), color="C0")
  axes.set_xlabel("epoch")
  axes.set_ylabel("loss", color="C0")
  axes.grid(alpha=0.3)
  axes.spines["top"].set_visible(False)
  probed = [record for record in records if "probe" in record]
  if probed:
    (name,) = probed[0]["probe"]
    other = axes.twinx()
    other.plot(
      [record["epoch"] for record in probed],
      [100.0 * record["probe"][name] for record in probed],
      color="C1",
      marker="o",
      markersize=4,
    )
    other.set_ylabel(f"{name.replace('_', ' ')} (%)", color="C1")
    other.spines["top"].set_visible(False)
  figures.save(picture, epath.Path(workdir) / FILE_NAME)


def _series(records: list[journal.Record], name: str) -> tuple[list, list]:
  """Returns the epochs, and a value of each."""
  return (
    [record["epoch"] for record in records],
    [record[name] for record in records],
  )
