"""Numbers of a page that carry their evidence: file, run and line, as the reports' do."""

from __future__ import annotations

from dataclasses import dataclass

from attention_collapse.report.evidence import DASH, Evidence, Scalar, printed


@dataclass(frozen=True)
class Cited:
    """One number or text of a metrics file, as it is shown.

    Attributes
    ----------
    shown
        As printed in its form; an en dash where it is undefined.
    value
        As the file has it; None: undefined.
    key, anchor
        Its key in the file, and `file@run:Lline`, which is its permalink in the page.
    """

    shown: str
    value: Scalar
    key: str
    anchor: str


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; each is None where the file has no such number.

    Attributes
    ----------
    reason
        Why the mean, or its interval, is undefined; None where nothing is missing.
    """

    mean: Cited | None
    low: Cited | None
    high: Cited | None
    reason: Cited | None = None

    @property
    def point(self) -> float | None:
        """The mean as a number."""
        value = self.mean.value if self.mean else None
        return float(value) if isinstance(value, int | float) else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval as two numbers; None where either is undefined."""
        ends = [end.value if end else None for end in (self.low, self.high)]
        low, high = ends
        return (float(low), float(high)) if isinstance(low, int | float) and isinstance(high, int | float) else None


def cited(source: Evidence | None, key: str, form: int | str = 3) -> Cited | None:
    """A scalar of a file with its citation; None if the file does not exist or does not have it."""
    if source is None or key not in source:
        return None
    found = source.cite(key)
    shown = printed(found.value, form)
    shown = "–" if shown == DASH else shown.replace("<10^", "<1e").replace("-", "−" if form != "text" else "-")
    return Cited(shown, found.value, key, f"{found.file}@{found.run}:L{found.line}")


def estimate(source: Evidence | None, key: str, form: int | str = 3) -> Estimate:
    """The summary at a key: mean, interval, and the reason where one is undefined."""
    mean, low, high = (cited(source, f"{key}.{name}", form) for name in ("mean", "ci_low", "ci_high"))
    return Estimate(mean, low, high, cited(source, f"{key}.reason", "text"))
