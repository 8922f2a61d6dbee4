"""Methods of other libraries step by step: as these computed them (recorded), and as their papers say, in float64."""

import importlib.metadata

import numpy as np
import pytest
from references import record_methods
from references.record import call, gradients_along
from test_parity import assert_differs, assert_follows, from_paper, named, ours
from test_whole_leaves import leaf_by_leaf, rms

pytestmark = pytest.mark.usefixtures("x64")
RECORDED = record_methods.CASES
LETTERS = {"b1": 0.8, "b2": 0.95, "eps": 1e-5}


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_follows_recorded(case):
    path = case.recorded()
    assert_follows(ours(case.ours, gradients_along(path), **case.extra)[0], path)


def test_records_are_those_of_the_table():
    assert len({case.name for case in RECORDED}) == len(RECORDED)
    assert {path.stem for path in record_methods.HERE.glob("*.npz")} == {case.method for case in RECORDED}
    for method in {case.method for case in RECORDED}:
        own = {f"{case.peer.partition('.')[0]}-{case.variant}" for case in RECORDED if case.method == method}
        with np.load(record_methods.HERE / f"{method}.npz") as file:
            assert set(file) == own | {"versions"}
            assert {str(version).split()[0] for version in file["versions"]} >= {"torch", "numpy"}


def test_recorded_variants_differ():
    """Each option bites on this problem."""
    for case in RECORDED:
        for other in RECORDED:
            if case.peer == other.peer and case.variant < other.variant:
                assert_differs(case.recorded(), other.recorded())


@pytest.mark.references
@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case.name)
def test_records_anew_what_is_committed(case):
    pytest.importorskip("torch")
    try:
        importlib.metadata.version(case.peer.partition(".")[0])
    except importlib.metadata.PackageNotFoundError as error:
        pytest.skip(str(error))
    np.testing.assert_allclose(record_methods.run(case), case.recorded(), rtol=1e-12, atol=1e-14)


# ---- the papers, in their own letters, as in test_parity ------------------------------------------------


def laprop(x, g, t, m=0.0, n=0.0):
    """Ziyin, Wang & Ueda 2020, Algorithm 1."""
    n = 0.95 * n + 0.05 * g**2
    m = 0.8 * m + 0.2 * g / (np.sqrt(n / (1 - 0.95**t)) + 1e-5)
    return x - 0.03 * m / (1 - 0.8**t), m, n


def grams(x, g, t, m=0.0, v=0.0):
    """Cao, Li & Song 2024, Algorithm 1."""
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    u = m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5)
    return x - 0.03 * np.sign(g) * np.abs(u), m, v


def stable_adamw(x, g, t, memory):
    """Wortsman et al. 2023, Algorithm 2: the decays are corrected, not the means."""
    v, u = memory or (0.0, 0.0)
    b1, b2 = (b * (1 - b ** (t - 1)) / (1 - b**t) for b in (0.8, 0.95))
    v, u = b1 * v + (1 - b1) * g, b2 * u + (1 - b2) * g**2
    rate = 0.03 / max(1, np.sqrt(np.mean(g**2 / np.maximum(u, 1e-10))))
    return x - rate * 0.1 * x - rate * v / (np.sqrt(u) + 1e-5), (v, u)


def adam_mini(x, g, t, memory):
    """Zhang et al. 2024, Algorithm 2, with a block for each column of a matrix, and one for a vector."""
    m, v = memory or (0.0, 0.0)
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * np.mean(g * g, axis=0 if g.ndim else None)
    return x - 0.03 * m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5), (m, v)


