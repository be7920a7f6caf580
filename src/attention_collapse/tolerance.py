"""When two numbers differ by rounding only."""

from __future__ import annotations

SETTLE_RTOL = 1e-4
SETTLE_ATOL = 1e-6


def within(old: float, new: float, rtol: float = SETTLE_RTOL, atol: float = SETTLE_ATOL) -> bool:
    """Whether |new − old| ≤ atol + rtol · |old|; never of NaN, and of infinities only where they are equal."""
    return old == new or abs(new - old) <= atol + rtol * abs(old) < float("inf")
