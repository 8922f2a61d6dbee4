"""A wheel in an environment of its own: an import, a step of an optimizer, a solver, the command; no extra is there."""

import importlib.util
import subprocess
import sys

import jax
import jax.numpy as jnp

import jaxopt_ko as jo

for extra in ("optax", "flax", "tqdm", "matplotlib", "orbax", "pytest"):
    if importlib.util.find_spec(extra) is not None:
        sys.exit(f"{extra} is installed: this is no environment without extras")
if "site-packages" not in jo.__file__:
    sys.exit(f"{jo.__file__} is not what the wheel has installed")

params = {"w": jnp.ones((3, 4)), "b": jnp.zeros(3)}
optimizer = jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(1e-2))
updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
moved = jo.apply_updates(params, updates)
if not bool(jnp.all(moved["w"] < params["w"])):
    sys.exit(f"a step of adamw went to {moved}")
solution = jo.minimize(lambda x: jnp.sum((x - 1.0) ** 2), jnp.zeros(3), jo.lbfgs())
if not bool(solution.status.success):
    sys.exit(f"lbfgs: {solution}")
from jaxopt_ko import *  # noqa: E402, F403  # every room can be imported

subprocess.run([sys.executable, "-m", "jaxopt_ko", "doctor"], check=True)
