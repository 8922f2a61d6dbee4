"""7과. 조건수와 뉴턴법 / Lesson 7. The condition number and Newton's method

조건수는 헤세 행렬의 가장 큰 특잇값을 가장 작은 특잇값으로 나눈 비율로, 등고선 타원의 장축과 단축의 비율의
제곱입니다. 경사 하강법의 스텝 수는 조건수에 비례합니다. 뉴턴법은 헤세 행렬로 기울기를 고쳐 타원을 원으로 만들기
때문에, 조건수와 상관없이 한두 스텝에 끝납니다.

The condition number is the largest over the smallest singular value of the Hessian: the ratio of the axes of a
contour, squared. The steps of gradient descent grow with it. Newton's method corrects the gradient by the Hessian,
which makes a circle of the ellipse: a step or two, whatever the condition number.
"""

from functools import partial

import jax
import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo
from jaxopt_ko.analysis.landscapes import long_valley

MOST = 15_000


def main():
    out = lesson.begin(__doc__)
    conditions = jnp.array([1.0, 10.0, 100.0, 1000.0])
    start = jnp.array([1.0, 1.0])

    # 조건수도 추적되는 수여도 되므로, 네 계곡을 vmap으로 함께 걷습니다.
    # The condition number may be traced as well, so vmap walks through four valleys together.
    def steps(condition, optimizer):
        path = lesson.walk(optimizer, partial(long_valley, condition=condition), start, MOST)
        return jnp.argmax(jnp.abs(path).max(axis=1) < 1e-3)

    def momentum(condition):
        q = jnp.sqrt(condition)
        return jo.sgd(4 / (1 + q) ** 2, momentum=((q - 1) / (q + 1)) ** 2)

    counts = {
        "descent": jax.vmap(lambda k: steps(k, jo.sgd(2 / (1 + k))))(conditions),
        "momentum": jax.vmap(lambda k: steps(k, momentum(k)))(conditions),
        "newton": jax.vmap(lambda k: jo.minimize(partial(long_valley, condition=k), start, jo.newton()).steps)(
            conditions
        ),
    }
    for i, condition in enumerate(conditions):
        # 조건수를 정의대로 잽니다.
        # The condition number, measured by its definition.
        singular = np.linalg.svd(jax.hessian(partial(long_valley, condition=condition))(start), compute_uv=False)
        row = ", ".join(f"{name} {count[i]}" for name, count in counts.items())
        print(f"조건수 / condition number {singular[0] / singular[-1]:6.1f}: 스텝 / steps: {row}")

    # 실제 함수의 최소점에서도 조건수를 잴 수 있습니다.
    # At the minimum of any function it can be measured, too.
    for name in ("himmelblau", "beale", "rosenbrock"):
        landscape = jo.landscapes.LANDSCAPES[name]
        singular = np.linalg.svd(jax.hessian(landscape.fun)(jnp.array(landscape.minima[0].x)), compute_uv=False)
        print(f"{landscape.korean} / {landscape.title}: {singular[0] / singular[-1]:.1f}")

    figure, (left, right) = lesson.axes()
    lesson.contours(left, long_valley, (-4, 4), (-3, 3), np.geomspace(0.2, 45, 10))
    left.annotate("", (3.16, 0), (0, 0), arrowprops={"arrowstyle": "->", "color": lesson.RED, "linewidth": 2})
    left.annotate("", (0, 1), (0, 0), arrowprops={"arrowstyle": "->", "color": lesson.BLUE, "linewidth": 2})
    left.text(1.7, 0.15, "√10", color=lesson.RED)
    left.text(0.1, 1.1, "1", color=lesson.BLUE)
    left.set(xlabel="x", ylabel="y", aspect="equal", title="조건수 10인 계곡 / a valley of condition number 10")
    names = {"descent": "경사 하강법 / descent", "momentum": "모멘텀 / momentum", "newton": "뉴턴법 / Newton"}
    styles = zip(names, (lesson.BLACK, lesson.RED, lesson.BLUE), "os^", strict=True)
    for name, color, marker in styles:
        right.loglog(conditions, counts[name], color=color, marker=marker, label=names[name])
    right.set(xlabel="조건수 / condition number", ylabel="스텝 / steps", title="1/1000까지 / to one thousandth")
    right.legend()
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
