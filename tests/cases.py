"""One registry: every public transformation is a Case, and every contract runs every Case."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo


class Case(NamedTuple):
    name: str
    factory: Callable[..., Any]  # the public name that this case is for
    hypers: Mapping[str, float] = {}  # every numeric hyperparameter, with a value
    options: Mapping[str, Any] = {}  # the rest
    make: Callable[..., Any] | None = None  # how to call the factory, if not factory(**hypers, **options)
    direction: bool = False  # is it a direction, to be followed by a learning rate?
    words: str = ""  # what it reads: "search" value, grad, value_fn; "flat" value_fn, in init too; "residuals"
    vector: bool = False  # does it look at all leaves as one vector?
    lacks: Mapping[str, str] = {}  # contract -> why it does not hold yet (strict xfail)

    @property
    def part(self) -> bool:
        """Is it the direction of a recipe that is a case, too? What costs much to compile is asked of the recipe."""
        name = self.name.partition("-")[0].removeprefix("scale_by_")
        recipe = RECIPES.get(name, name)
        return self.direction and recipe != self.name and recipe in BY_NAME

    def __call__(self, **changed: Any) -> jo.GradientTransformation:
        hypers = {**self.hypers, **changed}
        return (self.make or self.factory)(**hypers, **self.options)


# direction, without scale_by_ -> the case that has it, where that has another name
RECIPES = {
    "rss": "adagrad", "rms": "rmsprop", "stddev": "rmsprop-centered-momentum", "belief": "adabelief",
    "sign": "sign_sgd", "factored_rms": "adafactor", "trust_ratio": "lamb", "kron": "psgd_kron", "lmo": "scion",
    "polyak": "polyak_sgd", "optimistic_gradient": "optimistic_gradient_descent", "trace": "sgd-momentum",
    "add_decayed_weights": "adamw", "add_corrected_decayed_weights": "adamc", "average_params": "splus",
    "stable_adam": "stable_adamw",
}  # fmt: skip

PINNED = {"learning_rate": 0.1, "floor": 0.05, "outward": 0.5, "weight_decay": 0.025, "inward": 0.9}


def labels(params):
    return jax.tree.map(lambda p: "matrix" if np.ndim(p) == 2 else "rest", params)


def scalars(params):
    return jax.tree.map(lambda p: jnp.issubdtype(getattr(p, "dtype", int), jnp.floating) and p.shape == (), params)


def narrow(params):
    """Shapes of a model of half the width, where that is a whole number."""
    return jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(tuple(n if n % 2 else n // 2 for n in np.shape(p)), jnp.float32), params
    )


def matrices(params):
    return jax.tree.map(lambda p: np.ndim(p) == 2, params)


def told(opt, **words):
    """The transformation with these extra arguments at each update."""
    return jo.GradientTransformation(opt.init, lambda g, s, p=None: opt.update(g, s, p, **words))


def of_scaled_loss(opt):
    """The transformation for gradients of the loss, multiplied by its scale."""

    def update(g, state, params=None):
        scale = jo.loss_scale(state)
        scaled = jax.tree.map(lambda x: (scale * jnp.float32(x)).astype(jnp.asarray(x).dtype), g)
        return opt.update(scaled, state, params)

    return jo.GradientTransformation(opt.init, update)


def by_curvature(estimator):
    """Newton's step where the Hessian is diagonal."""

    def update(g, state, params=None):
        h, state = estimator.update(g, state, params, obj_fn=loss)
        return jax.tree.map(lambda g, h: (jnp.float32(g) / jnp.float32(h)).astype(jnp.asarray(g).dtype), g, h), state

    return jo.GradientTransformation(estimator.init, update)


HALVING = jo.stateless_with_tree_map(lambda g, p: 0.5 * jnp.asarray(g))
PER_EXAMPLE = jo.stateless(lambda g, p: jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), g))  # two alike


def fast_alone(opt):
    """Lookahead with the slow parameters in the state, so that it takes parameters as others do."""

    def copy(x):
        return jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else jnp.copy(x)

    def update(g, state, p):
        inner, slow = state
        u, inner = opt.update(g, inner, jo.LookaheadParams(p, slow))
        return u.fast, (inner, jo.apply_updates(slow, u.slow))

    return jo.transform("lookahead", lambda p: (opt.init(p), jax.tree.map(copy, p)), update)


ADAM = {"b1": 0.9, "b2": 0.99, "eps": 1e-8}
ROOT = {**ADAM, "eps_root": 0.0}

HEADS = jo.labels_by_path({"w": jo.QKHeads("query", ())})  # one for all of a leaf

