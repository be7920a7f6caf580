"""Stage code: what code each stage consists of, as one id each, so that DVC sees what an edit changes and what not."""

from __future__ import annotations

from attention_collapse.files import write_json
from attention_collapse.repository.pipeline import CODE, code_ids
from attention_collapse.stages.run import run_stage


def main() -> None:
    """Write data/code.json."""
    write_json(CODE, code_ids())


if __name__ == "__main__":
    run_stage(main)
