"""11과. 배치 정규화 / Lesson 11. Batch normalization

층마다 배치의 평균을 빼고 표준편차로 나눕니다. 층이 깊어져도 특징들이 서로 닮지 않아 마지막 층의 조건수(7과)가 작게
유지되고, 열 배 작은 학습률로도 학습이 됩니다. 평가할 때는 학습하며 모아 둔 이동 평균을 배치의 통계 대신 씁니다.

Each layer subtracts the mean of its batch and divides by its standard deviation. With depth, features then do not
grow alike: the condition number (lesson 7) of a last layer upon them stays small, and ten times smaller rates train.
To evaluate, running averages that were gathered in training take the place of the batch's statistics.
"""

from functools import partial

import jax
import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo

WIDTH, DEPTH, STEPS, SEEDS, DEPTHS = 8, 8, 200, 3, [1, 2, 4, 8, 16]
X = np.random.RandomState(0).normal(size=(64, WIDTH))
Y = np.sin(2 * X[:, 0])
RATES, GOOD = np.geomspace(1e-3, 2.0, 12), 0.1
NORM = jo.batch_norm()  # 순수 함수의 쌍 (init, apply) / a pure pair (init, apply)
WAYS = (("정규화 없이 / without", False, lesson.BLACK, "o"), ("배치 정규화 / with", True, lesson.BLUE, "s"))


def init(key, depth):
    """층들은 scan을 위해 쌓아 둡니다. / The layers are stacked, for a scan over them."""
    weights = jax.random.normal(key, (depth + 1, WIDTH, WIDTH)) / np.sqrt(WIDTH)
    scales, state = jax.vmap(lambda _: NORM.init(WIDTH))(jnp.arange(depth))
    return ((weights[1:], scales), jnp.append(weights[0, 0], 0)), state


def features(layers, state, x, normalized, train):
    """float[depth,n,width]: 층마다의 출력. / The output of each layer; and the new state."""

    def layer(x, layer):
        (weights, scales), state = layer
        x = x @ weights
        if normalized:
            x, state = NORM.apply(scales, state, x, train=train)
        return jnp.tanh(x), (jnp.tanh(x), state)

    return jax.lax.scan(layer, x, (layers, state))[1]


def cost(last, x):
    return jo.mean_squared_error(x @ last[:-1] + last[-1], Y)


def loss(params, state, normalized, train):
    outputs, state = features(params[0], state, X, normalized, train)
    return cost(params[1], outputs[-1]), state


def fit(rate, key, normalized):
    """경사 하강법. 이동 평균은 매개변수 곁에서 scan을 따라갑니다. / Running averages thread through the scan."""
    optimizer = jo.sgd(rate)

    def step(carry, _):
        params, opt_state, state = carry
        grads, state = jax.grad(loss, has_aux=True)(params, state, normalized, train=True)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (jo.apply_updates(params, updates), opt_state, state), None

    params, state = init(key, DEPTH)
    (params, _, state), _ = jax.lax.scan(step, (params, optimizer.init(params), state), None, STEPS)
    return loss(params, state, normalized, train=True)[0], loss(params, state, normalized, train=False)[0]


def main():
    out = lesson.begin(__doc__)
    figure, (left, right) = lesson.axes()
    keys = jax.random.split(jax.random.key(1), SEEDS)
    for name, normalized, color, marker in WAYS:
        run = jax.vmap(jax.vmap(partial(fit, normalized=normalized), (None, 0)), (0, None))  # [rates, seeds]
        trained, evaluated = (np.median(losses, axis=1) for losses in jax.jit(run)(RATES, keys))
        best, good = np.nanargmin(trained), RATES[trained < GOOD]
        print(f"{name}: 학습되는 학습률 / rates that train {good[0]:.2g} … {good[-1]:.2g},", end=" ")
        print(f"손실 / loss {trained[best]:.2g}, 평가할 때 / in evaluation {evaluated[best]:.2g}")
        left.loglog(RATES, np.where(trained < 3, trained, np.nan), color=color, marker=marker, label=name)

        # 마지막 층만 보면 손실은 볼록하므로, 조건수가 유한합니다. 학습하기 전에 깊이마다 잽니다.
        # By the last layer alone the loss is convex, its condition number finite: before training, at each depth.
        numbers = np.empty((SEEDS, len(DEPTHS)))
        outputs = jax.jit(partial(features, x=X, normalized=normalized, train=True))
        for seed, key in enumerate(keys):
            (layers, last), state = init(key, DEPTHS[-1])
            x, _ = outputs(layers, state)
            for i, depth in enumerate(DEPTHS):
                numbers[seed, i] = jo.diagnose.condition_number(cost, last, args=(x[depth - 1],), key=0).number
        typical = np.median(numbers, axis=0)
        row = ", ".join(f"depth {depth} {number:.3g}" for depth, number in zip(DEPTHS, typical, strict=True))
        print(f"  조건수 / condition number: {row}")
        right.loglog(DEPTHS, typical, color=color, marker=marker, label=name)
        right.fill_between(DEPTHS, numbers.min(0), numbers.max(0), color=color, alpha=0.15)

    left.axhline(GOOD, color="0.6", linestyle=":")
    title = f"{DEPTH}층, {STEPS}스텝 뒤 / {DEPTH} layers, after {STEPS} steps"
    left.set(xlabel="학습률 / learning rate", ylabel="손실 / loss", title=title)
    title = "마지막 층의 조건수 / condition number of the last layer"
    right.set(xlabel="깊이 / depth", xticks=DEPTHS, xticklabels=DEPTHS, title=title)
    right.minorticks_off()
    left.legend(), right.legend()
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
