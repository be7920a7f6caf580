import math

import pytest

from attention_collapse.identity.tolerance import ATOL, RTOL, within


@pytest.mark.parametrize("old", [0.0, 1e-9, 0.5, -0.5, 3e5])
def test_the_tolerance_is_atol_plus_rtol_times_old(old):
    allowed = ATOL + RTOL * abs(old)
    for sign in (-1, 1):
        assert within(old, old + sign * 0.999 * allowed) and not within(old, old + sign * 1.001 * allowed)
    assert within(old, old, rtol=0, atol=0) and not within(old, old + 1e-9 * max(abs(old), 1), rtol=0, atol=0)


def test_it_is_measured_by_the_old_value():
    assert within(100, 91, rtol=0.09, atol=0) and not within(91, 100, rtol=0.09, atol=0)


def test_nan_and_infinity_are_near_themselves_alone():
    for value in (0.5, math.inf):
        assert not within(value, math.nan) and not within(math.nan, value)
    assert within(math.nan, math.nan)
    assert not within(0.5, math.inf) and not within(math.inf, 0.5) and not within(math.inf, -math.inf)
    assert within(math.inf, math.inf)
