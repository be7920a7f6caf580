"""What a resumed run may go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attention_collapse.errors import DataError

FORMAT: Final = 1
ANEW = "start with a new Monitor, without its state"


def check_state(state: object, own: Mapping[str, Any]) -> None:
    """DataError unless a state is of a monitor like this one.

    Parameters
    ----------
    own
        What `Monitor.state_dict` gives of the monitor that is to go on.
    """
    known = state if isinstance(state, Mapping) else {}
    absent = sorted(own.keys() - known.keys()) if isinstance(state, Mapping) else []
    if known.get("format") != FORMAT or absent:
        got = f"format {known.get('format')!r}" if isinstance(state, Mapping) else type(state).__name__
        raise DataError(
            f"a state of {got}" + f", without {', '.join(absent)}" * bool(absent),
            expected=f"what Monitor.state_dict gives, format {FORMAT}", remedy=ANEW,
        )  # fmt: skip
    if known["rule"] != own["rule"]:
        raise DataError(
            f"the state is of the rule {known['rule']}, this one is {own['rule']}",
            expected="the same rule, or the alarms would go on by another",
            remedy=f"restore the rule of the run, or {ANEW}",
        )
    if known["held_out"] != own["held_out"]:
        raise DataError(
            f"the state is of held-out pairs {known['held_out']}, these are {own['held_out']} (digest, partners, seed)",
            expected="the same held-out and hard pairs, partners and seed, or the curve would go on with others",
            remedy=f"restore the held-out pairs of the run, or {ANEW}",
        )
