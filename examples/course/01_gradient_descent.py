"""1과. 경사 하강법 / Lesson 1. Gradient descent

점 열 개를 지나는 직선 H(x) = W x + b를 찾습니다. 비용 함수(cost)는 평균 제곱 오차이고, 기울기의 반대 방향으로
조금씩 내려갑니다: W <- W - 학습률 * dcost/dW. 이 비용 함수는 그릇 모양이라 최솟값이 하나뿐입니다.

We look for the line H(x) = W x + b through ten points. The cost is the mean squared error, and we go down against
its gradient, little by little: W <- W - rate * dcost/dW. This cost is a bowl: it has one minimum.
"""

import jax
import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo

X = np.arange(1.0, 11.0)
Y = np.array([0.94, 1.98, 2.88, 3.92, 3.96, 4.55, 5.64, 6.3, 7.44, 9.1])


def cost(params):
    return jnp.mean((params["W"] * X + params["b"] - Y) ** 2)


def main():
    out = lesson.begin(__doc__)

    # 정답은 정규 방정식으로 미리 알 수 있습니다. 경사 하강법이 여기에 이르는지 봅니다.
    # The normal equations give the answer in advance: does gradient descent get there?
    W, b = np.polyfit(X, Y, 1)
    print(f"정규 방정식 / normal equations: W = {W:.4f}, b = {b:.4f}")

    # 옵티마이저는 (init, update) 한 쌍입니다. update는 기울기를 받아 더할 값을 돌려주고, apply_updates가 더합니다.
    # An optimizer is a pair (init, update). From a gradient, update makes what apply_updates then adds.
    optimizer = jo.sgd(0.02)
    params = {"W": jnp.zeros(()), "b": jnp.zeros(())}
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(cost)(params)
        updates, state = optimizer.update(grad, state, params)
        return jo.apply_updates(params, updates), state, value

    # b가 W보다 훨씬 느립니다. 이 그릇이 한쪽으로 길쭉하기 때문인데, 그 이야기는 3과와 7과에서 합니다.
    # b is much slower than W, as the bowl is a long one: of that in lessons 3 and 7.
    lines, costs = {}, []
    for i in range(2001):
        if i in (0, 1, 10, 100, 2000):
            lines[i] = (float(params["W"]), float(params["b"]))
            print(f"{i:5d}스텝 / steps: W = {params['W']:.4f}, b = {params['b']:.4f}, cost = {cost(params):.6f}")
        params, state, value = step(params, state)
        costs.append(float(value))

    figure, (left, right) = lesson.axes()
    left.plot(X, Y, "o", color=lesson.BLACK, label="데이터 / data")
    styles = zip(lines.items(), ("0.7", lesson.ORANGE, lesson.SKY, lesson.GREEN, lesson.RED), strict=True)
    for (i, (w, c)), color in styles:
        left.plot(X, w * X + c, color=color, linestyle="--" if i < 2000 else "-", label=f"{i}스텝 / steps")
    left.set(xlabel="x", ylabel="y", title="직선이 데이터에 다가간다 / the line comes to the data")
    left.legend()
    right.loglog(np.arange(1, 2002), costs, color=lesson.BLUE)
    right.axhline(np.mean((W * X + b - Y) ** 2), color="0.5", linestyle=":", label="최솟값 / minimum")
    right.set(xlabel="스텝 / step", ylabel="비용 / cost", title="비용은 줄기만 한다 / the cost only falls")
    right.legend()
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
