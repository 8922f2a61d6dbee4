"""Our optimizers in other libraries' own hands: numpyro's SVI, optimistix's minimiser, flax nnx's Optimizer.

Opt-in: `python -m pytest -m peers`, with the extra of that name.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def standard_promotion():
    """The peers' own code is not written for strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# ---- numpyro --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: jo.adam(0.05),
        lambda: jo.chain(jo.clip_by_global_norm(10.0), jo.adamw(jo.exponential_decay(0.05, 100, 0.9))),
        lambda: jo.MultiSteps(jo.adam(0.1), 2),
        lambda: jo.partition({"scale": jo.adam(0.05), "rest": jo.rmsprop(0.02)}, numpyro_labels),
        lambda: jo.inject_hyperparams(jo.yogi)(0.05),
    ],
)
def test_variational_inference_finds_the_posterior(make):
    """A normal mean with a normal prior: the posterior is known."""
    numpyro = pytest.importorskip("numpyro")
    from numpyro import distributions as dist
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    data = jnp.linspace(0.0, 2.0, 20)

    def model(x):
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    svi = SVI(model, AutoNormal(model), jo.to_optax(make()), Trace_ELBO(num_particles=8))
    found = svi.run(jax.random.key(0), 800, data, progress_bar=False).params
    np.testing.assert_allclose(found["mean_auto_loc"], 20 / 21, atol=0.05)
    np.testing.assert_allclose(found["mean_auto_scale"], (1 / 21) ** 0.5, atol=0.06)


def numpyro_labels(params):
    return {name: "scale" if name.endswith("scale") else "rest" for name in params}


def test_numpyro_takes_steps_and_gives_the_parameters_back():
    numpyro = pytest.importorskip("numpyro")
    optim = numpyro.optim.optax_to_numpyro(jo.to_optax(jo.sgd(0.25)))
    state = optim.init({"x": jnp.ones(2)})
    state = jax.jit(optim.update)({"x": jnp.ones(2)}, state, 2.0)
    (loss, _), state = optim.eval_and_update(lambda p: (jnp.sum(p["x"] ** 2), None), state)
    assert loss == 2 * 0.75**2
    np.testing.assert_allclose(optim.get_params(state)["x"], 0.375)


# ---- optimistix -----------------------------------------------------------------------------------------

START = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
OPTIMIZERS = {
    "adam": jo.adam,
    "momentum": lambda rate: jo.sgd(rate, 0.9),
    "chain": lambda rate: jo.chain(jo.clip_by_global_norm(1.0), jo.rmsprop(rate)),
    "masked": lambda rate: jo.masked(jo.lion(rate), {"w": True, "b": False}),
    "partition": lambda rate: jo.partition({"a": jo.lion(rate), "b": jo.sgd(rate)}, {"w": "a", "b": "b"}),
    "inject": lambda rate: jo.inject_hyperparams(jo.adam)(rate),
    "inject a schedule": lambda rate: jo.inject_hyperparams(jo.adam)(jo.exponential_decay(rate, 10, 0.5)),
    "schedule": lambda rate: jo.adam(jo.cosine_decay_schedule(rate, 10)),
    "MultiSteps": lambda rate: jo.MultiSteps(jo.adam(rate), 2),
    "muon": jo.muon,
    "to_optax": lambda rate: jo.to_optax(jo.adam(rate)),
    "maximize": lambda rate: jo.maximize(jo.adam(rate)),
    "lbfgs": lambda rate: jo.lbfgs(rate, linesearch=None),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_another_rate_gives_another_result_of_one_program(name):
    optx = pytest.importorskip("optimistix")
    import equinox as eqx

    traces = []

    def fn(y, sign):
        return sign * sum(jnp.sum(1.5 * (x - 0.3) ** 2) for x in jax.tree.leaves(y))

    @eqx.filter_jit
    def solve(solver, sign):
        traces.append(1)
        return optx.minimise(fn, solver, START, sign, max_steps=5, throw=False).value

    sign = -1.0 if name == "maximize" else 1.0
    ends = [solve(optx.OptaxMinimiser(OPTIMIZERS[name](jnp.float32(r)), 1e-8, 1e-8), sign)["w"] for r in (0.01, 0.02)]
    assert len(traces) == 1
    assert np.all(ends[0] < 1) and np.all(ends[1] < ends[0])


def test_optimistix_converges_with_ours():
    optx = pytest.importorskip("optimistix")

    def bowl(y, args):
        return (y[0] - 1) ** 2 + 3 * (y[1] + 0.5) ** 2

    for opt in (jo.adam(0.1), jo.chain(jo.clip(1.0), jo.sgd(0.1, 0.5)), jo.lbfgs()):
        solution = optx.minimise(bowl, optx.OptaxMinimiser(opt, 1e-5, 1e-5), jnp.zeros(2), max_steps=2000)
        np.testing.assert_allclose(solution.value, [1.0, -0.5], atol=1e-3)


# ---- flax nnx -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [jo.adamw, lambda rate: jo.to_optax(jo.chain(jo.clip(1.0), jo.adamw(rate)))])
def test_nnx_optimizer_steps_saves_and_goes_on(make):
    nnx = pytest.importorskip("flax.nnx")
    x, y = jnp.ones((4, 3)), jnp.zeros((4, 2))

    def optimizer_of():
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        return model, nnx.Optimizer(model, make(0.05), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
        optimizer.update(model, grads)
        return value

    model, optimizer = optimizer_of()
    values = [float(step(model, optimizer)) for _ in range(10)]
    assert values[-1] < values[0] and int(optimizer.step[...]) == 10
    again, restored = optimizer_of()
    nnx.update(again, nnx.state(model))
    nnx.update(restored, nnx.state(optimizer))
    np.testing.assert_allclose(step(again, restored), step(model, optimizer), rtol=1e-6)
