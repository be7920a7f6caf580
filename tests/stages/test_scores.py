import numpy as np
import pandas as pd
import pytest

from attention_collapse.engine.scores import by_image, score_blocks, score_pairs
from attention_collapse.errors import DataError


def attention_table(vision, text, captions_of, uniform=(4.0, 2.0)):
    """Rows of an attention table. vision: (image, layer, head) entropies; text: (caption, layer, head)."""
    records = []
    owner = [(image, caption) for image, ids in captions_of.items() for caption in ids]
    for tower, values, ids, null in (
        ("vision", vision, [(image, None) for image in captions_of], uniform[0]),
        ("text", text, owner, uniform[1]),
    ):
        for (image, caption), item in zip(ids, values, strict=True):
            for layer, heads in enumerate(item):
                for head, entropy in enumerate(heads):
                    record = {"image_id": image, "caption_id": caption, "tower": tower, "layer": layer, "head": head}
                    record |= {"n_tokens": 50 if tower == "vision" else 9, "truncated": False}
                    for rows, factor in (("all", 1.0), ("readout", 0.5)):
                        record |= {
                            f"entropy_{rows}": entropy * factor,
                            f"uniform_{rows}": null,
                            f"entropy_normalized_{rows}": 0.5,
                            f"support_{rows}": 3,
                            f"undefined_{rows}": 1,
                        }
                    records.append(record)
    return pd.DataFrame(records).astype({"caption_id": "Int64"})


def test_a_hand_computed_pair():
    table = attention_table([[[1.0, 3.0], [4.0, 4.0]]], [[[1.0], [1.0]]], {7: [70]})
    scores = score_pairs(table, "dual encoder")
    pair = scores.pairs.iloc[0]
    # vision: heads (1 + 3) / 2 = 2 and 4, layers (2 + 4) / 2 = 3; text: 1.
    assert pair["entropy_vision_all"] == 3.0 and pair["mcs_all"] == 0.75
    assert pair["mcs_null_all"] == pytest.approx(4 / 6)
    assert pair["mcs_calibrated_all"] == pytest.approx(0.75 / (0.75 + 0.5))
    assert pair["mcs_readout"] == 0.75 and pair["entropy_text_readout"] == 0.5
    assert scores.layers["mcs_all"].tolist() == [pytest.approx(2 / 3), 0.8]
    assert scores.layers["layer_imbalance_all"].tolist() == [pytest.approx(1 / 3), pytest.approx(0.6)]
    _, heads = score_blocks([table], "dual encoder")
    assert heads.query("tower == 'vision' and layer == 1")["entropy_all"].tolist() == [1.0, 3.0]


def test_captions_are_averaged_before_images():
    table = attention_table(np.full((2, 1, 1), 2.0), np.array([2.0, 2.0, 6.0]).reshape(3, 1, 1), {1: [10], 2: [20, 21]})
    scores = score_pairs(table, "dual encoder")
    assert scores.pairs["mcs_all"].tolist() == [0.5, 0.5, 0.25]
    assert by_image(scores.pairs)["mcs_all"].tolist() == [0.5, 0.375]
    assert scores.layers["mcs_all"].tolist() == [0.5, 0.375]


def test_laws():
    rng = np.random.default_rng(0)
    vision, text = rng.uniform(1, 4, (3, 4, 5)), rng.uniform(0.5, 2, (6, 4, 2))
    captions = {1: [1, 2], 2: [3, 4], 3: [5, 6]}
    base = score_pairs(attention_table(vision, text, captions), "dual encoder").pairs
    heads = score_pairs(attention_table(vision[:, :, ::-1], text[:, :, ::-1], captions), "dual encoder").pairs
    assert np.allclose(base["mcs_all"], heads["mcs_all"])  # the order of heads does not matter
    shuffled = attention_table(vision, text, captions).sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(score_pairs(shuffled, "dual encoder").pairs, base)  # nor that of rows
    uniform = score_pairs(
        attention_table(np.full_like(vision, 4.0), np.full_like(text, 2.0), captions), "dual encoder"
    ).pairs
    assert np.allclose(uniform["mcs_all"], uniform["mcs_null_all"])
    assert np.allclose(uniform["mcs_calibrated_all"], 0.5)


def test_towers_of_unequal_depth():
    scores = score_pairs(
        attention_table(np.full((1, 4, 1), 3.0), np.arange(1.0, 3.0).reshape(1, 2, 1), {1: [1]}), "dual encoder"
    )
    assert scores.alignment == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert scores.layers["entropy_text_all"].tolist() == [1.0, 1.0, 2.0, 2.0]


