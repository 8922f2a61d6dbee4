"""A language model on 8 devices with ZeRO-1, saved in mid-run, resumed on 4: `python examples/sharded.py`.

The devices are parts of this CPU; on a machine with eight accelerators nothing changes but the line that makes eight.
Every device has all parameters, an eighth of the optimizer's state, and an eighth of each batch (data parallel with
ZeRO-1). The state is saved by name through orbax, read into a state on a mesh of 4 devices, and the losses go on as in
the run that nothing interrupted: the program ends with an error if they do not. Half a minute on two CPU cores.
"""

import argparse
import tempfile
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from characters import loss, roles, start, text, windows
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

import jaxopt_ko as jo

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # orbax warns of what it will rename
    import orbax.checkpoint as ocp

CONTEXT, BATCH = 32, 16
SIZE = {"width": 64, "layers": 2, "context": CONTEXT}


def mesh_of(devices):
    """One axis, "data". The model leaves it to the compiler how its arrays are cut: the axis is automatic."""
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def muon(rate=0.02):
    """For the hidden matrices; AdamW for the rest."""
    return jo.partition({"hidden": jo.muon(rate, stack_axes=1), "rest": jo.adamw(0.2 * rate, b2=0.99)}, roles)


def begin(tx, mesh, zero="data"):
    """The parameters, whole on every device, and a state of which every device has its part, or all without `zero`."""
    params = jax.jit(partial(start, **SIZE), out_shardings=NamedSharding(mesh, P()))(jax.random.key(0))
    shardings = jo.sharding.state_shardings(tx, params, zero=zero)
    return params, jax.jit(tx.init, out_shardings=shardings)(params)


def batch(data, i, mesh):
    """The i-th, drawn anew from its number: every process draws it, and keeps the rows of its own devices."""
    at = np.random.default_rng(i).integers(len(data) - CONTEXT - 1, size=BATCH)
    rows = windows(data, at, CONTEXT)
    return jax.make_array_from_callback(rows.shape, NamedSharding(mesh, P("data")), lambda part: rows[part])


def make_step(tx):
    """The mean over a batch that is cut over devices makes the sum over them; the program says nothing of devices."""

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, tokens):
        value, grads = jax.value_and_grad(loss)(params, tokens)
        updates, state = tx.update(grads, state, params)
        return jo.apply_updates(params, updates), state, value

    return step


def train(tx, params, state, data, mesh, steps, after=None):
    """(parameters, state, the loss of each step); after(i, params, state) is called when step i is done."""
    step, losses = make_step(tx), []
    for i in steps:
        params, state, value = step(params, state, batch(data, i, mesh))
        losses.append(float(value))
        if after is not None:
            after(i, params, state)
    return params, state, losses


def save(path, tx, params, state):
    """The parameters and the state by name; processes that share the arrays all call this."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, {"params": params, "state": jo.sharding.state_dict(tx, state, params)})


def restore(path, tx, mesh):
    """(parameters, state) on a mesh of any size: each device reads its own part."""
    everywhere = NamedSharding(mesh, P())

    def abstract(x, sharding=everywhere):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    params = jax.tree.map(abstract, jax.eval_shape(partial(start, **SIZE), jax.random.key(0)))
    shardings = jo.sharding.state_shardings(tx, params, zero="data")
    named = jo.sharding.state_dict(tx, jax.tree.map(abstract, jax.eval_shape(tx.init, params), shardings), params)
    with ocp.StandardCheckpointer() as checkpointer:
        there = checkpointer.metadata(path).item_metadata.tree["state"]
        state = {name: named[name] if hasattr(named[name], "sharding") else abstract(x) for name, x in there.items()}
        saved = checkpointer.restore(path, {"params": params, "state": state})
    state, _ = jo.sharding.load_state(tx, saved["params"], saved["state"])
    return saved["params"], jo.sharding.place(state, shardings)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="half of them on 8 devices (default: %(default)s)")
    args = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 8)
    data, tx, half = text(), muon(), args.steps // 2
    eight, four = mesh_of(jax.devices()), mesh_of(jax.devices()[:4])

    params, state = begin(tx, eight)
    print(jo.sharding.explain_shardings(tx, params, zero="data"))
    with tempfile.TemporaryDirectory() as folder, tqdm(total=2 * args.steps - half, unit="step") as bar:
        path = Path(folder) / "middle"

        def after(i, params, state):
            bar.update()
            if i == half - 1 and not path.exists():
                save(path, tx, params, state)

        _, _, losses = train(tx, params, state, data, eight, range(args.steps), after)
        params, state = restore(path, tx, four)
        _, state, resumed = train(tx, params, state, data, four, range(half, args.steps), after)

    away = float(np.max(np.abs(np.subtract(losses[half:], resumed)) / losses[half:]))
    for i in range(0, args.steps, max(args.steps // 6, 1)):
        again = f", resumed on 4 devices {resumed[i - half]:.5f}" if i >= half else ""
        print(f"step {i:4}: loss {losses[i]:.5f}{again}")
    print(f"Losses of the two runs differ by at most {away:.1e} of them.")
    assert away < 1e-4, "the resumed run is another one"
    assert losses[-1] < losses[0] - 1 or args.steps < 60, "nothing was learned"
    cut = jax.tree.map(lambda x: x.addressable_shards[0].data.size / x.size, state)
    assert min(jax.tree.leaves(cut)) == 1 / 4 and jnp.isfinite(away)


if __name__ == "__main__":
    main()
