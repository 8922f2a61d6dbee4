"""An equinox network trained, saved by orbax in mid-run, restored, trained on: `python examples/equinox_checkpoint.py`.

The program is written for optax. It runs with either library, the import swapped and nothing else:
`--library jaxopt_ko` (the default) or `--library optax`. The restored run ends where the uninterrupted one does.
"""

import argparse
import importlib
import tempfile
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # orbax warns of what it will rename
    import orbax.checkpoint as ocp


def spirals(points=400):
    """Two arms, (points, 2), and which arm a point is on."""
    t = np.linspace(0.5, 3.0, points // 2) * np.pi
    arm = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 10
    noise = 0.03 * np.random.default_rng(0).normal(size=(points, 2))
    x = np.concatenate([arm, -arm]) + noise
    return jnp.asarray(x, jnp.float32), jnp.repeat(jnp.arange(2), points // 2)


def make_optimizer(optax, steps):
    """AdamW on a schedule, biases not decayed, a gradient that is not finite skipped, two gradients a step."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 20, steps // 2)
    no_biases = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731
    opt = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-3, mask=no_biases))
    return optax.MultiSteps(optax.apply_if_finite(opt, 5), every_k_schedule=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=("jaxopt_ko", "optax"), default="jaxopt_ko")
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    optax = importlib.import_module(args.library)

    x, y = spirals()
    model = eqx.nn.MLP(2, 2, 32, 2, activation=jax.nn.tanh, key=jax.random.key(0))
    optimizer = make_optimizer(optax, args.steps)
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_value_and_grad
    def loss_of(model, batch):
        logits = jax.vmap(model)(x[batch])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y[batch]))

    @eqx.filter_jit
    def step(model, state, key):
        value, grads = loss_of(model, jax.random.choice(key, len(x), (64,)))
        updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, value

    def train(model, state, first, last):
        for i in tqdm(range(first, last), unit="step"):
            model, state, _ = step(model, state, jax.random.key(i))
        return model, state

    half = args.steps // 2
    middle = train(model, state, 0, half)
    whole, _ = train(*middle, half, args.steps)

    arrays, rest = eqx.partition(middle, eqx.is_array)
    with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(folder) / "middle", arrays)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(Path(folder) / "middle", jax.eval_shape(lambda: arrays))
    resumed, _ = train(*eqx.combine(restored, rest), half, args.steps)

    accuracy = jnp.mean(jnp.argmax(jax.vmap(whole)(x), axis=1) == y)
    pairs = zip(*(jax.tree.leaves(eqx.filter(m, eqx.is_array)) for m in (whole, resumed)), strict=True)
    same = all(np.array_equal(a, b) for a, b in pairs)
    loss, _ = loss_of(whole, jnp.arange(len(x)))
    print(f"{args.library}: loss {loss:.5f}, accuracy {accuracy:.1%}; resumed run {'the same' if same else 'DIFFERS'}")


if __name__ == "__main__":
    main()
