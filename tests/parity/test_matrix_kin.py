"""Muon's kin of 2025 and 2026 beside transcriptions of their authors' programs in float64, as test_parity.

A transcription takes a matrix as torch has it, [outputs, inputs]: it gets the transpose of the tree's [3, 4]. Gradients
are divided by the problem's scale, or the square of one direction were 1e-12 of another's, and the eigenvector of few
digits.
"""

import functools

import numpy as np
import pytest
from references.record import SCALE, call
from test_parity import assert_differs, assert_follows, flatten, from_paper, named, ours, unflatten

pytestmark = pytest.mark.usefixtures("x64")

JORDAN = ((3.4445, -4.7750, 2.0315),) * 5
QUINTIC = ((2.0, -1.5, 0.5),) * 12
EVEN = call("stateless", f=lambda g, p: unflatten(flatten(g) / SCALE))
REST = call("sgd", learning_rate=0.1)


def of_matrices(rule):
    """A rule for one matrix, (W, G, t, memory) -> (W, memory), as `from_paper` takes one; the rest by descent."""

    @functools.wraps(rule)
    def whole(x, g, t, memory=None):
        g = g / SCALE
        W, memory = rule(x[8:].reshape(3, 4).T, g[8:].reshape(3, 4).T, t, memory)
        return np.concatenate([x[:8] - 0.1 * g[:8], W.T.ravel()]), memory

    return whole


def polar(x, steps=JORDAN, eps=1e-8, norm=np.linalg.norm):
    """Newton-Schulz."""
    x = x / (norm(x) + eps)
    wide = x.shape[0] <= x.shape[1]
    for a, b, c in steps:
        A = x @ x.T if wide else x.T @ x
        B = b * A + c * A @ A
        x = a * x + (B @ x if wide else x @ B)
    return x


def jordan_scale(W):
    return max(1, W.shape[0] / W.shape[1]) ** 0.5


def soap_muon(frequency=1, steps=QUINTIC):
    @of_matrices
    def rule(W, G, t, memory):
        """Record of 2026-06-09, soap_precondition_momentum and soap_update_preconditioner."""
        M, V, L, R, Q_L, Q_R = memory or (np.zeros_like(W), np.zeros_like(W), 0.0, 0.0, None, None)
        M = 0.95 * M + 0.05 * G
        U = 0.95 * M + 0.05 * G
        if Q_L is not None:
            P = Q_L.T @ U @ Q_R
            V = 0.9 * V + 0.1 * P**2
            N = Q_L @ (P / np.maximum(V, 1e-16) ** 0.5) @ Q_R.T
            U = N * np.linalg.norm(U) / np.linalg.norm(N)
        W = W - 0.02 * jordan_scale(W) * polar(U, steps)
        L, R = 0.9 * L + 0.1 * G @ G.T, 0.9 * R + 0.1 * G.T @ G
        if Q_L is None:
            Q_L, Q_R = (np.linalg.eigh(x)[1][:, ::-1] for x in (L, R))
        elif (t - 1) % frequency == 0:
            order = np.argsort(-np.diag(Q_L.T @ L @ Q_L), kind="stable")
            V, Q_L = V[order], np.linalg.qr(L @ Q_L[:, order])[0]
            order = np.argsort(-np.diag(Q_R.T @ R @ Q_R), kind="stable")
            V, Q_R = V[:, order], np.linalg.qr(R @ Q_R[:, order])[0]
        return W, (M, V, L, R, Q_L, Q_R)

    return rule


SOAP_MUON = {"learning_rate": 0.02, "rest": REST}
PAPERS = {
    "soap_muon-defaults": (soap_muon(1, JORDAN), [EVEN, call("soap_muon", **SOAP_MUON)]),
    "soap_muon-quintic_every_third": (
        soap_muon(3), [EVEN, call("soap_muon", precondition_frequency=3, ns_coeffs=QUINTIC, **SOAP_MUON)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "recipe"), named(PAPERS, "authors"))
def test_follows_the_authors(rule, recipe):
    path, gradients = from_paper(rule)
    assert_follows(ours(recipe, gradients)[0], path)


def test_variants_differ():
    assert_differs(from_paper(soap_muon(1))[0], from_paper(soap_muon(3))[0])
