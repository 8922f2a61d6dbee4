"""What stands on Muon's engine: orthogonalization alone, NorMuon, AdaMuon, Scion, QK-clip."""

import jax
import jax.numpy as jnp
import numpy as np
import quick

import jaxopt_ko as jo
from jaxopt_ko import matrices

# ---- orthogonalize --------------------------------------------------------------------------------------


def test_orthogonalize_is_muons_direction_without_its_mean():
    g = {"w": jax.random.normal(jax.random.key(0), (3, 4, 6)), "k": jax.random.normal(jax.random.key(1), (2, 2, 5))}
    numbers = {"w": jo.MuonDimensionNumbers(2, 1), "k": jo.MuonDimensionNumbers((0, 1), 2)}
    options = {"weight_dimension_numbers": numbers, "shape_scale": lambda fan_in, fan_out: fan_in / fan_out}
    alone, muon = jo.orthogonalize("cubic", **options), jo.scale_by_muon("cubic", beta=0.0, nesterov=False, **options)
    u, _ = quick.jit(alone.update)(g, alone.init(g))
    v, _ = quick.jit(muon.update)(g, muon.init(g))
    np.testing.assert_allclose(u["w"], v["w"], atol=1e-6)
    exact = matrices.polar_factor(g["k"].reshape(4, 5)) * 4 / 5
    np.testing.assert_allclose(u["k"].reshape(4, 5), exact, atol=1e-5)
    np.testing.assert_allclose(v["k"].reshape(4, 5), exact, atol=1e-5)


def test_labels_of_muon_are_those_of_all_recipes():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    for numbers in (None, {"w": jo.MuonDimensionNumbers(), "b": None}, lambda p: None):
        state = jo.muon(0.1, muon_weight_dimension_numbers=numbers).init(params)
        assert state.inner_states["matrix"].inner_state[0].mu["b"] == jo.MaskedNode()
        assert set(state.inner_states) == {"matrix", "rest"}
