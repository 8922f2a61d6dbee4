"""Which contracts are tested in full on which cases; ten steps of every case in double precision."""

import sys
from pathlib import Path

import jax
import numpy as np

from cases import BY_NAME, CASES, every
from engines import KIN, LIFTS, engines_of, in_full, inputs_read

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from trajectories import recorded, ten_steps


def test_the_kin_have_every_lift():
    assert set().union(*(engines_of(name) for name in KIN)) >= LIFTS


def test_engines_are_read_off_the_objects():
    for name, engines in {
        "adam": {"leafwise", "leafwise with sums"},
        "sgd": {"leafwise"},
        "soap": {"leafwise", "leafwise with sums", "matrixwise", "groups"},
        "prodigy": {"treewise"},
        "sam": {"leafwise", "wrapper"},
        "lbfgs": {"solver"},
        "scale_by_lmo": {"by hand"},
    }.items():
        assert engines_of(name) == engines, name
    assert len(KIN) <= 24 and set(KIN) <= set(BY_NAME)
    assert all(in_full(case) for case in CASES if {"solver", "wrapper", "by hand"} & engines_of(case.name))


def test_what_is_read_is_told_from_what_is_not():
    inner = jax.jit(lambda a, b, c: (a * b, c))
    assert inputs_read(lambda a, b, c: inner(a, b, c)[0], 1.0, 2.0, 3.0) == [True, True, False]
    assert inputs_read(lambda a, b: jax.lax.scan(lambda x, _: (x + a, None), 0.0, None, 2)[0], 1.0, 2.0) == [
        True,
        False,
    ]


def test_every_case_is_recorded():
    """`python tests/data/trajectories.py` writes them anew."""
    assert list(recorded()) == [case.name for case in CASES]


@every("trajectory")
def test_ten_steps_are_those_recorded(case, x64):
    np.testing.assert_allclose(ten_steps(case), recorded()[case.name], rtol=1e-9)
