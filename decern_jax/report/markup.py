"""HTML pages from templates; a page refers to no other file or host."""

import base64
from typing import Any

import jinja2


def render(package: str, template: str, **values: Any) -> str:
  """Renders a page from a template, in which text is escaped.

  Args:
    package: The package with the template, in its folder `templates`. The
      templates of `decern_jax.report` can be extended and imported.
    template: Name of the template's file.
    **values: Variables of the template.
  """
  environment = jinja2.Environment(
    loader=jinja2.ChoiceLoader(
      [jinja2.PackageLoader(name) for name in (package, "decern_jax.report")]
    ),
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters["base64"] = lambda content: base64.b64encode(
    content
  ).decode()
  return environment.get_template(template).render(values)
