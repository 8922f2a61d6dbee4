"""A convolutional network in flax, trained as flax's MNIST example does: `python examples/flax_digits.py`.

The program is written for optax. It runs with either library, the import swapped and nothing else:
`--library jaxopt_ko` (the default) or `--library optax`.
"""

import argparse
import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # flax imports names that orbax renames
    from flax import linen as nn
    from flax.training.train_state import TrainState


class CNN(nn.Module):
    """Two convolutions, two dense layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(features=8, kernel_size=(3, 3))(x))
        x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nn.relu(nn.Conv(features=16, kernel_size=(3, 3))(x))
        x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(features=32)(x.reshape(len(x), -1)))
        return nn.Dense(features=10)(x)


def create_train_state(optax, steps):
    cnn = CNN()
    params = cnn.init(jax.random.key(0), jnp.ones([1, 8, 8, 1]))["params"]
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, steps // 10, steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(schedule, momentum=0.9, nesterov=True))
    return TrainState.create(apply_fn=cnn.apply, params=params, tx=tx)


def make_train_step(optax):
    @jax.jit
    def train_step(state, images, labels):
        def loss_fn(params):
            logits = state.apply_fn({"params": params}, images)
            targets = optax.smooth_labels(jax.nn.one_hot(labels, 10), 0.01)
            return jnp.mean(optax.softmax_cross_entropy(logits=logits, labels=targets)), logits

        (loss, logits), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads), loss, jnp.mean(jnp.argmax(logits, -1) == labels)

    return train_step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", choices=("jaxopt_ko", "optax"), default="jaxopt_ko")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    optax = importlib.import_module(args.library)

    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    x, x_test, y, y_test = train_test_split(images, digits.target, test_size=360, random_state=0)
    batches = len(x) // 32
    state, train_step = create_train_state(optax, args.epochs * batches), make_train_step(optax)
    order = np.random.default_rng(0)
    with tqdm(range(args.epochs), unit="epoch") as bar:
        for _ in bar:
            losses, accuracies = [], []
            for batch in order.permutation(len(x))[: batches * 32].reshape(batches, 32):
                state, loss, accuracy = train_step(state, x[batch], y[batch])
                losses.append(loss)
                accuracies.append(accuracy)
            bar.set_postfix(loss=f"{np.mean(losses):.4f}", accuracy=f"{np.mean(accuracies):.1%}")
    predicted = np.argmax(state.apply_fn({"params": state.params}, x_test), -1)
    print(f"{args.library}: training loss {np.mean(losses):.5f}, test accuracy {np.mean(predicted == y_test):.1%}")


if __name__ == "__main__":
    main()
