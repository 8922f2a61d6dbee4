"""10과. 제약과 내부점법 / Lesson 10. Constraints and the interior point

제약이 있으면 최솟값에서 기울기가 0이 아닐 수 있습니다. 내부점법은 제약의 벽에 장벽(barrier)을 세워 안쪽에서 뉴턴법으로
나아가고, 장벽을 점점 낮춥니다. 제약마다 승수(multiplier)가 따라오는데, 그 제약을 풀 때 값이 얼마나 주는지를 말합니다.

With constraints the gradient need not vanish at the minimum. The interior point builds a barrier at their walls, goes
by Newton's method inside, and lets the barrier down. Each constraint has a multiplier: what loosening it would gain.
"""

import jax
import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo

NAMES = ("채권 / bonds", "국내 주식 / home", "해외 주식 / abroad", "금 / gold")
RETURNS = np.array([0.02, 0.06, 0.08, 0.04])
DEVIATIONS = np.array([0.04, 0.18, 0.22, 0.15])
CORRELATION = np.array([[1, 0.1, 0.0, 0.2], [0.1, 1, 0.6, 0.0], [0.0, 0.6, 1, 0.1], [0.2, 0.0, 0.1, 1]])
COVARIANCE = CORRELATION * np.outer(DEVIATIONS, DEVIATIONS)


def least_risk(target):
    """기대 수익률이 target 이상인 가장 안전한 비중. The least variance with at least this return."""
    whole = {"A": np.ones((1, 4)), "b": np.ones(1)}  # 비중의 합은 1 / the weights add up to 1
    enough = {"G": -RETURNS[None], "h": -target[None]}
    return jo.quadratic_program(2 * COVARIANCE, np.zeros(4), **whole, **enough, bounds=(0, None))


def main():
    out = lesson.begin(__doc__)

    # 이차 계획 서른한 개를 vmap 하나로 풀면 효율적 투자선이 됩니다.
    # Thirty-one quadratic programs in one vmapped call: the efficient frontier.
    targets = jnp.linspace(0.02, 0.08, 31)
    frontier = jax.vmap(least_risk)(targets)
    risk = np.sqrt(frontier.value)
    k = 15  # 수익률 5 % / a return of 5 %
    weights = ", ".join(f"{w:.3f}" for w in frontier.params[k])
    print(f"수익률 / return {targets[k]:.3f}: 비중 / weights {weights}, 위험 / risk {risk[k]:.4f}")

    # 승수는 목표 수익률을 조금 올릴 때 분산이 느는 속도입니다: 이웃한 값의 차이와 견줍니다.
    # The multiplier is how fast the variance grows with the target: beside a difference of neighbours.
    multiplier = float(frontier.multipliers.inequality[k, 0])
    difference = float((frontier.value[k + 1] - frontier.value[k - 1]) / (targets[2] - targets[0]))
    print(f"승수 / multiplier {multiplier:.4f}, 차분 / difference {difference:.4f}")

    # 비선형 문제도 부르는 방법은 같습니다: Hock과 Schittkowski의 71번.
    # A nonlinear problem is called the same way: Hock and Schittkowski's number 71.
    hs71 = jo.minimize(
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2], jnp.array([1.0, 5.0, 5.0, 1.0]), jo.interior_point(),
        equality=lambda x: jnp.sum(x**2) - 40, inequality=lambda x: 25 - jnp.prod(x), bounds=(1.0, 5.0),
    )  # fmt: skip
    print(f"HS71: x = ({', '.join(f'{x:.4f}' for x in hs71.params)}), f = {hs71.value:.6f}. {hs71.status.sentence}")

    figure, (left, right) = lesson.axes()
    left.plot(risk, targets, color=lesson.BLUE, linewidth=2, label="효율적 투자선 / efficient frontier")
    for name, x, y, marker in zip(NAMES, DEVIATIONS, RETURNS, "o^sD", strict=True):
        left.plot(x, y, marker, color=lesson.BLACK, fillstyle="none", markersize=8, label=name)
    left.set(xlabel="위험(표준편차) / risk", ylabel="수익률 / return", title="가장 안전한 조합 / the safest mix")
    left.legend(loc="lower right")
    colors = (lesson.SKY, lesson.ORANGE, lesson.RED, "#F0E442")
    right.stackplot(targets, np.asarray(frontier.params).T, labels=NAMES, colors=colors, edgecolor="white")
    right.set(xlabel="목표 수익률 / target return", ylabel="비중 / weight", xlim=(0.02, 0.08), ylim=(0, 1))
    right.legend(loc="lower left")
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
