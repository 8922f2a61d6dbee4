"""Pieces of the record runs of modded-nanogpt's third track beside transcriptions of its program, as test_parity.

The program is records/track_3_optimization/results/20260619_cwd_rowfloor_tailema of KellerJordan/modded-nanogpt.
"""

import functools

import numpy as np
import pytest
from references.record import call
from test_parity import assert_differs, assert_follows, from_paper, named, ours

pytestmark = pytest.mark.usefixtures("x64")

LEAVES = (slice(0, 1), slice(1, 8), slice(8, 20))


def leaf_by_leaf(rule):
    """A rule for one leaf, (p, g, t, memory) -> (p, memory), as `from_paper` takes one for all."""

    @functools.wraps(rule)
    def whole(x, g, t, memory=(None, None, None)):
        x, g = ([v[0].reshape(()), v[1:8], v[8:].reshape(3, 4)] for v in (x, g))
        ends = [rule(p, d, t, m) for p, d, m in zip(x, g, memory, strict=True)]
        return np.concatenate([np.reshape(p, -1) for p, _ in ends]), [m for _, m in ends]

    return whole


def rows(x):
    """The norm of each row, of a vector or a number that of all."""
    return np.linalg.norm(x, axis=1, keepdims=True) if x.ndim == 2 else np.linalg.norm(x)


def floored(update, p, least, norms=rows):
    s = norms(update)
    return update * np.maximum(least * norms(p) / np.where(s > 0, s, np.inf), 1.0)


def scaled(update, p, outward=0.5, inward=1.0):
    coeff = np.sum(update * p) / max(np.sum(p * p), 1e-12)
    radial = coeff * p
    return update - radial + (outward if coeff < 0 else inward) * radial


def rescaled(p, update, lr):
    before = np.linalg.norm(p)
    target = max(before - lr * np.sum(update * p) / max(before, 1e-8), 1e-8)
    p = p - lr * update
    return p * target / max(np.linalg.norm(p), 1e-8)


@leaf_by_leaf
def row_floor(p, g, t, _):
    """Record of 2026-06-19, section B: rows."""
    return p - 0.004 * floored(g, p, 0.6), None


@leaf_by_leaf
def matrix_floor(p, g, t, _):
    """Record of 2026-06-19, the floor of #274: matrices."""
    return p - 0.004 * floored(g, p, 3.0, np.linalg.norm), None


@leaf_by_leaf
def brake(p, g, t, _):
    """Record of 2026-06-19, scale_radial_update."""
    return p - 0.004 * scaled(g, p, 0.5, 0.8), None


@leaf_by_leaf
def brake_and_rescale(p, g, t, _):
    """Record of 2026-06-19, scale_radial_update and rescale_to_radius."""
    return rescaled(p, scaled(g, p), 1e-3), None


@leaf_by_leaf
def relative(p, g, t, _):
    """Emerging-Optimizers 2026, relative_update.py."""
    size = np.linalg.norm(g)
    return p - (0.02 * np.linalg.norm(p) / size * g if size > 0 else 0.0), None


def step_of_muon(p, g, lr, brake_first, decay=0.025, least=0.6):
    update = scaled(g, p) if brake_first else floored(g, p, least)
    update = floored(update, p, least) if brake_first else scaled(update, p)
    mask = update * p > 0
    return rescaled(p, update, lr) * (1 - lr * decay * mask)


@leaf_by_leaf
def record_step(p, g, t, _):
    """Record of 2026-06-19, Muon.step from the orthogonal update on."""
    return step_of_muon(p, g, 1e-3, True), None


@leaf_by_leaf
def issue_step(p, g, t, _):
    """Record of 2026-06-19, the same with the floor before the brake."""
    return step_of_muon(p, g, 1e-3, False), None


@leaf_by_leaf
def mars_adamw(p, g, t, memory):
    """Yuan et al. 2024, Algorithm 1, in the form of the authors' mars.py."""
    last, m, v = memory or (0.0, 0.0, 0.0)
    c = g + 0.1 * 0.9 / (1 - 0.9) * (g - last)
    c = c / max(np.linalg.norm(c) / 50.0, 1.0)
    m, v = 0.9 * m + 0.1 * c, 0.99 * v + 0.01 * c**2
    step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-5)
    return p - 0.01 * (step + 0.1 * p), (g, m, v)


SGD = call("scale_by_learning_rate", learning_rate=0.004)
PIN = {"learning_rate": 1e-3, "floor": 0.6}
PAPERS = {
    "update_floor-rows": (row_floor, [call("update_floor", floor=0.6), SGD]),
    "update_floor-matrices": (matrix_floor, [call("update_floor", floor=3.0, per="matrix"), SGD]),
    "radial_brake-direction": (brake, [call("radial_brake", outward=0.5, inward=0.8), SGD]),
    "radial_brake-rescaled": (brake_and_rescale, [call("radial_brake", outward=0.5, learning_rate=1e-3)]),
    "relative_update-emerging_optimizers": (
        relative, [call("relative_update"), call("scale_by_learning_rate", learning_rate=0.02)],
    ),
    "mars-adamw": (
        mars_adamw,
        [call("mars", b1=0.9, gamma=0.1, max_norm=50.0,
              inner=call("adamw", learning_rate=0.01, b2=0.99, eps=1e-5, weight_decay=0.1))],
    ),
    "pinned-brake_first": (record_step, [call("pinned", **PIN, brake_first=True)]),
    "pinned-floor_first": (issue_step, [call("pinned", **PIN)]),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "recipe"), named(PAPERS, "record"))
def test_follows_record(rule, recipe):
    path, gradients = from_paper(rule)
    assert_follows(ours(recipe, gradients)[0], path)


def test_forms_differ():
    for a, b in ((record_step, issue_step), (row_floor, matrix_floor), (brake, brake_and_rescale)):
        assert_differs(from_paper(a)[0], from_paper(b)[0])
