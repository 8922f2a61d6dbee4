"""9과. 곡선 맞춤: 레벤버그-마쿼트 / Lesson 9. Fitting a curve: Levenberg-Marquardt

목적 함수가 잔차의 제곱합이면 잔차의 야코비 행렬 J만으로 헤세 행렬을 J'J로 어림할 수 있습니다(가우스-뉴턴).
레벤버그-마쿼트는 여기에 감쇠를 더해, 멀리서는 경사 하강법처럼, 가까이서는 가우스-뉴턴처럼 움직입니다.
데이터: NIST의 Misra1a(단분자층 흡착). 인증된 답과 견줍니다.

Where the cost is a sum of squares, the Jacobian J of the residuals gives J'J for the Hessian (Gauss-Newton).
Levenberg-Marquardt adds a damping: gradient descent when far away, Gauss-Newton when near.
Data: NIST's Misra1a (monomolecular adsorption), with a certified answer beside ours.
"""

import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo

X = np.array([77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0])
Y = np.array([10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.4, 75.47, 81.78])
START = np.array([500.0, 1e-4])  # NIST의 먼 출발점 / NIST's far start
CERTIFIED = np.array([238.94212918, 5.5015643181e-4])


def model(b, x):
    return b[0] * (1 - jnp.exp(-b[1] * x))


def residuals(b):
    return model(b, X) - Y


def main():
    out = lesson.begin(__doc__)
    solution = jo.least_squares(residuals, START, jo.levenberg_marquardt())
    b = np.asarray(solution.params)

    # 맞춘 값의 표준편차: 분산 행렬은 σ² (J'J)⁻¹이고, J는 풀이의 상태에 들어 있습니다.
    # Standard deviations: the covariance is σ² (J'J)⁻¹, and the solution's state has J.
    sigma = np.sqrt(2 * float(solution.value) / (len(Y) - 2))
    root = sigma * np.linalg.inv(np.linalg.qr(np.asarray(solution.state.jacobian), mode="r"))
    deviations = np.linalg.norm(root, axis=1)
    for i in range(2):
        print(f"b{i + 1} = {b[i]:.8g} ± {deviations[i]:.2g}, 인증된 값 / certified {CERTIFIED[i]:.8g}")
    print(f"잔차의 표준편차 / residual standard deviation: {sigma:.6f}")

    # 같은 문제를 제곱합인 줄 모르는 방법과 견줍니다. 두 매개변수의 크기가 백만 배 차이라 L-BFGS에는 어렵습니다.
    # Beside a method that does not know of squares. The parameters differ a millionfold in size: hard for L-BFGS.
    blind = jo.minimize(lambda b: jnp.sum(residuals(b) ** 2) / 2, START, jo.lbfgs())
    for name, run in (("levenberg_marquardt", solution), ("lbfgs", blind)):
        print(f"{name}: {int(run.evaluations.function)} evaluations, cost = {run.value:.6g}")

    figure, (left, right) = lesson.axes()
    x = np.linspace(0, 800, 200)
    left.plot(x, model(START, x), color="0.6", linestyle="--", label="출발점 / start")
    left.plot(x, model(b, x), color=lesson.BLUE, linewidth=2, label="맞춘 곡선 / fit")
    left.plot(X, Y, "o", color=lesson.BLACK, fillstyle="none", label="데이터 / data")
    left.set(xlabel="압력 / pressure", ylabel="부피 / volume", title="단분자층 흡착 / monomolecular adsorption")
    left.legend()
    right.axhline(0, color=lesson.BLUE)
    right.stem(X, Y - model(b, X), linefmt="0.6", markerfmt="ko", basefmt=" ")
    right.set(xlabel="압력 / pressure", ylabel="데이터 − 곡선 / data − fit", title="잔차 / residuals")
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
