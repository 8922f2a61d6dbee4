"""5과. Adam과 편향 보정 / Lesson 5. Adam and its bias correction

Adam은 모멘텀과 RMSProp을 합친 것입니다: 기울기의 평균 m과 제곱의 평균 v를 함께 지닙니다. 둘 다 0에서 출발하므로
처음에는 0 쪽으로 치우쳐 있고(편향), v가 m보다 더 작아서 보정하지 않으면 첫 스텝이 0.1 / √0.001 = 3.16배가 됩니다.

Adam is momentum and RMSProp in one: it keeps a mean m of the gradients and a mean v of their squares. Both start at
zero and are biased towards it at first, v more than m: uncorrected the first step is 0.1 / √0.001 = 3.16 times as long.
"""

import jax
import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo

RATE, B1, B2, EPS = 0.1, 0.9, 0.999, 1e-8
START = (-10.0, 1.0)
STEPS = 200


def main():
    out = lesson.begin(__doc__)
    valley = jo.landscapes.landscape("long_valley").fun

    # 논문의 알고리즘을 그대로 옮기면 몇 줄입니다. 라이브러리와 같은 길을 걷는지 봅니다.
    # The paper's algorithm takes a few lines. Does it walk the library's path?
    x, m, v = np.array(START), np.zeros(2), np.zeros(2)
    by_hand = [x]
    gradient = jax.jit(jax.grad(valley))
    for t in range(1, STEPS + 1):
        g = np.asarray(gradient(jnp.asarray(x)))
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * g**2
        x = x - RATE * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPS)
        by_hand.append(x)
    runs = {
        "보정함 / corrected": (lesson.walk(jo.adam(RATE), valley, START, STEPS), lesson.BLUE, "-"),
        "보정 안 함 / uncorrected": (
            lesson.walk(jo.adam(RATE, bias_correction=False), valley, START, STEPS), lesson.RED, "--",
        ),
    }  # fmt: skip
    corrected, uncorrected = (path for path, _, _ in runs.values())
    print(f"손으로 쓴 Adam과의 차이 / difference from Adam by hand: {np.abs(corrected - np.array(by_hand)).max():.0e}")

    # 스텝의 길이를 견줍니다.
    # The lengths of the steps, compared.
    lengths = [np.linalg.norm(np.diff(path, axis=0), axis=1) for path in (corrected, uncorrected)]
    ratio = lengths[1] / lengths[0]
    print(f"첫 스텝의 비 / ratio of the first steps: {ratio[0]:.3f}")
    print(f"10번째 스텝의 비 / ratio of the tenth steps: {ratio[9]:.3f}")

    figure, (left, right) = lesson.axes()
    lesson.contours(left, valley, (-11, 6), (-4, 4), np.geomspace(0.3, 120, 12))
    for (name, (path, color, dash)), length in zip(runs.items(), lengths, strict=True):
        left.plot(*path.T, color=color, linestyle=dash, marker="o", markersize=2.5, linewidth=1, label=name)
        right.semilogx(np.arange(1, STEPS + 1), length / RATE, color=color, linestyle=dash, linewidth=2, label=name)
    left.set(xlabel="x", ylabel="y", title="긴 계곡, 200스텝 / a long valley, 200 steps")
    left.legend(loc="upper right")
    right.set(
        xlabel="스텝 / step", ylabel="배 / times the rate", title="스텝의 길이: 학습률의 몇 배 / length of a step"
    )
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