CASES = [
    # optimizers
    Case("sgd", jo.sgd, {"learning_rate": 0.1}),
    Case("sgd-momentum", jo.sgd, {"learning_rate": 0.05, "momentum": 0.8, "dampening": 0.1}),
    Case("sgd-momentum-lr-inside", jo.sgd, {"learning_rate": 0.05, "momentum": 0.8}, {"lr_in_velocity": True}),
    Case("sgd-nesterov", jo.sgd, {"learning_rate": 0.05, "momentum": 0.8}, {"nesterov": True}),
    Case("sgd-decay", jo.sgd, {"learning_rate": 0.05, "momentum": 0.5, "weight_decay": 1e-2}, {"mask": matrices}),
    Case("adagrad", jo.adagrad, {"learning_rate": 0.5, "initial_accumulator_value": 0.1, "eps": 1e-7}),
    Case("adagrad-eps-outside", jo.adagrad, {"learning_rate": 0.5, "eps": 1e-7}, {"eps_in_sqrt": False}),
    Case("rmsprop", jo.rmsprop, {"learning_rate": 0.05, "decay": 0.9, "eps": 1e-8, "initial_scale": 0.0}),
    Case("rmsprop-corrected", jo.rmsprop, {"learning_rate": 0.05, "decay": 0.9}, {"bias_correction": True}),
    Case(
        "rmsprop-centered-momentum",
        jo.rmsprop,
        {"learning_rate": 0.02, "decay": 0.9, "eps": 1e-6, "momentum": 0.5},
        {"centered": True, "eps_in_sqrt": False},
    ),
    Case("adadelta", jo.adadelta, {"learning_rate": 1.0, "rho": 0.9, "eps": 1e-4, "weight_decay": 1e-4}),
    Case("adam", jo.adam, {"learning_rate": 0.1, **ROOT}),
    Case("adam-uncorrected", jo.adam, {"learning_rate": 0.05, **ROOT}, {"bias_correction": False}),
    Case("adamw", jo.adamw, {"learning_rate": 0.1, **ROOT, "weight_decay": 1e-3}),
    Case("adamw-masked", jo.adamw, {"learning_rate": 0.1, "weight_decay": 1e-3}, {"mask": matrices}),
    Case(
        "adamc",
        jo.adamc,
        {"learning_rate": 0.1, **ROOT, "weight_decay": 1e-3, "max_learning_rate": 0.2},
        {"normalized": matrices},
    ),
    Case("nadam", jo.nadam, {"learning_rate": 0.1, **ROOT}),
    Case("nadam-schedule", jo.nadam, {"learning_rate": 0.1, **ROOT, "momentum_decay": 4e-3}),
    Case("nadamw", jo.nadamw, {"learning_rate": 0.1, **ROOT, "weight_decay": 1e-3}),
    Case("amsgrad", jo.amsgrad, {"learning_rate": 0.1, **ROOT}),
    Case("amsgrad-raw", jo.amsgrad, {"learning_rate": 0.1, **ROOT}, {"maximum": "raw"}),
    Case("adamax", jo.adamax, {"learning_rate": 0.1, **ADAM}),
    Case("adamaxw", jo.adamaxw, {"learning_rate": 0.1, **ADAM, "weight_decay": 1e-3}),
    Case("sign_sgd", jo.sign_sgd, {"learning_rate": 0.01}),
    Case("signum", jo.signum, {"learning_rate": 0.01, "beta": 0.8}),
    Case("lion", jo.lion, {"learning_rate": 1 / 64, "b1": 0.5, "b2": 0.75, "weight_decay": 1 / 1024}),
    Case("lion-smooth", jo.lion, {"learning_rate": 0.05, "b1": 0.9, "smooth_beta": 2.0}, {"mode": "smooth"}),
    Case("adabelief", jo.adabelief, {"learning_rate": 0.1, **ADAM, "eps_root": 1e-8}),
    Case("adabelief-nesterov", jo.adabelief, {"learning_rate": 0.1, **ADAM, "eps_root": 1e-8}, {"nesterov": True}),
    Case("yogi", jo.yogi, {"learning_rate": 0.125, "b1": 0.5, "b2": 0.75, "eps": 1e-3}),
    Case("radam", jo.radam, {"learning_rate": 0.1, **ROOT, "threshold": 5.0}),
    Case("radam-nesterov", jo.radam, {"learning_rate": 0.1, **ROOT}, {"nesterov": True}),
    Case(
        "rprop",
        jo.rprop,
        {"learning_rate": 0.05, "eta_minus": 0.5, "eta_plus": 1.2, "min_step_size": 1e-6, "max_step_size": 1.0},
    ),
    Case("adan", jo.adan, {"learning_rate": 0.05, "b1": 0.9, "b2": 0.9, "b3": 0.99, "weight_decay": 1e-3}),
    Case(
        "adafactor",
        jo.adafactor,
        {"learning_rate": 0.05, "decay_rate": 0.8, "decay_offset": 0.0, "clipping_threshold": 1.0, "eps": 1e-6},
        {"min_dim_size_to_factor": 2},
    ),
    Case(
        "adafactor-momentum-decay",
        jo.adafactor,
        {"learning_rate": 0.05, "momentum": 0.5, "weight_decay_rate": 1e-4, "eps": 1e-6},
        {"multiply_by_parameter_scale": False, "factored": False},
    ),
    Case("lamb", jo.lamb, {"learning_rate": 0.03, **ROOT, "eps": 1e-6, "weight_decay": 1e-4}),
    Case(
        "lars",
        jo.lars,
        {"learning_rate": 0.5, "weight_decay": 1e-4, "trust_coefficient": 0.05, "eps": 0.125, "momentum": 0.5},
        {"nesterov": True},
    ),
    Case(
        "lars-separate",
        jo.lars,
        {"learning_rate": 0.5, "weight_decay": 1e-4, "trust_coefficient": 0.05, "eps": 0.125, "momentum": 0.5},
        {"norms": "separate"},
    ),
    Case("fromage", jo.fromage, {"learning_rate": 1 / 64, "min_norm": 1e-6}),
    Case("novograd", jo.novograd, {"learning_rate": 0.01, **ROOT, "b2": 0.25, "eps": 1e-6, "weight_decay": 1e-4}),
    Case("sm3", jo.sm3, {"learning_rate": 0.25, "momentum": 0.5}),
    Case(
        "galore",
        jo.galore,
        {"learning_rate": 0.1, "scale": 0.5, "weight_decay": 1e-4},
        {"rank": 2, "update_proj_gap": 3},
    ),
    Case("ademamix", jo.ademamix, {"learning_rate": 0.05, **ROOT, "b3": 0.99, "alpha": 2.0, "weight_decay": 1e-3}),
    Case(
        "simplified_ademamix",
        jo.simplified_ademamix,
        {"learning_rate": 0.01, "b1": 0.9, "b2": 0.99, "alpha": 1.0, "eps": 1e-8, "weight_decay": 1e-3},
    ),
    Case("adopt", jo.adopt, {"learning_rate": 0.05, "b1": 0.9, "b2": 0.99, "eps": 1e-6}),
    Case("adopt-nesterov", jo.adopt, {"learning_rate": 0.05, "b1": 0.9}, {"nesterov": True, "use_clipping": False}),
    Case("adabelief-decay", jo.adabelief, {"learning_rate": 0.1, "weight_decay": 1e-2}, {"mask": matrices}),
    Case("radam-decay", jo.radam, {"learning_rate": 0.1, "weight_decay": 1e-2}, {"mask": matrices}),
    Case("adopt-decay", jo.adopt, {"learning_rate": 0.05, "b2": 0.99, "weight_decay": 1e-2}, {"mask": matrices}),
    Case("amsgrad-decay", jo.amsgrad, {"learning_rate": 0.1, "weight_decay": 1e-2}, {"mask": matrices}),
    Case("laprop", jo.laprop, {"learning_rate": 0.05, **ADAM, "weight_decay": 1e-3}),
    Case("grams", jo.grams, {"learning_rate": 0.03, **ADAM, "weight_decay": 1e-3}),
    Case(
        "stable_adamw",
        jo.stable_adamw,
        {"learning_rate": 0.1, **ADAM, "weight_decay": 1e-3, "clipping_threshold": 0.5},
    ),
    Case(
        "stable_adamw-masked",
        jo.stable_adamw,
        {"learning_rate": 0.1, "weight_decay": 1e-2},
        {"mask": matrices},
    ),
    Case(
        "adam_mini",
        jo.adam_mini,
        {"learning_rate": 0.1, **ADAM, "weight_decay": 1e-3},
        {"blocks": lambda p: jax.tree.map(lambda x: tuple(np.ndim(x) * [1]) if np.ndim(x) == 2 else None, p)},
    ),
    Case(
        "came",
        jo.came,
        {
            "learning_rate": 0.02,
            "b1": 0.9,
            "b2": 0.9,
            "b3": 0.9,
            "eps": 1e-6,
            "eps_confidence": 1e-2,
            "weight_decay": 1e-3,
            "clipping_threshold": 1.0,
        },
    ),
    Case("qhm", jo.qhm, {"learning_rate": 0.2, "momentum": 0.8, "nu": 0.7, "weight_decay": 1e-3}),
    Case("qhadam", jo.qhadam, {"learning_rate": 0.1, **ADAM, "nu1": 0.7, "nu2": 0.9, "weight_decay": 1e-3}),
    Case("aggmo", jo.aggmo, {"learning_rate": 0.1, "weight_decay": 1e-3}, {"betas": (0.0, 0.5, 0.8)}),
    Case(
        "ftrl",
        jo.ftrl,
        {"learning_rate": 1.0, "l1": 1e-3, "l2": 1e-3, "beta": 0.5, "initial_accumulator_value": 0.01},
    ),
    Case(
        "adabound",
        jo.adabound,
        {"learning_rate": 0.1, "final_learning_rate": 0.2, "gamma": 0.5, **ADAM, "weight_decay": 1e-3},
    ),
    Case(
        "adabound-masked-in-paper",
        jo.adabound,
        {"learning_rate": 0.2, "weight_decay": 1e-2},
        {"mask": matrices, "as_in_paper": True},
    ),
    Case(
        "adamp",
        jo.adamp,
        {"learning_rate": 0.1, **ADAM, "weight_decay": 1e-3, "delta": 0.1, "wd_ratio": 0.1},
    ),
    Case(
        "sgdp",
        jo.sgdp,
        {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 1e-3, "delta": 0.2, "wd_ratio": 0.1},
        {"nesterov": True},
    ),
    Case(
        "spam",
        jo.spam,
        {"learning_rate": 0.05, **ADAM, "weight_decay": 1e-3, "threshold": 2.0},
        {"reset_every": 150, "warmup_steps": 5, "grace": 2},
    ),
    Case(
        "stable_spam",
        jo.stable_spam,
        {"learning_rate": 0.05, **ADAM, "weight_decay": 1e-3, "gamma1": 0.7, "gamma2": 0.9, "theta": 0.9},
        {"reset_every": 30},
    ),
    Case(
        "fira",
        jo.fira,
        {"learning_rate": 0.1, "scale": 0.5, **ADAM, "weight_decay": 1e-3, "gamma": 1.05},
        {"rank": 1, "update_proj_gap": 3},
    ),
    Case("dadapt_sgd", jo.dadapt_sgd, {"learning_rate": 1.0, "momentum": 0.5, "estim_lr0": 0.01}, vector=True),
    Case(
        "dadapt_lion",
        jo.dadapt_lion,
        {"learning_rate": 0.25, "b1": 0.5, "b2": 0.75, "estim_lr0": 0.01, "weight_decay": 1e-3},
        vector=True,
    ),
    Case("lazy_adam", jo.lazy_adam, {"learning_rate": 0.1, **ADAM, "weight_decay": 1e-3}),
    Case(
        "schedule_free_plus",
        jo.schedule_free_plus,
        {
            "learning_rate": 1.0,
            **ADAM,
            "weight_decay": 1e-3,
            "momentum": 0.8,
            "final_momentum": 0.9,
            "weight_power": 1.0,
            "weight_lr_power": 2.0,
            "l1_decay": 0.5,
        },
        {"anneal_steps": 10, "average_from": 2},
        words="search",
        vector=True,
    ),
    Case(
        "conda",
        jo.conda,
        {"learning_rate": 0.1, "scale": 0.5, **ADAM, "weight_decay": 1e-3},
        {"update_proj_gap": 3},
    ),
    Case("tam", jo.tam, {"learning_rate": 0.05, "momentum": 0.8, "decay": 0.5, "eps": 1e-3, "weight_decay": 1e-3}),
    Case("acprop", jo.acprop, {"learning_rate": 0.05, **ADAM, "eps_root": 1e-8, "weight_decay": 1e-3}),
    Case("madgrad", jo.madgrad, {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "eps": 1e-6}),
    Case(
        "optimistic_gradient_descent", jo.optimistic_gradient_descent, {"learning_rate": 0.1, "alpha": 1.0, "beta": 0.5}
    ),
    Case("optimistic_adam_v2", jo.optimistic_adam_v2, {"learning_rate": 0.05, "alpha": 1.0, "beta": 0.5, **ROOT}),
    Case("noisy_sgd", jo.noisy_sgd, {"learning_rate": 0.1, "eta": 1e-4, "gamma": 0.55}, {"key": 0}),
    Case(
        "sophia",
        jo.sophia,
        {
            "learning_rate": 0.05,
            "b1": 0.9,
            "b2": 0.9,
            "eps": 1e-8,
            "weight_decay": 1e-3,
            "gamma": 1.0,
            "clip_threshold": 1.0,
        },
        {"update_interval": 2},
        words="search",
        vector=True,
    ),
    Case(
        "muon",
        jo.muon,
        {"learning_rate": 0.05, "beta": 0.9, "eps": 1e-8, "weight_decay": 1e-3, "adam_b1": 0.9, "adam_b2": 0.99},
    ),
    Case(
        "route",
        jo.route,
        {"learning_rate": 0.05, "weight_decay": 1e-3},
        make=lambda learning_rate, weight_decay: jo.route(
            jo.Group("hidden", jo.muon, learning_rate, weight_decay, role=("matrix", "head")),
            jo.Group("rest", jo.adamw, learning_rate, weight_decay, role="bias"),
        ),
    ),
    Case("muon-aol", jo.muon, {"learning_rate": 0.05, "beta": 0.9}, {"preconditioning": "aol", "nesterov": False}),
    Case(
        "apollo",
        jo.apollo,
        {"learning_rate": 0.1, "scale": 1.0, **ADAM, "weight_decay": 1e-3, "gamma": 1.05},
        {"rank": 2, "update_proj_gap": 3},
    ),
    Case(
        "dion",
        jo.dion,
        {"learning_rate": 0.05, "b1": 0.9, "eps": 1e-8, "weight_decay": 1e-3},
        {"rank_fraction": 0.5},
    ),
    Case(
        "normuon",
        jo.normuon,
        {"learning_rate": 0.05, "b1": 0.9, "b2": 0.9, "eps": 1e-6, "weight_decay": 1e-3, "rms": 0.25},
    ),
    Case(
        "adamuon",
        jo.adamuon,
        {"learning_rate": 0.05, "b1": 0.9, "b2": 0.9, "eps": 1e-6, "weight_decay": 1e-3, "rms": 0.25},
    ),
    Case("scion", jo.scion, {"learning_rate": 0.03125, "b1": 0.75, "radius": 1.0, "eps": 1e-8}),
    Case(
        "scion-unconstrained",
        jo.scion,
        {"learning_rate": 0.03125, "b1": 0.5},
        {"norms": lambda p: jax.tree.map(lambda x: "row" if np.ndim(x) == 2 else "rms", p), "constrained": False},
    ),
    Case(
        "soap",
        jo.soap,
        {"learning_rate": 0.1, "b1": 0.9, "b2": 0.95, "eps": 1e-8, "shampoo_beta": 0.9, "weight_decay": 1e-3},
        {"precondition_frequency": 2},
    ),
    Case(
        "soap_muon",
        jo.soap_muon,
        {"learning_rate": 0.05, "b1": 0.9, "b2": 0.95, "eps": 1e-8, "shampoo_beta": 0.9, "weight_decay": 1e-3},
        {"precondition_frequency": 2},
    ),
    Case("aurora", jo.aurora, {"learning_rate": 0.05, "b1": 0.9, "eps": 1e-7, "weight_decay": 1e-3}),
    Case("polargrad", jo.polargrad, {"learning_rate": 0.1, "b1": 0.9, "eps": 1e-8, "weight_decay": 1e-3}),
    Case(
        "dion2",
        jo.dion2,
        {"learning_rate": 0.05, "decay": 0.9, "eps": 1e-8, "weight_decay": 1e-3},
        {"fraction": 0.5},
    ),
    Case(
        "asgo",
        jo.asgo,
        {"learning_rate": 0.1, "b1": 0.9, "b2": 0.8, "eps": 1e-6, "weight_decay": 1e-3, "rms": 0.25},
        {"precondition_frequency": 2},
    ),
    Case(
        "muown",
        jo.muown,
        {"learning_rate": 0.1, "beta": 0.9, "b1": 0.8, "b2": 0.9, "eps": 1e-6, "weight_decay": 1e-3, "rms": 0.25},
    ),
    Case(
        "spectral_sphere",
        jo.spectral_sphere,
        {"learning_rate": 0.05, "b1": 0.8, "radius": 0.5, "eps": 1e-7},
        {"solver_steps": 8, "power_steps": 4, "ns_steps": 5},
    ),
    Case(
        "mars",
        jo.mars,
        {"b1": 0.9, "gamma": 0.05, "max_norm": 100.0},
        make=lambda **h: jo.mars(jo.adam(0.1), **h),
    ),
    Case(
        "shampoo",
        jo.shampoo,
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9, "eps": 1e-6, "exponent": 0.25, "weight_decay": 1e-3},
        {"precondition_frequency": 2, "block_size": 2},
    ),
    Case(
        "kl_shampoo",
        jo.kl_shampoo,
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9, "eps": 1e-6, "weight_decay": 1e-3, "init_factor": 0.2},
        {"precondition_frequency": 2},
    ),
    Case(
        "kl_soap",
        jo.kl_soap,
        {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9, "eps": 1e-6, "shampoo_beta": 0.95, "weight_decay": 1e-3},
        {"precondition_frequency": 2, "max_precondition_dim": 2},
    ),
    Case(
        "psgd_kron",
        jo.psgd_kron,
        {
            "learning_rate": 0.1,
            "b1": 0.8,
            "weight_decay": 1e-3,
            "preconditioner_update_probability": 0.5,
            "precond_lr": 0.2,
            "precond_init_scale": 0.9,
        },
        {"memory_save_mode": "smart_one_diag"},
    ),
    Case(
        "splus",
        jo.splus,
        {
            "learning_rate": 0.1,
            "b1": 0.8,
            "b2": 0.9,
            "ema_rate": 0.9,
            "nonstandard_constant": 0.5,
            "weight_decay": 1e-3,
        },
        {"precondition_frequency": 2},
    ),
    Case(
        "prodigy",
        jo.prodigy,
        {
            "learning_rate": 1.0,
            "beta3": 0.9,
            "eps": 1e-8,
            "estim_lr0": 1e-2,
            "estim_lr_coef": 1.0,
            "weight_decay": 1e-3,
        },
        vector=True,
    ),
    Case(
        "dadapt_adamw",
        jo.dadapt_adamw,
        {"learning_rate": 1.0, "eps": 1e-8, "weight_decay": 1e-4},
        {"estim_lr0": 1e-2, "betas": (0.9, 0.99)},
        vector=True,
    ),
    Case("dog", jo.dog, {"learning_rate": 1.0, "eps": 1e-8}, {"init_step": ("heuristic", 1e-2)}, vector=True),
    Case("dowg", jo.dowg, {"learning_rate": 1.0, "eps": 1e-4}, {"init_estim_sq_dist": 1e-2}, vector=True),
    Case("cocob", jo.cocob, {"learning_rate": 1.0, "alpha": 10.0, "eps": 1e-8, "weight_decay": 1e-4}),
    Case(
        "momo",
        jo.momo,
        {"learning_rate": 0.2, "beta": 0.8, "lower_bound": 0.0, "weight_decay": 1e-4},
        words="search",
        vector=True,
    ),
    Case(
        "momo-adapting",
        jo.momo,
        {"learning_rate": 0.2, "beta": 0.8},
        {"adapt_lower_bound": True},
        words="search",
        vector=True,
    ),
    Case(
        "momo_adam",
        jo.momo_adam,
        {"learning_rate": 0.1, "b1": 0.9, "b2": 0.99, "eps": 1e-8, "lower_bound": 0.0, "weight_decay": 1e-4},
        words="search",
        vector=True,
    ),
    Case(
        "polyak_sgd",
        jo.polyak_sgd,
        {"max_learning_rate": 0.5, "scaling": 0.8, "f_min": 0.0, "eps": 1e-6},
        {"variant": "sps+"},
        words="search",
        vector=True,
    ),
    # their rules
    Case("trace", jo.trace, {"decay": 0.8, "dampening": 0.5}, {"nesterov": True}, direction=True),
    Case("scale_by_rss", jo.scale_by_rss, {"initial_accumulator_value": 0.1, "eps": 1e-7}, direction=True),
    Case("scale_by_rms", jo.scale_by_rms, {"decay": 0.9, "eps": 1e-8, "initial_scale": 0.1}, direction=True),
    Case("scale_by_stddev", jo.scale_by_stddev, {"decay": 0.9, "eps": 1e-2, "initial_scale": 0.1}, direction=True),
    Case("scale_by_adadelta", jo.scale_by_adadelta, {"rho": 0.9, "eps": 1e-2}, direction=True),
    Case("scale_by_adam", jo.scale_by_adam, ROOT, direction=True),
    Case("scale_by_adam-nesterov", jo.scale_by_adam, ROOT, {"nesterov": True, "mu_dtype": "float32"}, direction=True),
    Case("scale_by_nadam", jo.scale_by_nadam, {**ROOT, "momentum_decay": 4e-3}, direction=True),
    Case("scale_by_amsgrad", jo.scale_by_amsgrad, ROOT, direction=True),
    Case("scale_by_adamax", jo.scale_by_adamax, ADAM, direction=True),
    Case("scale_by_sign", jo.scale_by_sign, direction=True),
    Case("scale_by_lion", jo.scale_by_lion, {"b1": 0.9, "b2": 0.95}, {"mode": "refined"}, direction=True),
    Case("scale_by_belief", jo.scale_by_belief, {**ADAM, "eps_root": 1e-8}, direction=True),
    Case("scale_by_yogi", jo.scale_by_yogi, {**ROOT, "b1": 0.5, "initial_accumulator_value": 1e-6}, direction=True),
    Case("scale_by_radam", jo.scale_by_radam, ROOT, direction=True),
    Case(
        "scale_by_rprop",
        jo.scale_by_rprop,
        {"learning_rate": 0.5, "eta_minus": 0.5, "eta_plus": 1.2, "min_step_size": 1e-6, "max_step_size": 10.0},
        direction=True,
    ),
    Case("scale_by_adan", jo.scale_by_adan, {"b1": 0.9, "b2": 0.9, "b3": 0.99, "eps": 1e-8}, direction=True),
    Case(
        "scale_by_factored_rms",
        jo.scale_by_factored_rms,
        {"decay_rate": 0.8, "step_offset": 0.0, "epsilon": 1e-6},
        {"min_dim_size_to_factor": 2},
        direction=True,
    ),
    Case(
        "scale_by_trust_ratio",
        jo.scale_by_trust_ratio,
        {"min_norm": 0.0, "trust_coefficient": 0.5, "eps": 0.125},
        direction=True,
    ),
    Case("scale_by_novograd", jo.scale_by_novograd, {**ROOT, "b1": 0.5, "weight_decay": 1e-4}, direction=True),
    Case("scale_by_sm3", jo.scale_by_sm3, {"b1": 0.5, "b2": 0.9, "eps": 1e-8}, direction=True),
    Case(
        "scale_by_galore",
        jo.scale_by_galore,
        {"scale": 0.5},
        {"rank": 1, "update_proj_gap": 2, "base_optimizer": jo.trace(0.5), "keeps": "long"},
        direction=True,
    ),
    Case("scale_by_ademamix", jo.scale_by_ademamix, {**ROOT, "b3": 0.99, "alpha": 2.0}, direction=True),
    Case(
        "scale_by_simplified_ademamix",
        jo.scale_by_simplified_ademamix,
        {"b1": 0.5, "b2": 0.99, "alpha": 0.25, "eps": 1e-8, "eps_root": 0.0},
        direction=True,
    ),
    Case("scale_by_adopt", jo.scale_by_adopt, {"b1": 0.9, "b2": 0.99, "eps": 1e-6}, direction=True),
    Case("scale_by_laprop", jo.scale_by_laprop, ADAM, direction=True),
    Case("scale_by_grams", jo.scale_by_grams, ADAM, direction=True),
    Case("scale_by_stable_adam", jo.scale_by_stable_adam, {**ADAM, "weight_decay": 1e-3}, direction=True),
    Case("scale_by_adam_mini", jo.scale_by_adam_mini, ADAM, direction=True),
    Case(
        "scale_by_came",
        jo.scale_by_came,
        {"b1": 0.9, "b2": 0.9, "b3": 0.99, "eps": 1e-6, "eps_confidence": 1e-2},
        direction=True,
    ),
    Case("scale_by_qhm", jo.scale_by_qhm, {"momentum": 0.8, "nu": 0.7}, direction=True),
    Case("scale_by_qhadam", jo.scale_by_qhadam, {**ADAM, "nu1": 0.7, "nu2": 0.9}, direction=True),
    Case("scale_by_aggmo", jo.scale_by_aggmo, {}, {"betas": (0.5, 0.8)}, direction=True),
    Case("scale_by_adamp", jo.scale_by_adamp, {**ADAM, "weight_decay": 1e-3, "delta": 0.1}, direction=True),
    Case("scale_by_sgdp", jo.scale_by_sgdp, {"momentum": 0.5, "weight_decay": 1e-3}, direction=True),
    Case("scale_by_spam", jo.scale_by_spam, {**ADAM, "threshold": 2.0}, {"reset_every": 6, "grace": 2}, direction=True),
    Case("scale_by_stable_spam", jo.scale_by_stable_spam, {**ADAM, "theta": 0.9}, direction=True),
    Case(
        "scale_by_fira",
        jo.scale_by_fira,
        {"scale": 0.5, **ADAM, "gamma": 1.05},
        {"rank": 1, "update_proj_gap": 2},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_fira(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case("scale_by_tam", jo.scale_by_tam, {"momentum": 0.8, "decay": 0.5, "eps": 1e-3}, direction=True),
    Case(
        "scale_by_conda",
        jo.scale_by_conda,
        {"scale": 0.5, **ADAM},
        {"update_proj_gap": 2},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_conda(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case("scale_by_acprop", jo.scale_by_acprop, {**ADAM, "eps_root": 1e-8}, {"centre": "current"}, direction=True),
    Case(
        "scale_by_madgrad",
        jo.scale_by_madgrad,
        {"learning_rate": 0.1, "momentum": 0.9, "eps": 1e-6},
        make=lambda **h: jo.chain(jo.add_decayed_weights(1e-3), jo.scale_by_madgrad(**h)),
    ),
    Case("scale_by_optimistic_gradient", jo.scale_by_optimistic_gradient, {"alpha": 1.0, "beta": 0.5}, direction=True),
    Case(
        "scale_by_sophia",
        jo.scale_by_sophia,
        {"b1": 0.9, "b2": 0.9, "eps": 1e-8, "gamma": 1.0},
        {"clip_threshold": None, "hessian_first": True, "bias_correction": False},
        words="search",
        direction=True,
        vector=True,
    ),
    Case(
        "scale_by_muon",
        jo.scale_by_muon,
        {"beta": 0.9, "eps": 1e-8},
        {"ns_coeffs": "cubic"},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_muon(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_apollo",
        jo.scale_by_apollo,
        {"scale": 2.0, **ADAM, "gamma": 1.01},
        {"rank": 1, "scale_type": "tensor", "keeps": "short"},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_apollo(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_dion",
        jo.scale_by_dion,
        {"b1": 0.9, "eps": 1e-8},
        {"orthonormal_side": "input", "rank_multiple_of": 2},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_dion(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "orthogonalize",
        jo.orthogonalize,
        {"eps": 1e-8},
        {"ns_coeffs": "cubic"},
        make=lambda **h: jo.partition({"matrix": jo.orthogonalize(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_normuon",
        jo.scale_by_normuon,
        {"b1": 0.9, "b2": 0.9, "eps": 1e-6, "rms": 0.25},
        {"nesterov": True},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_normuon(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_adamuon",
        jo.scale_by_adamuon,
        {"b1": 0.9, "b2": 0.9, "eps": 1e-6, "rms": 0.25},
        {"sign": False},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_adamuon(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "qk_clip",
        jo.qk_clip,
        {"tau": 2.0, "alpha": 0.5},
        make=lambda **h: jo.chain(jo.sgd(0.1), told(jo.qk_clip(HEADS, **h), max_logits=jnp.float32(2.01))),
    ),
    Case("scale_by_lmo", jo.scale_by_lmo, {"radius": 0.5, "eps": 1e-8}, {"norm": "rms"}, direction=True),
    Case(
        "scale_by_soap",
        jo.scale_by_soap,
        {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "shampoo_beta": 0.9},
        {"precondition_frequency": 2, "max_precondition_dim": 2},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_soap(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_shampoo",
        jo.scale_by_shampoo,
        {"eps": 1e-2},
        {"b2": None, "precondition_frequency": 1, "graft": "sgd"},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_shampoo(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_kron",
        jo.scale_by_kron,
        {"b1": 0.9, "precond_lr": 0.1},
        {"momentum_into_precond_update": False, "normalize_grads": True},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_kron(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_splus",
        jo.scale_by_splus,
        {"b1": 0.9, "b2": 0.95},
        {"precondition_frequency": 2, "max_precondition_dim": 2},
        make=lambda **h: jo.partition(
            {"matrix": jo.chain(jo.scale_by_splus(**h), jo.scale(0.1)), "rest": jo.identity()}, labels
        ),
        direction=True,
    ),
    Case(
        "scale_by_kl_shampoo",
        jo.scale_by_kl_shampoo,
        {"b1": 0.9, "b2": 0.95, "eps": 1e-8},
        {"precondition_frequency": 2, "max_clamp_value": None},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_kl_shampoo(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_soap_muon",
        jo.scale_by_soap_muon,
        {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "shampoo_beta": 0.9},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_soap_muon(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_aurora",
        jo.scale_by_aurora,
        {"b1": 0.9, "eps": 1e-7},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_aurora(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_polargrad",
        jo.scale_by_polargrad,
        {"b1": 0.9, "eps": 1e-8},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_polargrad(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_dion2",
        jo.scale_by_dion2,
        {"decay": 0.9, "eps": 1e-8},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_dion2(fraction=0.5, **h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_asgo",
        jo.scale_by_asgo,
        {"b1": 0.9, "b2": 0.8, "eps": 1e-6, "rms": 0.25},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_asgo(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case(
        "scale_by_kl_soap",
        jo.scale_by_kl_soap,
        {"b1": 0.9, "b2": 0.95, "eps": 1e-8, "shampoo_beta": 0.9, "init_factor": 0.5},
        {"precondition_frequency": 3},
        make=lambda **h: jo.partition({"matrix": jo.scale_by_kl_soap(**h), "rest": jo.identity()}, labels),
        direction=True,
    ),
    Case("scale_by_dog", jo.scale_by_dog, {"eps": 1e-8}, {"init_step": ("distance", 3.0)}, direction=True, vector=True),
    Case("scale_by_dowg", jo.scale_by_dowg, {"eps": 1e-4}, {"init_estim_sq_dist": 0.01}, direction=True, vector=True),
    Case(
        "scale_by_distance_over_gradients",
        jo.scale_by_distance_over_gradients,
        {"eps": 1e-8, "global_scale": 5.0},
        {"reps_rel": 1e-2},
        direction=True,
    ),
    Case("scale_by_cocob", jo.scale_by_cocob, {"alpha": 10.0, "eps": 1e-8}),
    Case(
        "scale_by_polyak",
        jo.scale_by_polyak,
        {"f_min": 0.0, "max_learning_rate": 2.0, "eps": 1e-6},
        words="search",
        direction=True,
        vector=True,
    ),
    # pieces
    Case("identity", jo.identity, direction=True),
    Case("scale", jo.scale, {"step_size": -0.1}),
    Case("scale_by_learning_rate", jo.scale_by_learning_rate, {"learning_rate": 0.1}),
    Case(
        "scale_by_schedule",
        jo.scale_by_schedule,
        make=lambda: jo.scale_by_schedule(lambda count: -0.1 / (1 + count / 100)),
    ),
    Case(
        "scale_by_group",
        jo.scale_by_group,
        {"matrix": -0.1, "rest": -0.05},
        make=lambda **factors: jo.scale_by_group(factors, labels),
    ),
    Case("set_to_zero", jo.set_to_zero, lacks={"convergence": "it freezes"}, direction=True),
    Case("clip", jo.clip, {"max_delta": 0.7}, direction=True),
    Case("clip_by_norm", jo.clip_by_norm, {"max_norm": 1.0}, direction=True),
    Case("clip_by_global_norm", jo.clip_by_global_norm, {"max_norm": 1.0}, direction=True),
    Case(
        "zclip",
        jo.zclip,
        {"decay": 0.9, "z_threshold": 1.0, "eps": 1e-6},
        make=lambda **h: jo.zclip(warmup=3, **h),
        direction=True,
    ),
    Case(
        "adagc",
        jo.adagc,
        {"lambda_abs": 1.0, "lambda_rel": 0.9, "decay": 0.9},
        make=lambda **h: jo.adagc(warmup=3, **h),
        direction=True,
    ),
    Case("clip_by_block_rms", jo.clip_by_block_rms, {"threshold": 0.5}, direction=True),
    Case("adaptive_grad_clip", jo.adaptive_grad_clip, {"clipping": 1.0, "eps": 1e-3}, direction=True),
    Case("centralize", jo.centralize, lacks={"convergence": "it keeps the means"}, direction=True),
    Case("normalize", jo.normalize, direction=True),
    Case("normalize_by_update_norm", jo.normalize_by_update_norm, {"scale_factor": 0.5, "eps": 1e-2}, direction=True),
    Case("scale_by_param_block_norm", jo.scale_by_param_block_norm, {"min_scale": 1e-3}, direction=True),
    Case("scale_by_param_block_rms", jo.scale_by_param_block_rms, {"min_scale": 1e-3}, direction=True),
    Case("add_decayed_weights", jo.add_decayed_weights, {"weight_decay": 1e-3}, direction=True),
    Case(
        "independent_weight_decay",
        jo.independent_weight_decay,
        {"learning_rate": 0.05, "weight_decay": 1e-3, "schedule": 0.5},
        make=lambda learning_rate, weight_decay, schedule: jo.chain(
            jo.sgd(learning_rate), jo.independent_weight_decay(weight_decay, schedule=schedule)
        ),
    ),
    Case("add_cautious_decayed_weights", jo.add_cautious_decayed_weights, {"weight_decay": 1e-3}, direction=True),
    Case(
        "add_corrected_decayed_weights",
        jo.add_corrected_decayed_weights,
        {"weight_decay": 1e-3, "learning_rate": 0.1, "max_learning_rate": 0.2},
        make=lambda **h: jo.add_corrected_decayed_weights(**h),
        direction=True,
    ),
    Case("hyperball", jo.hyperball, {"learning_rate": 0.05}, lacks={"convergence": "it keeps the lengths"}),
    Case("update_floor", jo.update_floor, {"floor": 0.05}, direction=True),
    Case("relative_update", jo.relative_update, direction=True),
    Case("radial_brake", jo.radial_brake, {"outward": 0.5, "inward": 0.9}, direction=True),
    Case(
        "radial_brake-pinned",
        jo.radial_brake,
        {"outward": 0.5, "learning_rate": 0.1, "inward": 0.9},
        make=lambda **h: jo.radial_brake(**h),
    ),
    Case("pinned", jo.pinned, PINNED),
    Case(
        "pinned-start",
        jo.pinned,
        PINNED,
        {"radius": "start", "per": "column", "brake_first": True},
        lacks={"convergence": "it keeps the lengths"},
    ),
    Case("add_noise", jo.add_noise, {"eta": 1e-4, "gamma": 0.55}, {"key": 0}, direction=True),
    Case("average_params", jo.average_params, {"decay": 0.5}, direction=True),
    Case("average_params-power", jo.average_params, {"power": 3.0}, direction=True),
    Case("swa", jo.swa, options={"start": 2, "every": 2}, direction=True),
    Case("lawa", jo.lawa, options={"k": 3, "every": 2}, direction=True),
    Case("tail_average", jo.tail_average, {"tau": 4.0, "start": 2.0, "lam": 0.5}, direction=True),
    Case("ema", jo.ema, {"decay": 0.5}, direction=True),
    # reporters
    Case("update_ratio", jo.diagnose.update_ratio, direction=True),
    Case("lost_updates", jo.diagnose.lost_updates, direction=True),
    Case("snapshot", jo.snapshot, {}, {"measure_name": "norm", "measure": jo.global_norm}, direction=True),
    Case(
        "monitor",
        jo.monitor,
        options={"measures": {"norm": jo.global_norm}},
        direction=True,
    ),
    Case(
        "measure_with_ema",
        jo.measure_with_ema,
        {"decay": 0.5},
        make=lambda decay: jo.monitor({"large": jo.measure_with_ema(lambda g: jo.global_norm(g) > 1, decay)}),
        direction=True,
    ),
    # wrappers
    Case(
        "multi_steps",
        jo.MultiSteps,
        {"learning_rate": 0.125, "momentum": 0.5},
        make=lambda **h: jo.MultiSteps(jo.sgd(**h), 2).gradient_transformation(),
    ),
    Case(
        "multi_steps-skip",
        jo.MultiSteps,
        {"learning_rate": 0.1},
        make=lambda **h: jo.MultiSteps(
            jo.adam(**h), lambda t: 1 + (t > 2), False, jo.skip_not_finite
        ).gradient_transformation(),
    ),
    Case(
        "multi_steps-weighted",
        jo.MultiSteps,
        {"learning_rate": 0.25, "momentum": 0.5},
        make=lambda **h: told(jo.MultiSteps(jo.sgd(**h), 2, weighted=True).gradient_transformation(), weight=2),
    ),
    Case(
        "multi_steps-stochastic",
        jo.MultiSteps,
        {"learning_rate": 0.1},
        make=lambda **h: jo.MultiSteps(
            jo.adam(**h), 2, accumulator_dtype=jnp.bfloat16, accumulator_rounding="stochastic", key=0
        ).gradient_transformation(),
    ),
    Case("apply_every", jo.apply_every, options={"k": 2}, direction=True),
    Case(
        "quantized",
        jo.quantized,
        {"learning_rate": 0.1},
        make=lambda **h: jo.quantized(jo.adam(**h), min_size=0, embeddings=True),
    ),
    Case(
        "quantized-bfloat16",
        jo.quantized,
        {"learning_rate": 0.1},
        make=lambda **h: jo.quantized(jo.lion(**h), "bfloat16", rounding="stochastic", min_size=0),
    ),
    Case(
        "quantized-four_bit",
        jo.quantized,
        {"learning_rate": 0.1},
        make=lambda **h: jo.quantized(jo.sgd(momentum=0.5, **h), "four_bit", min_size=0),
    ),
    Case(
        "quantized-fp8-stochastic",
        jo.quantized,
        {"learning_rate": 0.1},
        make=lambda **h: jo.quantized(jo.adam(**h), "fp8", rounding="stochastic", min_size=0),
    ),
    Case(
        "quantized-dynamic8-stochastic",
        jo.quantized,
        {"learning_rate": 0.05},
        make=lambda **h: jo.quantized(
            jo.chain(jo.clip_by_global_norm(9.0), jo.adam(**h)), "dynamic8", rounding="stochastic", min_size=0
        ),
    ),
    Case(
        "apply_if_finite",
        jo.apply_if_finite,
        {"learning_rate": 0.1},
        make=lambda **h: jo.apply_if_finite(jo.adam(**h), 3),
    ),
    Case(
        "loss_scaling",
        jo.loss_scaling,
        {"learning_rate": 0.1, "factor": 2.0, "max_scale": 16.0, "min_scale": 1.0},
        make=lambda learning_rate, **h: of_scaled_loss(jo.loss_scaling(jo.adam(learning_rate), 4.0, 3, **h)),
    ),
    Case(
        "skip_spikes",
        jo.skip_spikes,
        {"learning_rate": 0.1, "sigma": 6.0},
        make=lambda learning_rate, **h: jo.skip_spikes(jo.adam(learning_rate), 8, **h),
    ),
    Case(
        "track_noise_scale",
        jo.diagnose.track_noise_scale,
        {"learning_rate": 0.1, "decay": 0.9},
        make=lambda learning_rate, **h: jo.diagnose.track_noise_scale(jo.adam(learning_rate), 2, batch_size=3, **h),
    ),
    Case(
        "rollback",
        jo.rollback,
        {"learning_rate": 0.1, "sigma": 6.0, "rate_factor": 0.5},
        make=lambda learning_rate, **h: jo.rollback(jo.adam(learning_rate), 3, window=8, **h),
    ),
    Case(
        "conditionally_transform",
        jo.conditionally_transform,
        {"decay": 0.5},
        make=lambda decay: jo.conditionally_transform(jo.trace(decay), lambda step: step % 2 == 0),
        direction=True,
    ),
    Case(
        "conditionally_mask",
        jo.conditionally_mask,
        {"learning_rate": 0.1, "momentum": 0.5},
        make=lambda **h: jo.conditionally_mask(jo.sgd(**h), lambda step: step % 2 == 0),
    ),
    Case(
        "freeze",
        jo.freeze,
        {"learning_rate": 0.1},
        make=lambda learning_rate: jo.chain(jo.adam(learning_rate), jo.freeze(matrices)),
        lacks={"convergence": "it freezes"},
    ),
    Case(
        "selective_transform",
        jo.selective_transform,
        {"learning_rate": 0.1},
        make=lambda learning_rate: jo.selective_transform(jo.adam(learning_rate), freeze_mask=scalars),
    ),
    Case("flatten", jo.flatten, {"learning_rate": 0.1}, make=lambda **h: jo.flatten(jo.adam(**h)), vector=True),
    Case(
        "split_real_and_imaginary",
        jo.split_real_and_imaginary,
        {"learning_rate": 0.1},
        make=lambda **h: jo.split_real_and_imaginary(jo.adam(**h)),
    ),
    Case(
        "with_extra_args_support",
        jo.with_extra_args_support,
        {"learning_rate": 0.1},
        make=lambda **h: jo.with_extra_args_support(jo.adam(**h)),
    ),
    Case("zero_nans", jo.zero_nans, direction=True),
    Case(
        "keep_params_nonnegative",
        jo.keep_params_nonnegative,
        {"learning_rate": 0.1},
        make=lambda **h: jo.chain(jo.sgd(**h), jo.keep_params_nonnegative()),
    ),
    Case(
        "stateless",
        jo.stateless,
        make=lambda: jo.stateless(lambda g, p: jax.tree.map(lambda x: x + x, g)),
        direction=True,
    ),
    Case("stateless_with_tree_map", jo.stateless_with_tree_map, make=lambda: HALVING, direction=True),
    Case(
        "reduce_on_plateau",
        jo.reduce_on_plateau,
        {"factor": 0.5, "rtol": 1e-4, "atol": 0.0, "min_scale": 0.25},
        {"patience": 2, "cooldown": 1},
        direction=True,
        words="search",
        vector=True,
    ),
    Case(
        "differentially_private_aggregate",
        jo.differentially_private_aggregate,
        {"l2_norm_clip": 1.0, "noise_multiplier": 1e-3},
        make=lambda **h: jo.chain(PER_EXAMPLE, jo.differentially_private_aggregate(**h, key=0)),
        direction=True,
        vector=True,
    ),
    Case(
        "dpsgd",
        jo.dpsgd,
        {"learning_rate": 0.1, "l2_norm_clip": 2.0, "noise_multiplier": 1e-3, "momentum": 0.5},
        make=lambda **h: jo.chain(PER_EXAMPLE, jo.dpsgd(**h, seed=0)),
        vector=True,
    ),
    Case(
        "sam",
        jo.sam,
        {"learning_rate": 0.125, "rho": 0.0625},
        make=lambda learning_rate, rho: jo.sam(jo.sgd(learning_rate, 0.5), jo.sgd(rho)),
    ),
    Case(
        "sam-opaque",
        jo.sam,
        {"learning_rate": 0.125, "rho": 0.0625},
        make=lambda learning_rate, rho: told(
            jo.sam(jo.sgd(learning_rate, 0.5), jo.sgd(rho), opaque_mode=True),
            grad_fn=lambda params, _: jax.grad(loss)(params),
        ),
    ),
    Case(
        "hutchinson_estimator_diag_hessian",
        jo.hutchinson_estimator_diag_hessian,
        make=lambda: by_curvature(jo.hutchinson_estimator_diag_hessian(0)),
        direction=True,
        vector=True,
    ),
    # combinators
    Case(
        "chain",
        jo.chain,
        {"max_norm": 1.0, "learning_rate": 0.1, "weight_decay": 1e-3},
        make=lambda max_norm, **h: jo.chain(jo.clip_by_global_norm(max_norm), jo.adamw(**h)),
    ),
    Case(
        "named_chain",
        jo.named_chain,
        {"decay": 0.8, "step_size": -0.05},
        make=lambda decay, step_size: jo.named_chain(("velocity", jo.trace(decay)), ("step", jo.scale(step_size))),
    ),
    Case(
        "masked",
        jo.masked,
        {"learning_rate": 0.1},
        make=lambda learning_rate: jo.chain(
            jo.masked(jo.adam(learning_rate), matrices),
            jo.masked(jo.sgd(learning_rate), lambda p: jax.tree.map(lambda m: not m, matrices(p))),
        ),
    ),
    Case(
        "partition",
        jo.partition,
        {"learning_rate": 0.1, "momentum": 0.5},
        make=lambda learning_rate, momentum: jo.partition(
            {"matrix": jo.adam(learning_rate), "rest": jo.sgd(learning_rate, momentum)}, labels
        ),
    ),
    Case(
        "inject_hyperparams",
        jo.inject_hyperparams,
        {"learning_rate": 0.1, "b1": 0.9},
        make=lambda **h: jo.inject_hyperparams(jo.adam)(**h),
    ),
    Case(
        "inject_hyperparams-stateful",
        jo.inject_hyperparams,
        make=lambda: jo.inject_hyperparams(jo.sgd)(jo.WrappedSchedule(lambda t: 0.1 / (1 + t / 100)), 0.5),
    ),
    Case(
        "transform",
        jo.transform,
        make=lambda: jo.transform(
            "mine", lambda p: jo.EmptyState(), lambda g, s: (jax.tree.map(lambda x: -0.1 * x, g), s)
        ),
    ),
    Case(
        "leafwise",
        jo.leafwise,
        {"lr": 0.1},
        make=lambda lr: jo.leafwise(
            "mine", jo.ScaleByScheduleState, rule=lambda g, p, h: -h.lr * g, hypers={"lr": (lr, jo.errors.NONNEGATIVE)}
        ),
    ),
    Case(
        "schedule_free",
        jo.schedule_free,
        {"learning_rate": 0.2, "b1": 0.9, "weight_lr_power": 2.0},
        make=lambda learning_rate, **h: jo.schedule_free(jo.sgd(learning_rate), learning_rate, **h),
    ),
    Case(
        "schedule_free_sgd",
        jo.schedule_free_sgd,
        {"learning_rate": 0.2, "b1": 0.9, "weight_decay": 1e-3, "weight_lr_power": 2.0},
    ),
    Case(
        "schedule_free_adamw",
        jo.schedule_free_adamw,
        {"learning_rate": 0.1, "b1": 0.9, "b2": 0.99, "eps": 1e-8, "weight_decay": 1e-3, "weight_lr_power": 1.0},
    ),
    Case(
        "width_scaled",
        jo.width_scaled,
        {"learning_rate": 0.05, "weight_decay": 0.1},
        make=lambda learning_rate, weight_decay: jo.width_scaled(
            jo.adamw(learning_rate, weight_decay=weight_decay), None, narrow, "sgd"
        ),
    ),
    Case(
        "cautious",
        jo.cautious,
        {"learning_rate": 0.05, "eps": 1e-3},
        make=lambda learning_rate, eps: jo.cautious(jo.sgd(learning_rate, 0.5), eps),
    ),
    Case(
        "cautious-count",
        jo.cautious,
        {"xi": 1.0, "b1": 0.5},
        make=lambda xi, b1: jo.cautious(jo.scale_by_adam(b1), xi=xi, direction=True),
        direction=True,
    ),
    Case(
        "lazy_rows",
        jo.lazy_rows,
        {"learning_rate": 0.05, "momentum": 0.5},
        make=lambda learning_rate, momentum: jo.lazy_rows(jo.sgd(learning_rate, momentum)),
    ),
    Case(
        "magma",
        jo.magma,
        {"learning_rate": 0.2, "keep": 0.5, "tau": 2.0, "momentum": 0.5, "decay": 0.5},
        make=lambda learning_rate, **h: jo.magma(jo.sgd(learning_rate), key=3, **h),
    ),
    Case(
        "maximize",  # what turns the gradient before it goes down again
        jo.maximize,
        {"learning_rate": 0.05, "weight_decay": 1e-3},
        make=lambda **h: jo.chain(jo.scale(-1.0), jo.maximize(jo.adamw(**h))),
    ),
    Case(
        "ema_nesterov",
        jo.ema_nesterov,
        {"learning_rate": 0.1, "beta": 0.5, "gamma": 0.75},
        make=lambda learning_rate, **h: jo.ema_nesterov(jo.sgd(learning_rate), **h),
    ),
    Case(
        "generalized_primal_averaging",
        jo.generalized_primal_averaging,
        {"learning_rate": 0.1, "mu_x": 0.75, "mu_y": 0.5},
        make=lambda learning_rate, **h: jo.generalized_primal_averaging(jo.adamw(learning_rate), **h),
    ),
    Case(
        "generalized_primal_averaging-z",
        jo.generalized_primal_averaging,
        {"learning_rate": 0.1, "mu_y": 1.0},
        make=lambda learning_rate, mu_y: jo.generalized_primal_averaging(
            jo.adamw(learning_rate), 0.5, mu_y, "float32", params_at="z"
        ),
    ),
    Case(
        "mechanize",
        jo.mechanize,
        {"weight_decay": 1e-3, "eps": 1e-8},
        make=lambda **h: jo.mechanize(jo.sgd(0.1), s_init=0.1, **h),
        vector=True,
    ),
    Case(
        "lookahead",
        jo.lookahead,
        {"learning_rate": 0.2, "slow_step_size": 0.5},
        make=lambda learning_rate, slow_step_size: fast_alone(
            jo.lookahead(jo.sgd(learning_rate, 0.5), 3, slow_step_size, reset_state=True)
        ),
    ),
    # parameters of 16 bits
    Case(
        "stochastic_rounding",
        jo.stochastic_rounding,
        {"learning_rate": 0.1},
        make=lambda **h: jo.stochastic_rounding(jo.adam(**h), 0),
    ),
    Case("kahan", jo.kahan, {"learning_rate": 0.1}, make=lambda **h: jo.kahan(jo.adam(**h))),
    Case("split_master", jo.split_master, {"learning_rate": 0.1}, make=lambda **h: jo.split_master(jo.adam(**h))),
    Case("master_weights", jo.master_weights, {"learning_rate": 0.1}, make=lambda **h: jo.master_weights(jo.adam(**h))),
    # line searches, nested and flat; solvers
    Case(
        "scale_by_backtracking_linesearch",
        jo.scale_by_backtracking_linesearch,
        make=lambda: jo.chain(jo.sgd(1.0), jo.scale_by_backtracking_linesearch(10, store_grad=True)),
        words="search",
        vector=True,
    ),
    Case(
        "scale_by_zoom_linesearch",
        jo.scale_by_zoom_linesearch,
        make=lambda: jo.chain(jo.sgd(1.0), jo.scale_by_zoom_linesearch(10)),
        words="search",
        vector=True,
    ),
    Case(
        "scale_by_hager_zhang_linesearch",
        jo.scale_by_hager_zhang_linesearch,
        make=lambda: jo.chain(jo.sgd(1.0), jo.scale_by_hager_zhang_linesearch(10)),
        words="search",
        vector=True,
    ),
    Case("scale_by_lbfgs", jo.scale_by_lbfgs, options={"memory_size": 3}, direction=True, vector=True),
    Case("scale_by_bfgs", jo.scale_by_bfgs, direction=True, vector=True),
    Case("scale_by_nonlinear_cg", jo.scale_by_nonlinear_cg, options={"beta": "dai-yuan"}, direction=True, vector=True),
    Case(
        "descent",
        jo.descent,
        make=lambda: jo.descent(jo.sgd(1.0), jo.scale_by_backtracking_linesearch(10)),
        words="flat",
        vector=True,
    ),
    Case("lbfgs", jo.lbfgs, words="flat", vector=True),
    Case("lbfgs-nested", jo.lbfgs, options={"memory_size": 3}, words="search", vector=True),
    Case("bfgs", jo.bfgs, words="flat", vector=True),
    Case("nonlinear_cg", jo.nonlinear_cg, words="flat", vector=True),
    Case("lbfgsb", jo.lbfgsb, options={"memory_size": 3}, words="flat", vector=True),
    Case("interior_point", jo.interior_point, words="flat", vector=True),
    Case("newton", jo.newton, words="flat", vector=True),
    Case("newton_cg", jo.newton_cg, words="flat", vector=True),
    Case("cg", jo.cg, words="flat", vector=True),
    Case("nelder_mead", jo.nelder_mead, {"step": 1.0}, words="flat", vector=True),
    Case(
        "spsa",
        jo.spsa,
        {"learning_rate": 0.1, "perturbation": 0.05, "stability": 10.0, "alpha": 0.602, "gamma": 0.101},
        words="flat",
        vector=True,
    ),
    Case("mezo", jo.mezo, {"learning_rate": 0.02, "perturbation": 1e-2}, words="flat", vector=True),
    Case("scale_by_newton", jo.scale_by_newton, words="search", direction=True, vector=True),
    Case("scale_by_newton_cg", jo.scale_by_newton_cg, words="search", direction=True, vector=True),
    Case(
        "proximal_gradient",
        jo.proximal_gradient,
        {"stepsize": 0.5},
        make=lambda stepsize: jo.proximal_gradient(lambda x, s: jo.prox_ridge(x, 1e-3, s), stepsize),
        words="flat",
        vector=True,
    ),
    Case(
        "projected_gradient",
        jo.projected_gradient,
        {"stepsize": 0.5},
        {"projection": jo.projections.projection_non_negative},
        words="flat",
        vector=True,
    ),
    Case(
        "augmented_lagrangian",
        jo.augmented_lagrangian,
        {"penalty": 10.0},
        {"inner": jo.lbfgs()},
        words="flat",
        vector=True,
    ),
    Case(
        "keep_in",
        jo.keep_in,
        make=lambda: jo.chain(jo.sgd(0.1), jo.keep_in(lambda p: jo.projections.projection_linf_ball(p, 2.0))),
    ),
    Case("gauss_newton", jo.gauss_newton, words="residuals", vector=True),
    Case(
        "levenberg_marquardt",
        jo.levenberg_marquardt,
        {"factor": 1.0},
        words="residuals",
        vector=True,
    ),
]
BY_NAME = {case.name: case for case in CASES}
# Solvers that share all but a few lines with another, and take long to compile: their contracts in the stage `slow`.
COUSINS = {"gauss_newton": "levenberg_marquardt", "newton_cg": "newton", "augmented_lagrangian": "interior_point"}


def every(contract: str, keep: Callable[[Case], bool] = lambda case: True, parts: bool = True):
    """Parametrize a test over all cases, parts of others too or not; those that lack the contract must fail."""
    params = []
    for case in filter(keep, CASES):
        if case.part and not parts:
            continue
        marks = [pytest.mark.xfail(reason=case.lacks[contract], strict=True)] if contract in case.lacks else []
        # what recipes are made of is seen in these; by itself it is tested in the stage `slow`, too
        marks += [pytest.mark.slow] if case.name in COUSINS or case.part else []
        params.append(pytest.param(case, id=case.name, marks=marks))
    return pytest.mark.parametrize("case", params)


# ---- one tiny problem -----------------------------------------------------------------------------------


def params_like(dtype: Any = jnp.float32) -> Any:
    """A nest with every kind of leaf: matrix, vector, scalar, None, an empty dict."""
    rng = np.random.default_rng(0)
    return {
        "w": jnp.asarray(rng.normal(size=(2, 3)), dtype),
        "deep": [jnp.asarray(rng.normal(size=3), dtype), None, (jnp.asarray(0.5, dtype), {})],
    }


def loss(params: Any) -> jax.Array:
    """A quadratic bowl, other curvature in each coordinate, minimum at 0.3."""
    leaves = [jnp.asarray(p) for p in jax.tree.leaves(params)]
    dtype = leaves[0].dtype if len({p.dtype for p in leaves}) == 1 else jnp.float32
    terms = [jnp.sum(curvature(p) * jnp.square(p - 0.3)).astype(dtype) for p in leaves]
    return sum(terms, start=jnp.zeros((), dtype))


def curvature(p: jax.Array) -> np.ndarray:
    return np.linspace(0.5, 2.0, p.size).reshape(p.shape).astype(p.dtype)


def slope(params: Any) -> Any:
    """The gradient of `loss` by hand: by autodiff it is a third of what a tiny program costs to trace and compile."""
    return jax.tree.map(lambda p: curvature(p) * (2 * (p - 0.3)), params)


def descend(opt: jo.GradientTransformation):
    """(params, state) -> (params, state): one step down `loss`."""

    def step(carry, _=None):
        params, state = carry
        updates, state = opt.update(slope(params), state, params)
        return (jo.apply_updates(params, updates), state), None

    return step


def residuals(params: Any) -> Any:
    """Half the sum of their squares is `loss`."""
    return jax.tree.map(
        lambda p: jnp.atleast_1d(np.sqrt(np.linspace(1.0, 4.0, p.size)).reshape(p.shape).astype(p.dtype) * (p - 0.3)),
        jax.tree.map(jnp.asarray, params),
    )


def whole(case: Case, **changed: Any) -> jo.GradientTransformation:
    """The case as an optimizer: a direction is followed by a learning rate, a solver is told its problem."""
    opt = jo.chain(case(**changed), jo.scale_by_learning_rate(0.1)) if case.direction else case(**changed)
    if not case.words:
        return opt
    problem = {"residual_fn": residuals} if case.words == "residuals" else {"value_fn": loss}

    def init(params: Any) -> Any:
        return opt.init(params) if case.words == "search" else opt.init(params, **problem)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        if case.words != "search":
            return opt.update(updates, state, params, **problem)
        value, grad = jax.value_and_grad(loss)(params)
        return opt.update(updates, state, params, value=value, grad=grad, **problem)

    return jo.GradientTransformation(init, update)


def is_key(x: Any) -> bool:
    return jnp.issubdtype(getattr(x, "dtype", np.float32), jax.dtypes.prng_key)


def on_host(tree: Any) -> Any:
    """The same in NumPy's arrays, PRNG keys as their data."""
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def on_device(tree: Any, like: Any) -> Any:
    """The reverse: keys again where `like` has them."""
    return jax.tree.map(lambda x, y: jax.random.wrap_key_data(x) if is_key(y) else jnp.asarray(x), tree, like)


@functools.cache
def walk_of(name: str) -> tuple[Callable[..., Any], set[str]]:
    """(carry, steps) -> carry: `descend` on a case, that many times, in one program for all tests; and what it is
    compiled for."""
    opt, seen = whole(BY_NAME[name]), set()

    def walk(carry: Any, steps: Any) -> Any:
        seen.add(repr(jax.tree.map(jax.typeof, carry)))
        return jax.lax.fori_loop(0, steps, lambda _, c: descend(opt)(c)[0], carry)

    return quick.jit(walk), seen


def assert_same_bits(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(on_host(a)), jax.tree.leaves(on_host(b)), strict=True):
        assert x.dtype == y.dtype and np.array_equal(x, y), (x, y)


def assert_rounded(a: Any, b: Any, ulps: int = 16) -> None:
    """The same, but each program rounds in its own way: XLA fuses, vectorizes and contracts a * b + c otherwise in each
    and on each processor. `ulps`: of the largest element of a leaf; 16-bit leaves, rounded once at the end, get two."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(on_host(a)), jax.tree.leaves(on_host(b)), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape, (x, y)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            np.testing.assert_array_equal(x, y)
            continue
        unit = float(jnp.finfo(x.dtype).eps) * (ulps if x.dtype.itemsize > 2 else 2)
        got, want = np.asarray(x, np.float64), np.asarray(y, np.float64)
        size = np.max(np.abs(want), initial=0.0, where=np.isfinite(want))
        np.testing.assert_allclose(got, want, rtol=0, atol=unit * size)


def assert_close(a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-7) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(on_host(a)), jax.tree.leaves(on_host(b)), strict=True):
        np.testing.assert_allclose(x.astype(np.float64), y.astype(np.float64), rtol=rtol, atol=atol)
