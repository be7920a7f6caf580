"""One self-contained HTML file of templates, a style sheet and scripts that lie beside this module.

Every text that comes from a user (captions, file and model names) is escaped by the template engine; data stand as JSON
in a script element of a type that is never run. A content security policy allows the page's own scripts by their hash
and forbids every request, so that a text which is not escaped could not run either.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

HERE = Path(__file__).parent
LARGEST = 5 * 2**20  # bytes of a page, in our tests; nothing is cut to it
HEIGHT = 820  # pixels of the frame in a notebook


def render(template: str, *, title: str, scripts: Iterable[str], data: Mapping[str, Any] | None, **given: Any) -> str:
    """The page.

    Parameters
    ----------
    template
        Name of the template; it extends `base.html`.
    scripts
        Names of the scripts, in their order.
    data
        What the scripts read, as JSON; None: nothing.
    given
        What the template is filled with.
    """
    script = "\n".join((HERE / name).read_text("utf-8") for name in scripts)
    digest = b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
    environment = Environment(
        loader=PackageLoader("attention_collapse.report.explorer", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    named = set[str]()

    def first(anchor: str) -> bool:
        """Whether this is the first time: an id stands once in a page."""
        known = anchor in named
        named.add(anchor)
        return not known

    environment.globals["first"] = first
    style = (HERE / "explorer.css").read_text("utf-8")
    return environment.get_template(template).render(
        title=title,
        style=style,
        script=script,
        digest=digest,
        data=data,
        **given,
    )


class Page:
    """A page: `html` is the whole of it, and a notebook shows it in a frame of its own."""

    def __init__(self, html: str) -> None:
        self.html = html

    def frame(self, height: int = HEIGHT) -> str:
        """The page in a frame, so many pixels high, that may run its own scripts and nothing else."""
        return (
            f'<iframe title="attention-collapse explore" sandbox="allow-scripts" srcdoc="{escape(self.html)}" '
            f'style="width:100%;height:{height}px;border:1px solid #999"></iframe>'
        )

    def _repr_html_(self) -> str:
        return self.frame()

    def __repr__(self) -> str:
        return f"<Page of {len(self.html.encode('utf-8')) / 2**20:.1f} MiB; .html is its text>"
