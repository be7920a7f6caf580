"""What a data set is, in one number: the same pictures with the same texts have the same one, wherever they lie."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attention_collapse.files import sha256_bytes

if TYPE_CHECKING:
    from datasets import Dataset


def fingerprint(pairs: Dataset) -> str:
    """Hex sha256 over each row of `data.pairs.table`, in its order: the image's hash, captions, foils and partner.

    Ids, names and folders are no part of it; a partner is named by its row.

    Examples
    --------
    >>> row = {"sha256": ["ab"], "captions": [["a ring"]], "foils": [None], "partner": [None]}
    >>> fingerprint({"image_id": [1]} | row) == fingerprint({"image_id": [2]} | row)
    True
    >>> fingerprint({"image_id": [1]} | row) == sha256_bytes(b'[["ab",["a ring"],[],null]]')
    True
    """
    place = {image: row for row, image in enumerate(pairs["image_id"])}
    columns = (pairs[name] for name in ("sha256", "captions", "foils", "partner"))
    rows = [
        [digest, captions, [[foil["caption"] for foil in some] for some in foils or []], place.get(partner)]
        for digest, captions, foils, partner in zip(*columns, strict=True)
    ]
    return sha256_bytes(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))
