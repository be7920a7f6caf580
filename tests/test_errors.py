import pickle

import pytest

from attention_collapse import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_between_processes(kind):
    error = kind("a cat", expected="a dog", remedy="look again")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 — our own bytes, as a pool of processes passes them on
    assert type(back) is kind and str(back) == str(error)
    assert (back.got, back.expected, back.remedy) == ("a cat", "a dog", "look again")
