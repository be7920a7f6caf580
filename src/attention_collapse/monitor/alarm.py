"""An alarm, and the watch that rings it: after so many checks in a row, and not at the first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Alarm:
    """A modality is unused, or the hard pairs are failed.

    Attributes
    ----------
    modality
        "image", "text"; "undetermined" where the hard pairs are failed, which says that one of the two is not used as
        it would have to be, and not which.
    cause
        "image swapped", "text swapped" or "hard pairs".
    since
        Step of the first of the checks in a row that showed it.
    rang_at
        Step of the check that rang it.
    text
        What was seen, in one line.
    ended_at
        Step at which it had not been shown for as many checks in a row; None while it goes on.

    Examples
    --------
    >>> print(Alarm("image", "image swapped", since=300, rang_at=500, text="image unused since step 300"))
    image unused since step 300
    """

    modality: str
    cause: str
    since: int
    rang_at: int
    text: str
    ended_at: int | None = None

    def __str__(self) -> str:
        return self.text


@dataclass
class Watch:
    """Counts checks in a row.

    Attributes
    ----------
    patience
        How many in a row ring the alarm, and end it.
    since
        The first of those now in a row.
    seen, missed
        How many showed it, and how many since then did not.
    ringing
        Whether it rings.
    """

    patience: int
    since: int | None = None
    seen: int = 0
    missed: int = 0
    ringing: bool = False

    def see(self, step: int, shown: bool | None) -> Literal["rings", "ends"] | None:
        """Take one check: shown, not shown, or (None) nothing to be said, which breaks a row and ends no alarm."""
        if shown:
            self.since = step if self.since is None else self.since
            self.seen, self.missed = self.seen + 1, 0
            if not self.ringing and self.seen >= self.patience:
                self.ringing = True
                return "rings"
            return None
        if not self.ringing:
            self.since, self.seen = None, 0
        elif shown is not None:
            self.missed += 1
            if self.missed >= self.patience:
                self.since, self.seen, self.missed, self.ringing = None, 0, 0, False
                return "ends"
        return None

    def state_dict(self) -> dict[str, Any]:
        """Plain values, from which a watch is made again."""
        return asdict(self)