def came(x, g, t, memory):
    """Luo et al. 2023, Algorithm 2; a vector has no factors, and no confidence."""
    m, r, c, R, C = memory or (0.0,) * 5
    if x.ndim < 2:
        r = 0.95 * r + 0.05 * (g**2 + 1e-8)
        u = g / np.sqrt(r)
        m = 0.8 * m + 0.2 * u / max(1, rms(u))
        return x - 0.01 * m, (m, r, c, R, C)
    r = 0.95 * r + 0.05 * (g**2 + 1e-8).sum(1)
    c = 0.95 * c + 0.05 * (g**2 + 1e-8).sum(0)
    u = g / np.sqrt(np.outer(r, c) / r.sum())
    u = u / max(1, rms(u))
    m = 0.8 * m + 0.2 * u
    R = 0.9 * R + 0.1 * ((u - m) ** 2 + 1e-4).sum(1)
    C = 0.9 * C + 0.1 * ((u - m) ** 2 + 1e-4).sum(0)
    return x - 0.01 * m / np.sqrt(np.outer(R, C) / R.sum()), (m, r, c, R, C)


def qhm(x, g, t, m=0.0):
    """Ma & Yarats 2019, equations 3 and 4."""
    m = 0.9 * m + 0.1 * g
    return x - 4e-3 * (0.4 * g + 0.6 * m), m


def qhadam(x, g, t, m=0.0, v=0.0):
    """Ma & Yarats 2019, equation 5."""
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    above = 0.3 * g + 0.7 * m / (1 - 0.8**t)
    return x - 0.03 * above / (np.sqrt(0.1 * g**2 + 0.9 * v / (1 - 0.95**t)) + 1e-5), m, v


def aggmo(x, g, t, *velocities):
    """Lucas, Sun, Zemel & Grosse 2019, equation 2: velocities point down."""
    velocities = [b * v - g for b, v in zip((0.0, 0.9, 0.99), velocities or (0.0,) * 3, strict=True)]
    return x + 1e-3 / 3 * sum(velocities), *velocities


def ftrl(x, g, t, z=0.0, n=0.0):
    """McMahan et al. 2013, Algorithm 1; the gradient is that at w_t, which x is from the first step on."""
    sigma = (np.sqrt(n + g**2) - np.sqrt(n)) / 0.5
    z, n = z + g - sigma * x, n + g**2
    w = -(z - np.sign(z) * 0.1) / ((1 + np.sqrt(n)) / 0.5 + 0.01)
    return np.where(np.abs(z) <= 0.1, 0.0, w), z, n


def ftrl_keras(x, g, t, linear=0.0, n=0.1):
    """Keras 2023, FTRL, with its learning_rate_power of -0.5: l2 counts twice, and there is no beta."""
    new = n + g**2
    linear = linear + g - (np.sqrt(new) - np.sqrt(n)) / 0.5 * x
    return (np.clip(linear, -0.1, 0.1) - linear) / (np.sqrt(new) / 0.5 + 2 * 0.01), linear, new


def adabound(x, g, t, m=0.0, v=0.0):
    """Luo, Xiong, Liu & Sun 2019, Algorithm 2, with the bounds of its section 5."""
    low, high = 0.02 * (1 - 1 / (0.05 * t + 1)), 0.02 * (1 + 1 / (0.05 * t))
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    with np.errstate(divide="ignore"):
        return x - np.clip(0.1 / np.sqrt(v), low, high) / np.sqrt(t) * m, m, v


def adabound_code(x, g, t, m=0.0, v=0.0):
    """Luo, Xiong, Liu & Sun 2019, section 5: their code, with Adam's corrections and without the root of t."""
    low, high = 0.02 * (1 - 1 / (0.05 * t + 1)), 0.02 * (1 + 1 / (0.05 * t))
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    rate = 0.1 * np.sqrt(1 - 0.95**t) / (1 - 0.8**t) / (np.sqrt(v) + 1e-5)
    return x - np.clip(rate, low, high) * m, m, v


