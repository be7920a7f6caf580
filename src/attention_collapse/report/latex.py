r"""LaTeX from metrics: one macro a number, and booktabs tables whose numbers carry their evidence.

`\acfile{name}{file}{run}{line}` names a metrics file and its run, and defines the run as the number `name.evidence_id`;
each `\acdef{key}{form}{text}{line}` below it defines a number of that file. `\ac{key}` prints a number, and
`\acval{key}{other form}{other text}` prints it in another form; what LaTeX makes of them says
paper/attention_collapse.sty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attention_collapse.report.evidence import DASH, Evidence, Scalar, printed

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}
P_VALUES = {"p", "p_holm", "wilcoxon_p", "permutation_p", "tost_p", "shapiro_p", "q_p"}


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def given(text: str) -> str:
    r"""LaTeX that is a name or a definition and no result, so that digits in it need no evidence: `\given{0.7}`."""
    return f"\\given{{{text}}}"


def tex(found: Scalar, plain: str) -> str:
    """What `printed` gave for a value, as LaTeX."""
    if isinstance(found, str):
        return escape(plain)
    if plain == DASH:
        return plain
    if plain.startswith("<10^"):
        return f"$<10^{{{plain.removeprefix('<10^')}}}$"
    if plain.startswith("<"):
        return f"${plain}$"
    return plain.replace("-", "$-$").replace(" %", r"\,\%")


def value(source: Evidence, key: str, form: int | str = 3) -> str:
    r"""A number for a table's cell: its text, linked to the evidence of its `\acdef`; a dash if the file has none."""
    if key not in source:
        return DASH
    found = source.cite(key)
    return f"\\acval{{{source.name}.{key}}}{{{form}}}{{{tex(found.value, printed(found.value, form))}}}"


def interval(source: Evidence, key: str, form: int | str = 3) -> str:
    """ "[low, high]" of the summary `key`, each end with its evidence; a dash if the summary has no interval."""
    ends = [f"{key}.{end}" for end in ("ci_low", "ci_high")]
    if all(end not in source or source.cite(end).value is None for end in ends):
        return DASH
    return f"[{', '.join(value(source, end, form) for end in ends)}]"


def usual_form(key: str, found: Scalar) -> str:
    """The form of a number's macro: of p-values "p", of other numbers three decimals."""
    if isinstance(found, str | bool):
        return "text"
    return "p" if key.rsplit(".", 1)[-1] in P_VALUES else "3"


def macros(source: Evidence, keys: Iterable[str] | None = None) -> str:
    r"""`\acfile`, and one `\acdef` a scalar of the file, or of the named ones.

    Beside `x.log10_p` stands `x.p_text`, the p-value. `\acfile` defines the evidence_id, which has no `\acdef`.
    """
    run = source.cite("evidence_id")
    lines = [f"\\acfile{{{source.name}}}{{{run.file}}}{{{tex(run.value, run.run)}}}{{{run.line}}}"]
    for key in source.scalars if keys is None else keys:
        if key == run.key:
            continue
        found = source.cite(key)
        forms = {key: usual_form(key, found.value)}
        if key.endswith(".log10_p"):
            forms[key.removesuffix("log10_p") + "p_text"] = "log10p"
        for name, form in forms.items():
            text = tex(found.value, printed(found.value, form))
            lines.append(f"\\acdef{{{source.name}.{name}}}{{{form}}}{{{text}}}{{{found.line}}}")
    return "\n".join(lines) + "\n"


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """A booktabs tabular, one cell a line. `columns`: (alignment, heading); cells are LaTeX already."""
    alignment = "".join(align for align, _ in columns)
    head = " & ".join(heading for _, heading in columns)
    body = "\n".join("\n& ".join(row) + r" \\" for row in rows)
    return (
        f"\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}\n\\toprule\n{head} \\\\\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n"
    )
