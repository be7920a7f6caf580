"""Stage null_reference: what uniform attention scores on COCO's real caption lengths, for common vision towers."""

from __future__ import annotations

from attention_collapse.files import read_json, sha256_file
from attention_collapse.identity.settle import settle_json
from attention_collapse.measures.null import VISION_TOWERS, caption_null
from attention_collapse.stages.run import run_stage
from attention_collapse.study.layout import CAPTION_LENGTHS, NULL_REFERENCE, evidence_of


def main() -> None:
    """Write the null of each tower: all rows for each, and the other choices of rows for ViT-B/32."""
    source = read_json(CAPTION_LENGTHS)
    lengths = {int(tokens): count for tokens, count in source["n_tokens"].items()}
    towers = {name: {"image_tokens": tokens, **caption_null(tokens, lengths)} for name, tokens in VISION_TOWERS.items()}
    first = next(iter(VISION_TOWERS))
    variants = {
        rows: caption_null(VISION_TOWERS[first], lengths, rows)["mean"] for rows in ("all", "readout", "padded")
    }
    result = {
        "towers": towers,
        "rows": {"tower": first, **variants},
        "n_captions": source["n_captions"],
        "stage": "null_reference",
        "evidence_id": evidence_of("null_reference", {}, {"lengths": sha256_file(CAPTION_LENGTHS)}),
    }
    settle_json(NULL_REFERENCE, result)
    for name, values in towers.items():
        print(f"{name}: null {values['mean']:.4f} (sd {values['sd']:.4f}), {values['share_above_0_7']:.2%} above 0.7")


if __name__ == "__main__":
    run_stage(main)
