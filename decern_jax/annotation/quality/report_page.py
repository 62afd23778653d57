"""The report on a run with people, as one HTML page."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import html

from decern_jax.annotation.quality.findings import (
  POOL,
  Asked,
  Copy,
  Findings,
  HeldOut,
)
from decern_jax.annotation.quality.label_errors import Suspect
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

_DEFINITIONS = (
  (
    "Interval",
    "95 %: Wilson's score interval of an accuracy, 1,000 bootstrap samples of"
    " the images for macro F1. That of the gain takes the two as independent"
    " (Newcombe), so it is wider than it need be.",
  ),
  (
    "Score",
    "What the strategy ranked the image by. Compare it within one query only.",
  ),
  (
    "Cluster",
    "How many images without a label look more like this one than like any"
    " other of the query, by the angle between features: what the label stands"
    " for.",
  ),
  (
    "Nearest",
    "The labels of the labeled images whose features have the least angle to"
    " its own, with the cosine; their names come up under the pointer.",
  ),
  (
    "Likely wrong",
    "Confident learning (Northcutt et al. 2021), the rule of cleanlab's"
    " find_label_issues with filter_by='confident_learning': a linear head on"
    " the features of the model before any training, trained without the"
    " image (five folds), takes it for another class with more confidence than"
    " is usual for that class. Classes of fewer than five labels are left out.",
  ),
  (
    "Same to the eye",
    "Equal perceptual hashes (64 bits, DCT), the rule of cleanvision's near"
    " duplicates.",
  ),
  (
    "Alpha",
    "Krippendorff's alpha of nominal values: 1 is perfect agreement, 0 what"
    " chance gives. Labels of an image are one value: all of them must agree.",
  ),
)


def render(
  found: Findings, pictures: Sequence[Picture], thumbnail: Thumbnail
) -> str:
  """Renders the report as one HTML page.

  Returns:
    The page, without scripts and references to other files or hosts.
  """
  sections = (
    ("How far it is", markup.description_list(_facts(found))),
    ("What it gained", _gain(found, pictures)),
    ("Worth a second look: labels", _suspects(found, thumbnail)),
    ("Worth a second look: disagreement", _conflicts(found, thumbnail)),
    ("Worth a second look: same to the eye", _duplicates(found, thumbnail)),
    ("Classes", _classes(found)),
    ("People", _people(found)),
    ("What was asked, and why", _asked(found, thumbnail)),
    ("How to read", markup.description_list(_DEFINITIONS)),
  )
  return markup.document(f"Labels for {found.title}", _lead(found), sections)


def _lead(found: Findings) -> str:
  """Returns the state of the run in one or two sentences."""
  progress, held_out = found.progress, found.held_out
  text = (
    f"{progress.num_labeled} of {progress.num_images} images have a label,"
    f" after {progress.num_rounds} rounds."
  )
  if held_out is None:
    return f"{text} Nothing is held out, so nothing says how good the model is."
  last = held_out.scores[-1]
  return (
    f"{text} {held_out.metric.capitalize()} on the {held_out.num_images} images"
    f" of {held_out.split}: {_share(last.value, last.interval)} %."
  )


def _facts(found: Findings) -> Iterator[tuple[str, str]]:
  progress = found.progress
  yield "Images", f"{progress.num_images}"
  yield "Asked about", f"{progress.num_asked}"
  yield "Labeled", f"{progress.num_labeled}"
  yield "Skipped by all", f"{progress.num_skipped}"
  yield "Rounds done", f"{progress.num_rounds}"
  yield "People", f"{len(found.annotators)}"
  yield "Likely wrong", _count_suspects(found)
  yield "Disagreements", f"{len(found.conflicts)}"
  yield "Same to the eye", f"{len(found.duplicates)} groups"


def _count_suspects(found: Findings) -> str:
  look = found.label_check
  if look is None:
    return "not checked: too few labels"
  return f"{len(look.suspects)} of {look.num_checked} labels checked"


def _gain(found: Findings, pictures: Sequence[Picture]) -> str:
  """Returns the held-out scores of the rounds."""
  held_out = found.held_out
  if held_out is None:
    return (
      "<p>Put labeled images into <code>test/&lt;class&gt;/</code> of the"
      " folder before a run begins, and it measures what labels bring.</p>\n"
    )
  rows = [
    [f"{s.round}", f"{s.num_labeled}", _share(s.value, s.interval)]
    for s in held_out.scores
  ]
  title = f"{held_out.metric.capitalize()} on {held_out.split} (%)"
  table = markup.table(title, ["round", "labels", title.lower()], rows)
  return _total_gain(held_out) + "".join(map(markup.figure, pictures)) + table


def _total_gain(held_out: HeldOut) -> str:
  if held_out.gain is None:
    return "<p>One round is done: what it gained is told after the next.</p>\n"
  first, last = held_out.scores[0], held_out.scores[-1]
  text = (
    f"From {first.num_labeled} to {last.num_labeled} labels:"
    f" {_signed(held_out.gain)} points"
  )
  if held_out.gain_interval is not None:
    low, high = map(_signed, held_out.gain_interval)
    text += f" (95 % interval {low} to {high})"
  return f"<p>{text}.</p>\n"


def _suspects(found: Findings, thumbnail: Thumbnail) -> str:
  """Returns the table of labels that are likely wrong."""
  look = found.label_check
  if look is None:
    return "<p>Two classes of five labels or more are needed to check.</p>\n"
  text = (
    f"A model that did not see them predicts {100 * look.accuracy:.1f} % of"
    f" {look.num_checked} labels."
  )
  if look.unchecked:
    text += f" Too few labels to check: {_some(look.unchecked)}."
  shown = look.suspects[:MAX_SUSPECTS]
  rows = [_suspect_row(suspect, thumbnail) for suspect in shown]
  header = ["image", "given", "likelier", "by"]
  table = markup.table("Likely wrong", header, rows, is_text=True)
  return (
    f"<p>{html.escape(text)}</p>\n"
    + (table if rows else "")
    + _more(len(look.suspects) - len(shown), "label_errors.csv")
  )


def _suspect_row(suspect: Suspect, thumbnail: Thumbnail) -> list[markup.Cell]:
  given = suspect.given or f"not {suspect.suggested}"
  suggested = suspect.suggested or f"not {suspect.given}"
  return [
    _named_image(thumbnail, suspect.id),
    f"{html.escape(given)} ({suspect.p_given:.2f})",
    f"{html.escape(suggested)} ({suspect.p_suggested:.2f})",
    html.escape(_names(_people_of(suspect.annotators))),
  ]


def _conflicts(found: Findings, thumbnail: Thumbnail) -> str:
  """Returns the table of images about which people disagree."""
  if not found.conflicts:
    return "<p>Nobody said different things of an image.</p>\n"
  rows = [
    [
      _named_image(thumbnail, conflict.id),
      "<br>".join(
        html.escape(f"{_person(answer.annotator)}: {_labels(answer.labels)}")
        for answer in conflict.said
      ),
      html.escape(_labels(conflict.labels)),
    ]
    for conflict in found.conflicts[:MAX_SUSPECTS]
  ]
  title, header = "People said different things", ["image", "said", "taken"]
  table = markup.table(title, header, rows, is_text=True)
  return table + _more(len(found.conflicts) - len(rows), "report.json")


def _duplicates(found: Findings, thumbnail: Thumbnail) -> str:
  """Returns the table of images that look the same."""
  if not found.duplicates:
    return "<p>No image that people were asked about has a double.</p>\n"
  rows = [
    [
      _verdict(group),
      "".join(_copy(copy, thumbnail) for copy in group[:MAX_COPIES])
      + _more(len(group) - MAX_COPIES, "duplicates.csv"),
    ]
    for group in found.duplicates[:MAX_GROUPS]
  ]
  header = ["what", "images"]
  table = markup.table("Same to the eye", header, rows, is_text=True)
  return table + _more(len(found.duplicates) - len(rows), "duplicates.csv")


def _verdict(group: Sequence[Copy]) -> markup.Cell:
  """Describes the problem with a group of images that look the same."""
  labels = {copy.labels for copy in group if copy.labels is not None}
  found = [f"{len(group)} images"]
  if len(labels) > 1:
    found.append("<strong>different labels</strong>")
  if any(copy.split != POOL for copy in group):
    found.append("<strong>also held out</strong>")
  return "<br>".join(found)


def _copy(copy: Copy, thumbnail: Thumbnail) -> str:
  text = "" if copy.split == POOL else f"{copy.split}: "
  text += copy.id
  if copy.labels is not None:
    text += f" ({_labels(copy.labels)})"
  image = _image(thumbnail, copy.split, copy.id)
  return f'<div class="copy">{image}{html.escape(text)}</div>'


def _classes(found: Findings) -> str:
  """Returns the table of classes, with bars."""
  if not found.classes:
    return "<p>No class is known yet.</p>\n"
  most = max(count.num_labels for count in found.classes) or 1
  total = sum(count.num_labels for count in found.classes) or 1
  rows = [
    [
      html.escape(count.name),
      f"{count.num_labels}",
      f"{100 * count.num_labels / total:.1f}",
      f'<div class="bar" style="width:{10 * count.num_labels / most:.2f}rem">'
      "</div>",
    ]
    for count in sorted(found.classes, key=lambda c: -c.num_labels)
  ]
  missing = sum(not count.num_labels for count in found.classes)
  named = "1 class has" if missing == 1 else f"{missing} classes have"
  note = f"<p>{named} no label yet.</p>\n" if missing else ""
  header = ["class", "labels", "share (%)", ""]
  return note + markup.table("Labels of each class", header, rows)


def _people(found: Findings) -> str:
  """Returns the tables of the people and their agreement."""
  if not found.annotators:
    return "<p>Nobody has answered yet.</p>\n"
  rows = [
    [html.escape(_person(p.name)), f"{p.num_labeled}", f"{p.num_skipped}"]
    for p in found.annotators
  ]
  header = ["person", "labeled", "skipped"]
  return markup.table("Answers", header, rows) + _agreement(found)


def _agreement(found: Findings) -> str:
  agreement = found.agreement
  if not agreement.num_images:
    return "<p>No image was labeled by two people.</p>\n"
  share = 100 * agreement.num_same / agreement.num_images
  alpha = UNKNOWN if agreement.alpha is None else f"{agreement.alpha:.3f}"
  rows = [
    [
      html.escape(f"{_person(pair.first)}, {_person(pair.second)}"),
      f"{pair.num_images}",
      f"{100 * pair.num_same / pair.num_images:.1f}",
    ]
    for pair in agreement.pairs
  ]
  header = ["people", "images of both", "same labels (%)"]
  return (
    f"<p>{agreement.num_images} images were labeled by two people or more;"
    f" {share:.1f} % of them the same by all. Krippendorff's alpha: {alpha}."
    "</p>\n" + markup.table("Agreement", header, rows)
  )


def _asked(found: Findings, thumbnail: Thumbnail) -> str:
  """Returns the queries, the last one first and unfolded."""
  rounds = sorted({asked.round for asked in found.asked}, reverse=True)
  labels = {asked.id: asked.labels for asked in found.asked}
  shown = []
  for index, round_num in enumerate(rounds):
    if index == MAX_SHOWN_QUERIES:
      thumbnail = _nothing
    items = [asked for asked in found.asked if asked.round == round_num]
    is_open = " open" if round_num == rounds[0] else ""
    strategy = html.escape(items[0].strategy or "no strategy")
    table = _query(round_num, items, labels, thumbnail)
    shown.append(
      f"<details{is_open}>\n<summary>Query {round_num}: {len(items)} images by"
      f" {strategy}</summary>\n{table}</details>\n"
    )
  return "".join(shown) or "<p>Nothing was asked yet.</p>\n"


def _query(
  round_num: int,
  items: Sequence[Asked],
  labels: Mapping[str, tuple[str, ...] | None],
  thumbnail: Thumbnail,
) -> str:
  shown = items[:MAX_ASKED]
  columns = {
    "image": [_named_image(thumbnail, asked.id) for asked in shown],
    "score": [
      UNKNOWN if asked.score is None else f"{asked.score:.4g}"
      for asked in shown
    ],
    "cluster": [
      UNKNOWN if asked.cluster_size is None else f"{asked.cluster_size}"
      for asked in shown
    ],
    "the model said": [_pairs(asked.predictions[:3]) for asked in shown],
    "nearest": [_nearest(asked.nearest, labels) for asked in shown],
    "label": [
      UNKNOWN if asked.labels is None else html.escape(_labels(asked.labels))
      for asked in shown
    ],
  }
  known = {
    name: cells
    for name, cells in columns.items()
    if any(cell != UNKNOWN for cell in cells)
  }
  rows = list(zip(*known.values(), strict=True))
  table = markup.table(f"Query {round_num}", list(known), rows, is_text=True)
  return table + _more(len(items) - len(shown), "asked.csv")


def _pairs(pairs: Sequence[tuple[str, float]]) -> markup.Cell:
  if not pairs:
    return UNKNOWN
  return "<br>".join(f"{html.escape(n)} ({value:.2f})" for n, value in pairs)


def _nearest(
  pairs: Sequence[tuple[str, float]],
  labels: Mapping[str, tuple[str, ...] | None],
) -> markup.Cell:
  """Returns the labels of the nearest images, with their cosines."""
  if not pairs:
    return UNKNOWN
  return "<br>".join(
    f'<span title="{html.escape(id_)}">'
    f"{html.escape(_labels(labels.get(id_) or (id_,)))}</span> ({cosine:.2f})"
    for id_, cosine in pairs
  )


def _named_image(thumbnail: Thumbnail, id_: str) -> markup.Cell:
  return _image(thumbnail, POOL, id_) + html.escape(id_)


def _image(thumbnail: Thumbnail, split: str, id_: str) -> markup.Cell:
  source = thumbnail(split, id_)
  return f'<img class="thumb" alt="" src="{source}"><br>' if source else ""


def _nothing(split: str, id_: str) -> str:
  return ""


def _more(count: int, file: str) -> str:
  return f'<p class="small">{count} more in {file}.</p>\n' if count > 0 else ""


def _share(value: float, interval: Interval | None) -> str:
  text = f"{100 * value:.1f}"
  if interval is None:
    return text
  return f"{text} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _signed(share: float) -> str:
  return f"{100 * share:+.1f}".replace("-", "−")


def _labels(labels: Sequence[str] | None) -> str:
  return " + ".join(labels or ()) or "none"


def _people_of(annotators: Sequence[str]) -> list[str]:
  return [_person(name) for name in annotators]


def _person(name: str) -> str:
  return name or "somebody"


def _some(names: Sequence[str]) -> str:
  """Joins the first names, and says how many more there are."""
  more = len(names) - MAX_NAMED
  return _names(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _names(names: Sequence[str]) -> str:
  return ", ".join(names)