def tangential(u, x, g, delta):
    """Heo et al. 2021, equation 12, for each column of a matrix, and the matrix; and whether it was one of them."""
    for axis in (0, None):
        inner = lambda a, b, axis=axis: np.sum(a * b, axis=axis)  # noqa: E731
        cosine = np.abs(inner(x, g)) / np.sqrt(inner(x, x) * inner(g, g))
        if np.max(cosine) < delta / np.sqrt(x.size if axis is None else len(x)):
            return u - inner(x, u) / inner(x, x) * x, True
    return u, False


def adamp(x, g, t, memory):
    """Heo et al. 2021, Algorithm 2."""
    m, v = memory or (0.0, 0.0)
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    u = m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-30)
    u, found = tangential(u, x, g, 1.5) if x.ndim > 1 else (u, False)
    return x - 0.03 * (u + (0.1 if found else 1.0) * 0.1 * x), (m, v)


def sgdp(x, g, t, memory):
    """Heo et al. 2021, Algorithm 1."""
    v = 0.8 * (0.0 if memory is None else memory) + g
    u, found = tangential(v, x, g, 1.5) if x.ndim > 1 else (v, False)
    return x - 4e-3 * (u + (0.1 if found else 1.0) * 0.1 / 0.2 * x), v


def spam(x, g, t, m=0.0, v=0.0):
    """Huang et al. 2025, Algorithm 1, with a density of 1: a reset every 20 steps, clipping 5 steps after it."""
    since = t % 20
    if since == 0:
        m, v = 0.0 * g, 0.0 * g
    if since >= 5 and t >= 5:
        g = np.where(g**2 > 3 * v, np.sign(g) * np.sqrt(3 * v), g)
    warming = t >= 20 and since < 6
    scale = 1 - 0.99 * (1 + np.cos(np.pi * since / 7)) / 2 if warming else 1.0
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    return x - scale * 0.03 * m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5), m, v


def stable_spam(x, g, t, memory):
    """Huang et al. 2025, Algorithm 1 of StableSPAM, leaf by leaf, reset every 20 steps."""
    m, v, top, norm, square = memory or (0.0,) * 5
    own = t if t < 20 else t % 20 + 1
    if own == 1:
        m, v = 0.0, 0.0
    largest = np.max(np.abs(g))
    top = 0.9 * top + 0.1 * largest
    bound = top / (1 - 0.9**t)
    if largest == 0:
        return x, (m, v, top, norm, square)
    g = np.where(np.abs(g) > bound, g / largest * bound, g)
    size = np.sqrt(np.sum(g * g))
    norm, square = 0.7 * norm + 0.3 * size, 0.9 * square + 0.1 * size**2
    g = g / size * norm / (1 - 0.7**t) / (np.sqrt(square / (1 - 0.9**t)) + 1e-5)
    m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
    x = x - 0.03 * m / (1 - 0.8**own) / (np.sqrt(v / (1 - 0.95**own)) + 1e-5)
    return x, (m, v, top, norm, square)


def fira(x, g, t, memory):
    """Chen et al. 2024, Algorithm 1, with two of three directions; what is no matrix is Adam's."""
    m, v, p, size = memory or (0.0, 0.0, None, 0.0)
    if x.ndim < 2:
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        return x - 0.02 * m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5), (m, v, p, size)
    if t % 7 == 1:
        p = np.linalg.svd(g, full_matrices=False)[0][:, :2]
    r = p.T @ g
    m, v = 0.8 * m + 0.2 * r, 0.95 * v + 0.05 * r**2
    psi = m / (np.sqrt(v) + 1e-5)
    s = (g - p @ r) * np.sqrt(np.sum(psi**2, 0) / np.sum(r**2, 0))
    now = np.sqrt(np.sum(s**2))
    if t > 1 and now / size > 1.05:
        s = s / now * 1.05 * size
    u = 0.25 * p @ psi + s
    return x - 0.02 * np.sqrt(1 - 0.95**t) / (1 - 0.8**t) * u, (m, v, p, np.sqrt(np.sum(s**2)))


