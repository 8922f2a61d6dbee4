"""6과. 배치와 잡음 / Lesson 6. Batches and noise

데이터 전부(배치), 일부(미니배치), 하나(확률적)로 한 스텝을 갑니다. 배치가 작으면 같은 에폭에 스텝이 많지만 기울기가
흔들립니다. 학습률이 일정하면 최솟값 둘레를 맴돌고, 학습률을 줄여 가면(learning rate decay) 멈춥니다.

A step is made from all the data (batch), from some (mini-batch) or one of them (stochastic). Small batches make more
steps an epoch, from noisier gradients. At a constant rate they circle the minimum; with a falling rate they settle.
"""

import jax
import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo

X = (np.arange(1.0, 11.0) - 5.5) / np.std(np.arange(10))  # 표준화한 x / standardized
Y = np.array([0.94, 1.98, 2.88, 3.92, 3.96, 4.55, 5.64, 6.3, 7.44, 9.1])
EPOCHS, SEEDS = 30, 20
PLANS = {
    "배치 / batch": (jo.data.full_batch(10), lesson.BLUE),
    "미니배치 / mini-batch": (jo.data.mini_batch(10, 5), lesson.ORANGE),
    "확률적 / stochastic": (jo.data.stochastic(10), lesson.PINK),
}
TITLES = ("일정한 학습률 / constant rate", "줄어드는 학습률 / falling rate")


def loss(params, batch):
    x, y = batch
    return jnp.mean((params[0] * x + params[1] - y) ** 2)


def main():
    out = lesson.begin(__doc__)
    best = np.polyfit(X, Y, 1)
    figure, axes = lesson.axes()

    # jo.loop.fit은 에폭 전체를 scan 하나로 돕니다. 두 학습률과 섞는 순서 스무 가지를 vmap으로 함께 돕니다.
    # jo.loop.fit runs all epochs inside one scan; vmap runs both rates and twenty ways to shuffle together.
    for name, (plan, color) in PLANS.items():
        a_epoch = plan.plan(jax.random.key(0), 0).shape[0]

        def train(falling, key, plan=plan, k=a_epoch):
            optimizer = jo.sgd(lambda t: 0.15 / (1 + falling * t / (5 * k)))
            params = jnp.array([-1.0, 1.0])
            return jo.loop.fit(
                loss, params, optimizer, (X, Y), plan, key=key, epochs=EPOCHS, metrics=lambda params: params
            )

        keys = jax.random.split(jax.random.key(1), SEEDS)
        run = jax.jit(jax.vmap(jax.vmap(train, (None, 0)), (0, None)))(jnp.array([0.0, 1.0]), keys)
        distances = np.linalg.norm(np.asarray(run.metrics) - best, axis=-1)  # [rates, seeds, epochs]
        for ax, title, distance in zip(axes, TITLES, distances, strict=True):
            typical, epochs = np.median(distance, axis=0), np.arange(1, EPOCHS + 1)
            print(f"{title}, {name}: {int(run.steps[0, 0])}스텝 / steps, 남은 거리 / distance left {typical[-1]:.4f}")
            ax.semilogy(epochs, typical, color=color, linewidth=2, label=name)
            ax.fill_between(epochs, *np.quantile(distance, (0.1, 0.9), axis=0), color=color, alpha=0.15)
            ax.set(xlabel="에폭 / epoch", ylim=(1e-4, 10), title=title)
            ax.legend()

    # 줄일 때도 너무 빨리 줄이면 닿기 전에 멈춥니다: 배치 하강법은 잡음이 없으니 줄일 까닭이 없습니다.
    # A rate that falls too soon stops short: descent by the whole batch has no noise and no need of it.
    axes[0].set_ylabel("최소제곱해까지의 거리 / distance to the least squares")
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
