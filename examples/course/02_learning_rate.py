"""2과. 학습률 / Lesson 2. The learning rate

가장 단순한 그릇 x²에서 기울기는 2x이므로, 한 스텝은 x에 (1 - 2 * 학습률)을 곱하는 것입니다. 따라서 학습률이 낮으면
느리고, 적절하면 빠르고, 높으면 양쪽을 오가고, 1을 넘으면 발산합니다.

On the simplest bowl, x², the gradient is 2x, so a step multiplies x by (1 - 2 * rate): a low rate is slow, a right
one fast, a high one goes to and fro, and one above 1 diverges.
"""

import jax
import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo

# 학습률: 낮을 때, 적절할 때, 높을 때, 너무 높을 때
# The rates: low, right, high, too high
RATES = {0.02: "낮음 / low", 0.2: "적절함 / right", 0.95: "높음 / high", 1.01: "너무 높음 / too high"}
COLORS = (lesson.BLUE, lesson.GREEN, lesson.ORANGE, lesson.RED)
STEPS = 40


def square(x):
    return jnp.sum(x**2)


def main():
    out = lesson.begin(__doc__)

    # 학습률은 추적되는 수여도 됩니다. 그래서 vmap 하나로 네 학습률을 한꺼번에 걷습니다.
    # The rate may be traced, so one vmap walks at all four rates at once.
    def last(rate):
        optimizer = jo.sgd(rate)

        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(jax.grad(square)(x), state, x)
            x = jo.apply_updates(x, updates)
            return (x, state), x

        x = jnp.ones(())
        return jnp.append(x, jax.lax.scan(step, (x, optimizer.init(x)), None, STEPS)[1])

    paths = np.asarray(jax.jit(jax.vmap(last))(jnp.array(list(RATES))))

    # 계산과 공식을 견줍니다: x_t = (1 - 2 * 학습률)^t.
    # The run beside the formula: x_t = (1 - 2 * rate)^t.
    for (rate, name), path in zip(RATES.items(), paths, strict=True):
        formula = (1 - 2 * rate) ** STEPS
        print(f"학습률 / rate {rate:4.2f}: x = {path[-1]: .3e}, 공식 / formula {formula: .3e}  {name}")

    figure, (left, right) = lesson.axes()
    x = np.linspace(-2.4, 2.4, 200)
    left.plot(x, x**2, color="0.75", linewidth=2)
    for (rate, name), path, color in zip(RATES.items(), paths, COLORS, strict=True):
        shift = 0.25 * list(RATES).index(rate)  # 겹치지 않게 / so that they do not overlap
        left.plot(path[:9], path[:9] ** 2 + shift, color=color, marker="o", markersize=4, label=f"{rate}: {name}")
        right.semilogy(np.maximum(np.abs(path), 1e-12), color=color, label=f"{rate}: {name}")
    left.set(
        xlabel="x",
        ylabel="x²",
        ylim=(-0.2, 5.5),
        title="처음 여덟 스텝(조금씩 띄움) / the first eight steps, set apart",
    )
    left.legend(loc="upper center")
    right.set(xlabel="스텝 / step", ylabel="|x|", title="최소점까지의 거리 / distance to the minimum")
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
