"""Elements of an HTML page that refers to no other file."""

import base64
from collections.abc import Iterable, Sequence
import html

from decern_jax.report.gallery import Picture

Cell = str
"""HTML of a cell of a table."""

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: #fff;
  color: #1b1b1b; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #d8d8d8;
  text-align: right; vertical-align: bottom; }
td { white-space: nowrap; }
th:first-child { text-align: left; }
thead th { border-bottom: 2px solid #1b1b1b; font-weight: 600; }
tbody th { font-weight: 400; white-space: nowrap; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; }
.left th, .left td { text-align: left; vertical-align: top; }
.thumb { width: 6rem; max-width: none; height: 6rem; object-fit: cover; }
.bar { height: .8rem; background: #1f77b4; }
.copy { display: inline-block; width: 9rem; margin: 0 .6rem .6rem 0;
  overflow-wrap: anywhere; white-space: normal; font-size: .8rem; }
figcaption, .small { color: #4a4a4a; font-size: .9rem; }
pre { overflow-x: auto; font-size: .85rem; }
@media (max-width: 32rem) { dl { display: block; }
  dd { margin-bottom: .5rem; } }
"""


def document(title: str, lead: str, sections: Iterable[tuple[str, str]]) -> str:
  """Returns a page.

  Args:
    title: Its title, as plain text.
    lead: The first sentence, as plain text.
    sections: The heading of each section, as plain text, and its HTML.

  Returns:
    The page, which has no script and refers to no other file or host.
  """
  title = html.escape(title)
  body = "".join(
    f"<section>\n<h2>{html.escape(name)}</h2>\n{content}</section>\n"
    for name, content in sections
  )
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
    f"<body>\n<main>\n<h1>{title}</h1>\n"
    f"<p>{html.escape(lead)}</p>\n{body}</main>\n</body>\n</html>\n"
  )


def table(
  title: str,
  header: Sequence[Cell],
  rows: Sequence[Sequence[Cell]],
  *,
  is_text: bool = False,
) -> str:
  """Returns a table that scrolls sideways if it is too wide.

  Args:
    title: Its caption, as plain text.
    header: Names of the columns, as HTML.
    rows: Its cells, as HTML; the first cell of a row is its name.
    is_text: Whether it holds words and pictures rather than numbers.
  """
  kind = ' class="left"' if is_text else ""
  head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
  body = "".join(
    f'<tr><th scope="row">{row[0]}</th>'
    + "".join(f"<td>{cell}</td>" for cell in row[1:])
    + "</tr>\n"
    for row in rows
  )
  title = html.escape(title)
  return (
    f'<div class="wide" role="region" aria-label="{title}" tabindex="0">\n'
    f"<table{kind}><caption>{title}</caption>\n"
    f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
  )


def figure(picture: Picture) -> str:
  """Returns a picture with its heading and caption."""
  content = base64.b64encode(picture.content).decode()
  title, caption = html.escape(picture.title), html.escape(picture.caption)
  return (
    f"<figure>\n<h3>{title}</h3>\n"
    f'<img alt="{title}: {caption}"'
    f' src="data:{picture.media_type};base64,{content}">\n'
    f"<figcaption>{caption}</figcaption>\n</figure>\n"
  )


def bullets(items: Sequence[str]) -> str:
  """Returns a list.

  Args:
    items: Its items, as plain text.
  """
  lines = "".join(f"<li>{html.escape(item)}</li>\n" for item in items)
  return f"<ul>\n{lines}</ul>\n"


def description_list(items: Iterable[tuple[str, str]]) -> str:
  """Returns a description list.

  Args:
    items: Each term and its description, as plain text.
  """
  lines = "".join(
    f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>\n"
    for term, text in items
  )
  return f"<dl>\n{lines}</dl>\n"
