"""Numbers as a person reads them."""

from __future__ import annotations


def fixed(value: float, digits: int = 4, *, sign: bool = False) -> str:
    """The number with so many decimals; what rounds to zero has no sign."""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text
