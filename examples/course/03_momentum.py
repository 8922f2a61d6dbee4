"""3과. 모멘텀과 네스테로프 / Lesson 3. Momentum and Nesterov

좁고 긴 계곡에서 경사 하강법은 벽 사이를 지그재그로 오갑니다. 모멘텀은 기울기를 속도 v에 쌓습니다: 벽을 오가는
성분은 서로 지워지고, 계곡을 따르는 성분은 쌓입니다. 네스테로프는 한 스텝 앞을 내다보고 일찍 속도를 줄입니다.

In a long, narrow valley gradient descent zig-zags between the walls. Momentum gathers the gradients in a velocity v:
what goes to and fro cancels, what goes along the valley adds up. Nesterov looks a step ahead and brakes sooner.
"""

import lesson
import numpy as np

import jaxopt_ko as jo

KAPPA = 100.0  # 조건수 / the condition number
STEPS = 1500


def main():
    out = lesson.begin(__doc__)
    valley = jo.landscapes.landscape("long_valley", condition=KAPPA).fun  # (x² + 100 y²) / 2
    start = (-20.0, 1.0)

    # 모멘텀과 네스테로프는 학습률도 모멘텀도 같습니다: 다른 것은 앞을 내다보는지뿐입니다.
    # Momentum and Nesterov have the same rate and momentum: the look ahead is all that differs.
    q = KAPPA**0.5
    methods = {
        "경사 하강법 / descent": (jo.sgd(2 / (1 + KAPPA)), lesson.BLACK, "-"),
        "모멘텀 / momentum": (jo.sgd(1 / KAPPA, momentum=(q - 1) / (q + 1)), lesson.RED, "-"),
        "네스테로프 / Nesterov": (jo.sgd(1 / KAPPA, momentum=(q - 1) / (q + 1), nesterov=True), lesson.BLUE, "--"),
    }

    # 경사 하강법의 스텝 수는 조건수에, 모멘텀의 스텝 수는 조건수의 제곱근에 비례합니다.
    # The steps of descent grow as the condition number, those of momentum as its root.
    figure, (left, right) = lesson.axes()
    lesson.contours(left, valley, (-21, 8), (-2.2, 2.2), np.geomspace(1, 400, 12))
    for name, (optimizer, color, dash) in methods.items():
        path = np.asarray(lesson.walk(optimizer, valley, start, STEPS))
        distance = np.abs(path).max(axis=1)
        reached = int(np.argmax(distance < 1e-3))
        crossings = int(np.sum(path[1:41, 1] * path[:40, 1] < 0))
        print(f"{name}: {reached}스텝에 1e-3 / steps to 1e-3; 처음 40스텝에 {crossings}번 가로지름 / crossings in 40")
        left.plot(*path[:41].T, color=color, linestyle=dash, marker="o", markersize=2.5, linewidth=1.2, label=name)
        right.semilogy(distance, color=color, linestyle=dash, label=name)
    left.plot(0, 0, "*", color=lesson.ORANGE, markersize=15, markeredgecolor="black")
    left.set(xlabel="x", ylabel="y", title="처음 40스텝 / the first 40 steps")
    left.legend(loc="lower right")
    right.set(xlabel="스텝 / step", ylabel="max(|x|, |y|)", xlim=(0, 600), ylim=(1e-6, 30))
    right.set_title("최소점까지의 거리 / distance to the minimum")
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
