"""The report on a run with people, as one HTML page."""

from collections.abc import Callable, Iterator, Sequence

from decern_jax.annotation.quality.findings import POOL, Findings
from decern_jax.report import markup
from decern_jax.report.gallery import Picture
from decern_jax.report.statistics import Interval

UNKNOWN = "–"

# Rows that the page shows; the table files have all of them.
MAX_SUSPECTS = 60
MAX_GROUPS = 40
MAX_COPIES = 12
MAX_ASKED = 100
MAX_NAMED = 8
# The last queries are shown with images, earlier ones with ids only.
MAX_SHOWN_QUERIES = 3

Thumbnail = Callable[[str, str], str]
"""Maps a split and an id to a data URI of the image, or to ""."""


def render(
  found: Findings, pictures: Sequence[Picture], thumbnail: Thumbnail
) -> str:
  """Renders the report as one HTML page.

  Returns:
    The page, without scripts and references to other files or hosts.
  """
  return markup.render(
    "decern_jax.annotation.quality",
    "findings.html",
    title=f"Labels for {found.title}",
    lead=_lead(found),
    facts=_facts(found),
    found=found,
    labels={asked.id: asked.labels for asked in found.asked},
    pictures=pictures,
    thumbnail=thumbnail,
    share=_share,
    signed=_signed,
    POOL=POOL,
    UNKNOWN=UNKNOWN,
    MAX_SUSPECTS=MAX_SUSPECTS,
    MAX_GROUPS=MAX_GROUPS,
    MAX_COPIES=MAX_COPIES,
    MAX_ASKED=MAX_ASKED,
    MAX_NAMED=MAX_NAMED,
    MAX_SHOWN_QUERIES=MAX_SHOWN_QUERIES,
  )


def _lead(found: Findings) -> str:
  """Returns the state of the run in one or two sentences."""
  progress, held_out = found.progress, found.held_out
  text = (
    f"{progress.num_labeled} of {progress.num_images} images have a label,"
    f" after {progress.num_rounds} rounds."
  )
  if held_out is None:
    return f"{text} No images are held out, so the accuracy is unknown."
  last = held_out.scores[-1]
  return (
    f"{text} {held_out.metric.capitalize()} on the {held_out.num_images} images"
    f" of {held_out.split}: {_share(last.value, last.interval)} %."
  )


def _facts(found: Findings) -> Iterator[tuple[str, str]]:
  progress = found.progress
  yield "Images", f"{progress.num_images}"
  yield "Queried", f"{progress.num_asked}"
  yield "Labeled", f"{progress.num_labeled}"
  yield "Skipped by all", f"{progress.num_skipped}"
  yield "Rounds done", f"{progress.num_rounds}"
  yield "People", f"{len(found.annotators)}"
  yield "Likely wrong", _count_suspects(found)
  yield "Disagreements", f"{len(found.conflicts)}"
  yield "Look the same", f"{len(found.duplicates)} groups"


def _count_suspects(found: Findings) -> str:
  look = found.label_check
  if look is None:
    return "not checked: too few labels"
  return f"{len(look.suspects)} of {look.num_checked} labels checked"


def _share(value: float, interval: Interval | None) -> str:
  text = f"{100 * value:.1f}"
  if interval is None:
    return text
  return f"{text} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _signed(share: float) -> str:
  return f"{100 * share:+.1f}".replace("-", "−")
