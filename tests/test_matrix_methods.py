"""SOAP and Shampoo beside recorded references and transcriptions; stacks; intervals that cost nothing between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from references import record_matrices as record

import jaxopt_ko as jo
from jaxopt_ko.linalg import matrix_functions

STACKABLE = {
    "muon": lambda **o: jo.muon(0.02, weight_decay=0.1, **o),
    "apollo": lambda **o: jo.apollo(0.02, 2, 2, **o),
    "dion": lambda **o: jo.dion(0.02, 0.5, **o),
    "normuon": lambda **o: jo.normuon(0.02, weight_decay=0.1, **o),
    "adamuon": lambda **o: jo.adamuon(0.02, weight_decay=0.1, **o),
    "scion": lambda **o: jo.scion(0.02, **o),
    "scion rows": lambda **o: jo.scion(0.02, norms="row", **o),
    "soap": lambda **o: jo.soap(0.02, precondition_frequency=2, max_precondition_dim=4, **o),
    "soap_muon": lambda **o: jo.soap_muon(0.02, precondition_frequency=2, max_precondition_dim=4, **o),
    "aurora": lambda **o: jo.aurora(0.02, weight_decay=0.1, **o),
    "polargrad": lambda **o: jo.polargrad(0.02, **o),
    "dion2": lambda **o: jo.dion2(0.02, 0.5, **o),
    "asgo": lambda **o: jo.asgo(0.02, precondition_frequency=2, eps=1e-3, **o),
    "muown": lambda **o: jo.muown(0.02, weight_decay=0.1, **o),
    "spectral_sphere": lambda **o: jo.spectral_sphere(0.02, solver_steps=5, power_steps=5, **o),
    "shampoo": lambda **o: jo.shampoo(0.02, precondition_frequency=1, eps=1e-3, block_size=3, **o),
    "psgd_kron": lambda **o: jo.psgd_kron(0.02, weight_decay=0.1, memory_save_mode="one_diag", **o),
    "kl_shampoo": lambda **o: jo.kl_shampoo(0.02, precondition_frequency=2, **o),
    "kl_soap": lambda **o: jo.kl_soap(0.02, precondition_frequency=2, max_precondition_dim=4, **o),
    "splus": lambda **o: jo.splus(0.1, precondition_frequency=2, **o),
}


def path_of(opt, params, steps=record.STEPS):
    """Params after every step."""

    def step(carry, k):
        p, state = carry
        g = jax.tree.map(lambda x: jnp.sin(3 * x + k.astype(x.dtype)), p)
        updates, state = opt.update(g, state, p)
        p = jo.apply_updates(p, updates)
        return (p, state), p

    return quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), jnp.arange(steps))[1])(params)


@pytest.mark.parametrize(
    ("name", "opt", "atol"),
    [
        ("soap", jo.soap(record.RATE, weight_decay=0.0), 1e-5),
        (
            "soap_options",
            jo.soap(record.RATE, weight_decay=0.0, b1=0.9, b2=0.99, shampoo_beta=0.8, precondition_frequency=3),
            1e-5,
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_follows_the_recorded_reference(name, opt, atol):
    with np.load(record.HERE / f"{name}.npz") as file:
        want = file["path"]
    got = path_of(opt, jnp.asarray(record.start(name)))
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)
    assert np.abs(want[-1] - want[0]).max() > 5 * atol, "it stands still"


def test_muon_steps_as_torchs_but_for_its_bfloat16():
    """torch.optim.Muon corrects no bias."""
    with np.load(record.HERE / "muon.npz") as file:
        path = np.concatenate([record.start("muon")[None], file["path"]])

    def nesterov(g, m, p=None):
        m = 0.95 * m + 0.05 * g
        return 0.95 * m + 0.05 * g, m

    mean = jo.GradientTransformation(jnp.zeros_like, nesterov)
    for dtype, within in (("float32", 2e-2), ("bfloat16", 4e-2)):
        opt = jo.chain(mean, jo.scale_by_muon(beta=0.0, compute_dtype=dtype), jo.add_decayed_weights(0.1))

        def step(state, k_and_x, opt=opt):
            k, x = k_and_x
            u, state = opt.update(jnp.sin(3 * x + k.astype(x.dtype)), state, x)
            return state, u

        xs = (jnp.arange(record.STEPS), jnp.asarray(path[:-1]))
        _, u = quick.jit(lambda xs, opt=opt, step=step: jax.lax.scan(step, opt.init(xs[1][0]), xs))(xs)
        want = -np.diff(path, axis=0) / record.RATE
        assert np.linalg.norm(u - want) < within * np.linalg.norm(want)


def shampoo(x, steps, rate, b2, eps, graft):
    """Algorithm 1 in float64, with means instead of sums where b2 is given."""
    m, n = x.shape
    L, R, V, path = np.zeros((m, m)), np.zeros((n, n)), 0.0, []
    for t in range(1, steps + 1):
        G = np.sin(3 * x + t - 1)
        keep, add, c = (1.0, 1.0, 1.0) if b2 is None else (b2, 1 - b2, 1 - b2**t)
        L, R, V = keep * L + add * G @ G.T, keep * R + add * G.T @ G, keep * V + add * G * G

        def root(A):
            w, v = np.linalg.eigh(A / c + eps * np.eye(len(A)))  # noqa: B023
            return (v * w**-0.25) @ v.T

        U = root(L) @ G @ root(R)
        if graft == "rmsprop":
            U *= np.linalg.norm(G / (np.sqrt(V / c) + eps)) / np.linalg.norm(U)
        x = x - rate * U
        path.append(x)
    return np.stack(path)


@pytest.mark.parametrize("root", ["eigh", "newton"])
@pytest.mark.parametrize(("b2", "graft"), [(None, "none"), (0.9, "rmsprop")])
def test_shampoo_follows_its_paper(b2, graft, root, x64):
    start = np.random.default_rng(1).normal(size=(4, 6))
    rule = jo.scale_by_shampoo(b2, 1e-2, 0.25, graft, precondition_frequency=1, root=root)
    got = path_of(jo.chain(rule, jo.scale(-0.02)), jnp.asarray(start), 20)
    np.testing.assert_allclose(got, shampoo(start, 20, 0.02, b2, 1e-2, graft), rtol=0, atol=1e-9)


def test_blocks_are_matrices_of_their_own():
    x = jax.random.normal(jax.random.key(0), (5, 7))
    parts = {"a": x[:4, :4], "b": x[:4, 4:], "c": x[4:, :4], "d": x[4:, 4:]}
    rule = jo.scale_by_shampoo(0.9, 1e-2, graft="none", precondition_frequency=1, block_size=4)
    g = {"w": x}
    whole = rule.update(g, rule.init(g))[0]["w"]
    apart, _ = rule.update(parts, rule.init(parts))
    np.testing.assert_allclose(whole[:4, :4], apart["a"], atol=1e-5)
    np.testing.assert_allclose(whole[4:, 4:], apart["d"], atol=1e-5)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.25])
def test_roots_by_products_are_those_by_eigenvalues(exponent, x64):
    A = np.random.default_rng(0).normal(size=(3, 5, 5))
    A = jnp.asarray(A @ A.swapaxes(1, 2))
    exact = matrix_functions.inverse_root(A, exponent, 1e-3)
    np.testing.assert_allclose(matrix_functions.inverse_root(A, exponent, 1e-3, "newton"), exact, rtol=1e-9, atol=1e-9)
    w, v = np.linalg.eigh(np.asarray(A) + 1e-3 * np.eye(5))
    np.testing.assert_allclose(exact, np.einsum("nij,nj,nkj->nik", v, w**-exponent, v), rtol=1e-9, atol=1e-9)
    assert not np.any(matrix_functions.inverse_root(jnp.zeros((1, 2, 2)), exponent, 0.0))


@pytest.mark.parametrize("name", STACKABLE)
@pytest.mark.parametrize("form", ["integer", "prefix"])
def test_stacked_leaves_are_separate_matrices(name, form):
    layers = jax.random.normal(jax.random.key(1), (2, 4, 6))
    experts = jax.random.normal(jax.random.key(2), (2, 2, 4, 6))
    stacked, axes = ({"l": layers}, 1) if form == "integer" else ({"l": layers, "e": experts}, {"l": 1, "e": 2})
    got = path_of(STACKABLE[name](stack_axes=axes), stacked, 6)
    want = path_of(STACKABLE[name](), jax.tree.map(lambda x: list(x.reshape(-1, 4, 6)), stacked), 6)
    for key, leaf in got.items():
        np.testing.assert_allclose(leaf.reshape(6, -1, 4, 6), jnp.stack(want[key], axis=1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jo.scale_by_shampoo(exponent=0.3, root="newton"), r"exponent must be 1, 1/2"),
        (lambda: jo.scale_by_shampoo(graft="adam"), r"graft must be one of"),
        (lambda: jo.scale_by_shampoo(block_size=0), r"block_size"),
        (lambda: jo.scale_by_soap(precondition_frequency=0), r"interval|precondition_frequency"),
        (lambda: jo.scale_by_soap().init({"b": jnp.ones(3)}), r"the leaf \['b'\] must have 0 stack axes"),
    ],
)
def test_what_does_not_fit_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()
