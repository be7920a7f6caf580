"""Stage code: what code each stage consists of, as one id each, so that DVC sees what an edit changes and what not."""

from __future__ import annotations

import sys

from attention_collapse.errors import AttentionCollapseError
from attention_collapse.files import write_json
from attention_collapse.pipeline import CODE, code_ids


def main() -> None:
    """Write data/code.json."""
    write_json(CODE, code_ids())


if __name__ == "__main__":
    try:
        main()
    except AttentionCollapseError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
