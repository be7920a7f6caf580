import numpy as np
import pytest

from attention_collapse.measures.mass import mass_per_token_ratio, mass_share


def test_known_answers():
    # 0.6 of the mass on 30 image tokens, 0.2 on 5 words: the share is 3/4; a word draws twice what a patch draws.
    assert mass_share(0.6, 0.2) == pytest.approx(0.75)
    assert mass_share(30, 5) == pytest.approx(6 / 7)  # its null
    assert mass_per_token_ratio(0.6, 30, 0.2, 5) == pytest.approx(0.5)


def test_uniform_attention_is_its_own_null():
    n_image, n_text, other = 49, 12, 3
    m_image, m_text = n_image / (n_image + n_text + other), n_text / (n_image + n_text + other)
    assert mass_share(m_image, m_text) == pytest.approx(mass_share(n_image, n_text))
    assert mass_per_token_ratio(m_image, n_image, m_text, n_text) == pytest.approx(1.0)


def test_what_does_not_exist_is_nan():
    assert np.isnan(mass_share(0, 0)) and np.isnan(mass_per_token_ratio(0.5, 0, 0.5, 3))
    assert np.isnan(mass_per_token_ratio(np.nan, 3, 0.5, 3))
