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


def nesterov(M, G, b=0.95):
    M = b * M + (1 - b) * G
    return M, b * M + (1 - b) * G


@of_matrices
def aurora(W, G, t, M):
    """Dewulf et al. 2026, aurora.py: the rows of what is tall."""
    M, U = nesterov(0 if M is None else M, G)
    D = 1 / np.linalg.norm(U, axis=1, keepdims=True)
    U, G32 = polar(D * U, QUINTIC, 1e-7), U
    D = D * (U.shape[1] / U.shape[0] / np.sum(U**2, 1, keepdims=True)) ** 0.5
    U = polar(D * G32, QUINTIC, 1e-7) * jordan_scale(W)
    return W * (1 - 0.02 * 0.025) - 0.02 * U, M


@of_matrices
def aurora_thrice(W, G, t, M):
    """Dewulf et al. 2026, aurora.py: three polar factors, evened by the fourth root."""
    M, G32 = nesterov(0 if M is None else M, G)
    D = 1 / np.linalg.norm(G32, axis=1, keepdims=True)
    for _ in range(3):
        U = polar(D * G32, JORDAN, 1e-7)
        D = D * (U.shape[1] / U.shape[0] / np.sum(U**2, 1, keepdims=True)) ** 0.25
    return W - 0.02 * U * jordan_scale(W), M


DION = (
    (4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037), (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)  # fmt: skip


@of_matrices
def polargrad(W, G, t, M):
    """Lau, Long & Su 2025, PolarGradM, with the coefficients of Emerging-Optimizers."""
    M = 0.95 * (0 if M is None else M) + 0.05 * G
    U = polar(M, DION, 1e-15)
    return W - 0.1 * (np.sum(U * M) * U + 0.01 * W), M


@of_matrices
def dion2(W, G, t, M):
    """Ahn, Amsel & Langford 2025, dion2.py: columns, which are the shorter side of [4, 3]."""
    M = (0 if M is None else M) + G
    K = np.argsort(-np.abs(M).sum(0))[:2]
    U = polar(M[:, K])
    M = M.copy()
    M[:, K] *= 0.95
    W = W * (1 - 0.02 * 0.1)
    W[:, K] -= 0.02 * (W.shape[0] / W.shape[1]) ** 0.5 * U
    return W, M


@of_matrices
def asgo(W, G, t, memory):
    """An et al. 2025, asgo.py, with the root by eigenvalues."""
    M, V = memory or (0.0, 0.0)
    M, V = 0.9 * M + 0.1 * G, 0.8 * V + 0.2 * G.T @ G
    w, Q = np.linalg.eigh(V)
    N = M @ (Q / np.sqrt(w + 1e-3)) @ Q.T
    return W * (1 - 0.02 * 0.1) - 0.02 * 0.2 * W.size**0.5 * N / np.linalg.norm(N), (M, V)


def muown(decay, ahead):
    @of_matrices
    def rule(W, G, t, memory):
        """Lion et al. 2026, Algorithm 1, in the form of the authors' muown.py."""
        size = np.linalg.norm(W, axis=1, keepdims=True)
        g, v, m_v, m_g, v_g = memory or (size, size, 0.0, 0.0, 0.0)
        u = W / g
        grad_g = np.sum(G * u, 1, keepdims=True)
        grad_v = g / v * (G - u * grad_g)
        m_v = 0.95 * m_v + grad_v
        V = v * u - 0.01 * 0.2 * max(W.shape) ** 0.5 * polar(grad_v + 0.95 * m_v if ahead else m_v, eps=1e-14)
        m_g, v_g = 0.9 * m_g + 0.1 * grad_g, 0.95 * v_g + 0.05 * grad_g**2
        g = g - 0.01 * m_g / (1 - 0.9**t) / (np.sqrt(v_g / (1 - 0.95**t)) + 1e-14)
        v = np.linalg.norm(V, axis=1, keepdims=True)
        end = g * V / v
        if decay:
            end = end - 0.01 * decay * W
            g = np.linalg.norm(end, axis=1, keepdims=True)
        return end, (g, v, m_v, m_g, v_g)

    return rule


def spectral_sphere(solve, power_steps=20):
    @of_matrices
    def rule(W, G, t, M):
        """Xie et al. 2026, Algorithm 1, with the power method of the authors' sso.py."""
        M, X = nesterov(0 if M is None else M, G, 0.9)
        X = X / np.linalg.norm(X)
        v = np.ones((W.shape[1], 1))
        for _ in range(power_steps):
            u = W @ v
            u = u / np.linalg.norm(u)
            v = W.T @ u
            v = v / np.linalg.norm(v)
        sigma, theta = (u.T @ W @ v).item(), u @ v.T
        low, high = -2 * 3**0.5, 2 * 3**0.5
        for _ in range(30 if solve else 0):
            middle = (low + high) / 2
            below = np.sum(theta * polar(X + middle * theta, QUINTIC)) < 0
            low, high = (middle, high) if below else (low, middle)
        R = 0.5 * (W.shape[0] / W.shape[1]) ** 0.5
        return W * R / sigma - 0.02 * R * polar(X + (low + high) / 2 * theta * solve, QUINTIC), M

    return rule


SOAP_MUON = {"learning_rate": 0.02, "rest": REST}
FROM_AURORA = {"learning_rate": 0.02, "rest": REST}
SPHERE = {"learning_rate": 0.02, "radius": 0.5, "eps": 1e-8, "ns_coeffs": "quintic", "rest": REST}
PAPERS = {
    "soap_muon-defaults": (soap_muon(1, JORDAN), [EVEN, call("soap_muon", **SOAP_MUON)]),
    "soap_muon-quintic_every_third": (
        soap_muon(3), [EVEN, call("soap_muon", precondition_frequency=3, ns_coeffs="quintic", **SOAP_MUON)],
    ),
    "aurora-defaults": (aurora, [EVEN, call("aurora", weight_decay=0.025, **FROM_AURORA)]),
    "aurora-thrice_fourth_root": (
        aurora_thrice, [EVEN, call("aurora", iterations=3, power=0.25, ns_coeffs="standard", **FROM_AURORA)],
    ),
    "polargrad-defaults": (polargrad, [EVEN, call("polargrad", learning_rate=0.1, weight_decay=0.01, rest=REST)]),
    "dion2-half": (
        dion2, [EVEN, call("dion2", learning_rate=0.02, fraction=0.5, weight_decay=0.1, ns_coeffs="standard",
                           rest=REST)],
    ),
    "asgo-defaults": (asgo, [EVEN, call("asgo", learning_rate=0.02, eps=1e-3, rest=REST)]),
    "muown-defaults": (muown(0.0, False), [EVEN, call("muown", learning_rate=0.01, eps=1e-14, rest=REST)]),
    "muown-decay_nesterov": (
        muown(0.1, True),
        [EVEN, call("muown", learning_rate=0.01, eps=1e-14, weight_decay=0.1, nesterov=True, rest=REST)],
    ),
    "spectral_sphere-thirty_halves": (
        spectral_sphere(True), [EVEN, call("spectral_sphere", solver_steps=30, **SPHERE)],
    ),
    "spectral_sphere-no_multiplier": (
        spectral_sphere(False), [EVEN, call("spectral_sphere", solver_steps=0, **SPHERE)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "recipe"), named(PAPERS, "authors"))
def test_follows_the_authors(rule, recipe):
    path, gradients = from_paper(rule)
    assert_follows(ours(recipe, gradients)[0], path)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (soap_muon(1), soap_muon(3)),
        (aurora, aurora_thrice),
        (muown(0.0, False), muown(0.1, False)),
        (spectral_sphere(True), spectral_sphere(False)),
    ],
    ids=["soap_muon", "aurora", "muown", "spectral_sphere"],
)
def test_variants_differ(a, b):
    assert_differs(from_paper(a)[0], from_paper(b)[0])