def dadapt_sgd(x, g, t, s=0.0, start=None, d=1e-3, r=0.0, first=None):
    """Defazio & Mishchenko 2023, Algorithm 4."""
    start, first = (x, np.linalg.norm(g)) if start is None else (start, first)
    a = d / first
    r = r + a * np.sum(g * s)
    s = s + a * g
    d = max(d, 2 * r / np.linalg.norm(s))
    return start - s, s, start, d, r, first


def dadapt_lion(x, g, t, m=0.0, s=0.0, d=1e-3, r=0.0):
    """Defazio & Mishchenko 2023, section of their code for Lion."""
    b = np.sqrt(0.95)
    u = np.sign(0.8 * m + 0.2 * g)
    x = x - d * u - d * 0.1 * x
    m = 0.95 * m + 0.05 * d * g
    r = b * r + (1 - b) * d * np.sum(u * s)
    s = b * s + (1 - b) * d * u
    return x, m, s, max(d, r / ((1 - b) * np.sum(np.abs(s)))), r


def lazy_adam(x, g, t, memory):
    """Kingma & Ba 2015, Algorithm 1, in rows that have a gradient; a scalar is one."""
    m, v = memory or (np.zeros_like(x), np.zeros_like(x))
    seen = np.any(g != 0, axis=tuple(range(1, g.ndim)), keepdims=True) if g.ndim else True
    m = np.where(seen, 0.8 * m + 0.2 * g, m)
    v = np.where(seen, 0.95 * v + 0.05 * g**2, v)
    u = m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5)
    return np.where(seen, x - 0.03 * u, x), (m, v)


def conda(x, g, t, memory):
    """Wang et al. 2025, Algorithm 1, renewed every 7 steps; what is no matrix is Adam's."""
    m, v, u = memory or (0.0, 0.0, None)
    m = 0.8 * m + 0.2 * g
    if x.ndim > 1 and t % 7 == 1:
        u = np.linalg.svd(m, full_matrices=False)[0]
    basis = u if x.ndim > 1 else np.ones((1, 1))
    inside = (lambda a: basis.T @ a) if x.ndim > 1 else lambda a: a
    v = 0.95 * v + 0.05 * inside(g) ** 2
    step = inside(m) / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5)
    return x - 0.03 * (basis @ step if x.ndim > 1 else step), (m, v, u)


def tam(x, g, t, memory):
    """Malviya et al. 2024, Algorithm 1; an angle with nothing is a right one."""
    m, s = memory or (np.zeros_like(x), 0.0)
    sizes = np.linalg.norm(m) * np.linalg.norm(g)
    s = 0.8 * s + 0.2 * (np.sum(m * g) / sizes if sizes > 0 else 0.0)
    m = 0.9 * m + (1e-3 + (1 + s) / 2) * g
    return x - 4e-3 * m, (m, s)


def tam_by_element(x, g, t, memory):
    """The same as pytorch_optimizer 4.1 has it: products of elements, columns of length one, no sum."""
    m, s = memory or (g, 0.0)
    unit = lambda a: a / np.maximum(np.linalg.norm(a, axis=0) if a.ndim else np.abs(a), 1e-12)  # noqa: E731
    s = 0.8 * s + 0.2 * unit(m) * unit(g)
    m = 0.9 * m + (1e-3 + (1 + s) / 2) * g
    return x - 4e-3 * m, (m, s)


