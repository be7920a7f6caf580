"""LaTeX from metrics: one macro a number, and booktabs tables. The only place where a number is rounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


P_VALUES = {"p", "p_holm", "wilcoxon_p", "permutation_p", "tost_p", "shapiro_p", "q_p"}


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def number(value: float | int | None, decimals: int = 3) -> str:
    """A number for print: integers whole, others with `decimals` places, undefined as a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "--"
    if isinstance(value, int):
        return f"{value}"
    text = f"{value:.{decimals}f}"
    text = text.lstrip("-") if float(text) == 0 else text
    return text.replace("-", "$-$")


def p_value(log10_p: float | None) -> str:
    """A p-value from its decimal logarithm: 0.012, or a bound where three places would print 0."""
    if log10_p is None:
        return "--"
    if log10_p >= -3:
        return f"{10**log10_p:.3f}"
    exponent = math.ceil(log10_p)
    return rf"$<10^{{{max(exponent, -300)}}}$"


def flatten(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """("a.b.c", value) of every scalar, in sorted order."""
    for key in sorted(data):
        value = data[key]
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def macros(data: Mapping[str, Any], prefix: str) -> str:
    r"""One `\acdef{key}{text}` a scalar; `\ac{key}` prints it, and an unknown key stops LaTeX."""
    lines = []
    for key, value in flatten(data, prefix):
        if isinstance(value, bool):
            text = "yes" if value else "no"
        elif key.endswith(".log10_p"):
            lines.append(f"\\acdef{{{key.removesuffix('.log10_p')}.p_text}}{{{p_value(value)}}}")
            text = number(value)
        elif key.rsplit(".", 1)[-1] in P_VALUES:
            text = "--" if value is None else r"$<0.001$" if value < 0.001 else number(float(value))
        else:
            text = escape(value) if isinstance(value, str) else number(value)
        lines.append(f"\\acdef{{{key}}}{{{text}}}")
    return "\n".join(lines) + "\n"


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """A booktabs tabular. `columns`: (alignment, heading); cells are LaTeX already."""
    alignment = "".join(align for align, _ in columns)
    head = " & ".join(heading for _, heading in columns)
    body = "\n".join(" & ".join(row) + r" \\" for row in rows)
    return (
        f"\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}\n\\toprule\n{head} \\\\\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )
