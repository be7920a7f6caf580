"""Stage extract_attention: run one model over the pairs once, keeping statistics of every attention call."""

from __future__ import annotations

from attention_collapse.stages.run import run_stage
from attention_collapse.study.attention import extract_study as main

if __name__ == "__main__":
    run_stage(main)