PAPERS = {
    "conda-algorithm_1": (call("conda", learning_rate=0.03, update_proj_gap=7, **LETTERS), conda),
    "tam-algorithm_1": (call("tam", learning_rate=4e-3, decay=0.8, eps=1e-3), tam),
    "spam-algorithm_1": (
        spam,
        call("spam", learning_rate=0.03, threshold=3.0, reset_every=20, warmup_steps=6, grace=5, **LETTERS),
    ),
    "stable_spam-algorithm_1": (
        call("stable_spam", learning_rate=0.03, theta=0.9, reset_every=20, **LETTERS),
        stable_spam,
    ),
    "fira-algorithm_1": (
        call("fira", learning_rate=0.02, rank=2, update_proj_gap=7, scale=0.25, gamma=1.05, **LETTERS),
        fira,
    ),
    "dadapt_sgd-algorithm_4": (dadapt_sgd, call("dadapt_sgd", estim_lr0=1e-3)),
    "dadapt_lion-authors_code": (
        dadapt_lion,
        call("dadapt_lion", b1=0.8, b2=0.95, estim_lr0=1e-3, weight_decay=0.1),
    ),
    "lazy_adam-rows": (
        call("lazy_adam", learning_rate=0.03, rows={"scalar": 0, "inner": [1, {"matrix": 1}]}, **LETTERS),
        lazy_adam,
    ),
    "qhm-equations_3_and_4": (qhm, call("qhm", learning_rate=4e-3, momentum=0.9, nu=0.6)),
    "qhadam-equation_5": (qhadam, call("qhadam", learning_rate=0.03, nu1=0.7, nu2=0.9, **LETTERS)),
    "aggmo-equation_2": (aggmo, call("aggmo", learning_rate=1e-3)),
    "ftrl-algorithm_1": (ftrl, call("ftrl", learning_rate=0.5, l1=0.1, l2=0.01)),
    "ftrl-keras": (
        ftrl_keras,
        call("ftrl", learning_rate=0.5, l1=0.1, l2=0.02, beta=0.0, initial_accumulator_value=0.1),
    ),
    "adabound-algorithm_2": (
        adabound,
        call("adabound", learning_rate=0.1, final_learning_rate=0.02, gamma=0.05, as_in_paper=True,
             **LETTERS | {"eps": 0.0}),
    ),
    "adabound-authors_code": (
        adabound_code,
        call("adabound", learning_rate=0.1, final_learning_rate=0.02, gamma=0.05, **LETTERS),
    ),
    "adamp-algorithm_2": (
        call("adamp", learning_rate=0.03, b1=0.8, b2=0.95, eps=1e-30, weight_decay=0.1, delta=1.5),
        adamp,
    ),
    "sgdp-algorithm_1": (call("sgdp", learning_rate=4e-3, momentum=0.8, eps=1e-30, weight_decay=0.1, delta=1.5), sgdp),
    "laprop-algorithm_1": (laprop, call("laprop", learning_rate=0.03, **LETTERS)),
    "grams-algorithm_1": (grams, call("grams", learning_rate=0.03, **LETTERS)),
    "stable_adamw-algorithm_2": (
        call("stable_adamw", learning_rate=0.03, weight_decay=0.1, **LETTERS),
        stable_adamw,
    ),
    "adam_mini-algorithm_2": (
        call(
            "adam_mini",
            learning_rate=0.03,
            blocks={"scalar": (), "inner": [(1,), {"matrix": (1, 4)}]},
            **LETTERS,
        ),
        adam_mini,
    ),
    "came-algorithm_2": (
        call("came", learning_rate=0.01, b1=0.8, b2=0.95, b3=0.9, eps=1e-8, eps_confidence=1e-4),
        came,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "recipe"), named(PAPERS, "paper"))
def test_follows_paper(rule, recipe):
    rule, recipe = (rule, recipe) if callable(rule) else (leaf_by_leaf(recipe), rule)
    path, gradients = from_paper(rule)
    assert_follows(ours([recipe], gradients)[0], path)


def test_what_authors_run_is_not_what_their_papers_say():
    assert_differs(from_paper(adabound)[0], from_paper(adabound_code)[0])
    assert_differs(from_paper(ftrl)[0], from_paper(ftrl_keras)[0])
    assert_differs(*(from_paper(leaf_by_leaf(rule))[0] for rule in (tam, tam_by_element)))
