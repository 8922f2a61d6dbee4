"""8과. L-BFGS와 직선 탐색 / Lesson 8. L-BFGS and the line search

로젠브록 함수는 굽은 계곡입니다. 뉴턴법은 헤세 행렬이 필요하지만, L-BFGS는 최근 기울기의 차이 몇 쌍으로 헤세 행렬의
역행렬을 흉내 냅니다. 스텝의 길이는 직선 탐색이 정하므로 맞출 학습률이 없습니다.

Rosenbrock's function is a bent valley. Newton's method needs the Hessian; L-BFGS imitates its inverse from a few
differences of past gradients. A line search chooses how long a step is, so there is no rate to tune.
"""

import jax
import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo


def main():
    out = lesson.begin(__doc__)
    rosenbrock = jo.landscapes.LANDSCAPES["rosenbrock"]
    fun, start = rosenbrock.fun, jnp.array(rosenbrock.starts[0])

    # 같은 직선 탐색을 세 방향에 붙입니다. 방향만 다르고 나머지는 모두 같습니다.
    # One line search with three directions: nothing else differs.
    methods = {
        "경사 하강법 / gradient": jo.scale(-1.0),
        "켤레 기울기 / conjugate": jo.chain(jo.scale_by_nonlinear_cg(), jo.scale(-1.0)),
        "L-BFGS": jo.chain(jo.scale_by_lbfgs(), jo.scale(-1.0)),
    }
    for name, direction in methods.items():
        method = jo.descent(direction, jo.scale_by_zoom_linesearch(30))
        solution = jo.minimize(fun, start, method, max_steps=20_000, tol=1e-6)
        x, y = solution.params
        print(
            f"{name}: 함수 평가 / evaluations {int(solution.evaluations.function)}, "
            f"x = ({x:.5f}, {y:.5f}), f = {solution.value:.1e}"
        )

    # 실패는 예외가 아니라 상태로 알려 줍니다. 한 문장으로 읽을 수 있습니다.
    # How a run ended is a status, never an exception, and can be read as a sentence.
    solution = jo.minimize(fun, start, jo.lbfgs())
    print(f"lbfgs(): {int(solution.evaluations.function)} evaluations. {solution.status.sentence}")

    # 변수가 백 개여도 부르는 방법은 같습니다.
    # With a hundred variables the call is the same.
    many = jo.minimize(fun, jnp.tile(start, 50), jo.lbfgs())
    print(f"n = 100: {int(many.evaluations.function)} evaluations, f = {many.value:.1e}")

    figure, (left, right) = lesson.axes()
    lesson.contours(left, fun, (-1.7, 1.5), (-0.6, 2.2), np.geomspace(0.1, 500, 14))
    walks = {
        "경사 하강법 / gradient descent": (jo.sgd(1e-3), 2000, lesson.BLACK, ""),
        "Adam": (jo.adam(0.05), 2000, lesson.SKY, ""),
        "L-BFGS": (jo.lbfgs(), 40, lesson.RED, "o"),
    }
    for name, (optimizer, steps, color, marker) in walks.items():
        path = lesson.walk(optimizer, fun, start, steps)
        style = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1.3, "label": name}
        left.plot(*path.T, **style)
        right.loglog(np.arange(1, steps + 2), np.maximum(jax.vmap(fun)(jnp.asarray(path)), 1e-20), **style)
    left.plot(1, 1, "*", color=lesson.ORANGE, markersize=15, markeredgecolor="black")
    left.set(xlabel="x", ylabel="y", title="로젠브록의 굽은 계곡 / Rosenbrock's bent valley")
    left.legend(loc="upper center")
    right.set(xlabel="스텝 / step", ylabel="f", title="함숫값 / value")
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
