"""Models whose score is a likelihood, up to their severity: with hard foils, without them, and at chance."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import coco_folder
from test_hard_foils import N, folder, light, with_foils

from attention_collapse import diagnose
from attention_collapse.data.images import load_rgb
from attention_collapse.engine import statistics
from attention_collapse.engine.contribution import (
    AT_CHANCE,
    INCOMPETENT,
    contributions,
    draws,
    is_not_judged,
    summarise,
)
from attention_collapse.measures.reliance import NO_DECISION, OF_DECISION
from attention_collapse.models.interface import Provenance, is_likelihood
from attention_collapse.models.kinds.scorer import Scorer
from attention_collapse.params import Stats

RELIANCE = ("reliance_image", "reliance_text", "reliance_share")
STATS = Stats(n_resamples=200)


def likelihood(function, said=True):
    """A scorer whose function says that it gives likelihoods, and the number of its pairs."""
    passed = []

    def each(images, texts):
        passed.extend(texts)
        return [float(function(image, text)) for image, text in zip(images, texts, strict=True)]

    each.is_likelihood = said
    return Scorer("known", each, Provenance("x", None, None, None, 0, untrained=False)), passed


def run(model, pairs, partners=3):
    return contributions(model, pairs, partners=partners, seed=0, batch_size=4)


def judged(model, values):
    causal = summarise(values, STATS, likelihood=is_likelihood(model))
    images = pd.DataFrame({"image_id": values["image_id"]})
    columns = statistics.columns_of(images, values, "all", {})
    return causal, statistics.judge(columns, causal, STATS, {}, tested=1)["severity"]


def own(pairs):
    """(image's light, text) of every pair."""
    files, captions = (pairs[column] for column in ("image", "captions"))
    return {
        (light(load_rgb(Path(file["path"]))[0]), texts[0]) for file, texts in zip(files, captions, strict=True)
    }  # fmt: skip


def prior(text):
    """A number of the caption's own, up to 16, that it shares with its foils: of "picture k of two red …", k's."""
    return 16 * np.sin(7 * int(text.split()[1]))


def test_a_prior_that_foils_share_changes_no_reliance(tmp_path):
    pairs = folder(tmp_path / "in", with_foils("blue", "green"))
    known = own(pairs)
    plain = likelihood(lambda image, text: (light(image), text) in known)[0]
    moved = likelihood(lambda image, text: ((light(image), text) in known) + prior(text))[0]
    for model in (plain, moved):
        causal, severity = judged(model, run(model, pairs))
        assert causal["reliance_image"]["mean"] == pytest.approx(1) == causal["reliance_text"]["mean"]
        assert causal["accuracy_hard"]["mean"] == 1 and severity["reliance_share"]["mean"] == pytest.approx(0.5)
    score = likelihood(lambda image, text: ((light(image), text) in known) + prior(text), said=False)[0]
    assert judged(score, run(score, pairs))[0]["reliance_image"]["mean"] < 0.1


def test_without_hard_foils_it_is_null_everywhere_and_its_decisions_are_not(tmp_path):
    pairs = folder(tmp_path / "in")
    known = own(pairs)
    model = likelihood(lambda image, text: ((light(image), text) in known) + 0.1 * prior(text) / 16)[0]
    values = run(model, pairs)
    causal, severity = judged(model, values)
    for name in RELIANCE:
        assert np.isnan(causal[name]["mean"]) and causal[name]["n"] == 0 and causal[name]["reason"] == NO_DECISION
    entry = severity["reliance_share"]
    assert entry["reason"] == NO_DECISION and entry["n"] == 0 and np.isnan(entry["p"]) and np.isnan(entry["mean"])
    assert is_not_judged(entry["reason"]) and not is_not_judged("no variance")
    assert causal["choice_image"]["mean"] == 1 and causal["accuracy"]["n"] == N == causal["flip_rate_image"]["n"]
    assert severity["shapley_share"]["n"] == N


def test_at_chance_against_hard_foils_it_has_no_reliance_though_it_matches_topics(tmp_path):
    """Its choice between a caption and its foil is noise, and noise would read as two reliances near 1."""
    pairs = folder(tmp_path / "in", with_foils("blue"))
    topics = {(picture, " ".join(text.split()[:2])) for picture, text in own(pairs)}

    def noise(image, text):
        number = int(text.split()[1])
        sign = 1 if number % 2 else -1  # half of the foils are preferred
        return ((light(image), " ".join(text.split()[:2])) in topics) * (10 + sign * ("red" in text))

    model = likelihood(noise)[0]
    causal, severity = judged(model, run(model, pairs))
    assert causal["accuracy"]["mean"] == 1 and causal["accuracy_hard"]["mean"] == 0.5
    for found in (*(causal[name] for name in RELIANCE), severity["reliance_share"]):
        assert found["n"] == 0 and np.isnan(found["mean"]) and found["reason"].startswith(AT_CHANCE)
    assert causal["shapley_share"]["n"] == N  # of the score, which tells matching pairs from others
    score = likelihood(noise, said=False)[0]
    assert judged(score, run(score, pairs))[0]["reliance_image"]["mean"] > 0.9


def test_a_score_that_means_nothing_says_so_first(tmp_path):
    model = likelihood(lambda image, text: 1.0)[0]
    causal, severity = judged(model, run(model, folder(tmp_path / "in", with_foils("blue"))))
    assert causal["reliance_share"]["reason"].startswith(INCOMPETENT)
    assert severity["reliance_share"]["reason"].startswith(INCOMPETENT)


@pytest.mark.parametrize("partners", [1, 4])
def test_the_passes_it_takes_more_are_foils_of_other_pairs_alone(tmp_path, partners):
    """Own and swapped images with the foils of swapped texts: at most 2 per pair and partner, none without foils."""

    def function(image, text):
        return light(image) / (3 + len(text))

    image, text, _ = draws(N, partners, 0)
    own_foil = {(i, i) for i in range(N)} | {(k, i) for i in range(N) for k in image[i]}
    others = {(i, m) for i in range(N) for m in text[i]} | set(zip(image.ravel(), text.ravel(), strict=True))
    for name, change, more in (
        ("hard", with_foils("blue"), len(others - own_foil)), ("bare", lambda data: None, 0),
    ):  # fmt: skip
        pairs, counts = folder(tmp_path / name, change), []
        for said in (False, True):
            model, passed = likelihood(function, said)
            run(model, pairs, partners)
            counts.append(len(passed))
        assert counts[1] - counts[0] == more <= 2 * N * partners


def test_a_person_is_told(tmp_path, monkeypatch):
    (tmp_path / "likely.py").write_text(
        "def score(images, texts):\n    return [hash(i.tobytes()) % 97 + len(t) for i, t in zip(images, texts)]\n"
        "score.is_likelihood = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    where = coco_folder(tmp_path / "pairs", n=5, captions=1)
    spec = {"kind": "scorer", "weights": "factory", "factory": "likely:score"}
    result = diagnose(spec, where)
    assert result["reliance_share"].mean is None
    assert result.details["severity"]["reliance_share"]["reason"] == result["reliance_share"].reason
    assert f"the score is a likelihood: reliance is of {OF_DECISION}" in result.text()
    assert "choice_image" in result.estimates and not set(RELIANCE) & set(result.details)