def test_an_incomplete_table_is_refused():
    table = attention_table(np.ones((2, 2, 2)), np.ones((2, 2, 2)), {1: [1], 2: [2]})
    with pytest.raises(DataError, match="text rows are incomplete"):
        score_pairs(table.iloc[:-1], "dual encoder")
    with pytest.raises(DataError, match="vision rows are incomplete"):
        score_pairs(
            table[~((table["tower"] == "vision") & (table["image_id"] == 1) & (table["layer"] == 1))], "dual encoder"
        )


def test_imbalance_is_that_of_the_image_not_the_mean_of_its_captions():
    # Two captions on either side of 0.5: shares 0.8 and 0.2 average to 0.5, which is balanced.
    scores = score_pairs(
        attention_table(np.full((1, 1, 1), 2.0), np.array([0.5, 8.0]).reshape(2, 1, 1), {1: [1, 2]}), "dual encoder"
    )
    assert by_image(scores.pairs)["imbalance_all"].tolist() == [pytest.approx(0.5)]
    assert scores.layers["layer_imbalance_all"].tolist() == [pytest.approx(0.0)]


def test_an_undefined_caption_makes_its_image_undefined():
    zero = attention_table(np.zeros((2, 1, 1)), np.array([0.0, 1.0, 1.0]).reshape(3, 1, 1), {1: [10, 11], 2: [20]})
    images = by_image(score_pairs(zero, "dual encoder").pairs)
    assert np.isnan(images["mcs_all"]).tolist() == [True, False]


def joint_table(masses):
    """One image with one caption, one layer, one head, as a single-stream model gives it: entropies within groups."""
    records = []
    for tower, entropy, uniform in (("vision", 3.0, 4.0), ("text", 1.0, 2.0)):
        record = {"image_id": 7, "caption_id": 70, "tower": tower, "layer": 0, "head": 0, "n_tokens": 9}
        record["truncated"] = False
        for rows in ("all", "readout"):
            record |= {f"entropy_{rows}": entropy, f"uniform_{rows}": uniform, f"support_{rows}": 3}
            record |= {f"entropy_normalized_{rows}": entropy / uniform, f"undefined_{rows}": 0}
            record |= {f"{name}_{rows}": value for name, value in masses.items()}
        records.append(record)
    return pd.DataFrame(records).astype({"caption_id": "Int64"})


MASSES = {"mass_image": 0.6, "mass_text": 0.2, "mass_other": 0.2, "support_image": 30, "support_text": 5}


@pytest.mark.parametrize("family", ["single stream", "three-group fusion", "cross-attention fusion", "dual encoder"])
def test_each_family_has_the_measures_it_defines(family):
    pair = score_pairs(joint_table(MASSES), family).pairs.iloc[0]
    assert pair["mcs_all"] == 0.75 and pair["mcs_null_all"] == pytest.approx(4 / 6)
    if family == "dual encoder":
        assert "cross_modal_entropy_all" not in pair
    else:
        assert pair["cross_modal_entropy_all"] == 3.0 and pair["cross_modal_entropy_normalized_all"] == 0.75
    if family in ("single stream", "three-group fusion"):
        assert pair["mass_share_all"] == pytest.approx(0.75) and pair["mass_share_null_all"] == pytest.approx(6 / 7)
        assert pair["mass_per_token_ratio_all"] == pytest.approx(0.5)
    else:
        assert "mass_share_all" not in pair


def test_a_tower_without_attention_is_undefined_and_the_other_is_not():
    table = attention_table(np.full((1, 1, 1), 2.0), np.full((2, 1, 1), 1.5), {1: [10, 11]})
    scores = score_pairs(table[table["tower"] == "text"], "dual encoder")
    assert len(scores.pairs) == 2 and scores.pairs["mcs_all"].isna().all() and scores.layers.empty
    assert scores.pairs["entropy_text_all"].tolist() == [1.5, 1.5]
    assert by_image(scores.pairs)["mcs_all"].isna().all() and len(by_image(scores.pairs)) == 1


def test_the_surrogate_stands_beside_the_attention_never_in_it():
    table = attention_table(np.full((1, 1, 1), 2.0), np.full((2, 1, 1), 1.5), {1: [10, 11]})
    extra = table[table["tower"] == "text"].assign(
        tower="surrogate", entropy_all=[0.3, 0.7], entropy_readout=[0.3, 0.7]
    )
    both = score_pairs(pd.concat([table, extra]), "dual encoder")
    assert both.pairs["cross_modal_entropy_surrogate_all"].tolist() == [0.3, 0.7]
    pd.testing.assert_frame_equal(
        both.pairs[score_pairs(table, "dual encoder").pairs.columns], score_pairs(table, "dual encoder").pairs
    )
    assert "surrogate" not in set(score_blocks([pd.concat([table, extra])], "dual encoder")[1]["tower"])
