"""수업들이 함께 쓰는 것: 실행 옵션, 글꼴, 걷기. What the lessons share: the option, the font, a walk."""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jaxopt_ko as jo

sys.path.insert(0, str(Path(__file__).parents[1]))
import korean

# Okabe and Ito's colours, for every kind of colour vision
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"


def begin(text: str) -> Path:
    """Read the command line, choose 64 bits and a font with Hangul; text: the lesson's docstring."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    name = f"{Path(sys.argv[0]).stem}.png"
    parser.add_argument(
        "--out", type=Path, default=name, help="그림 파일 / the picture to write (default: %(default)s)"
    )
    out = parser.parse_args().out
    if not out.parent.is_dir():
        parser.error(f"--out: there is no directory {out.parent}")
    jax.config.update("jax_enable_x64", True)
    korean.use_font()
    print(text.splitlines()[0])
    return out


def walk(optimizer: jo.GradientTransformation, fun, start, steps: int) -> jax.Array:
    """float[steps+1,n]: 1과의 반복문을 scan으로. The loop of lesson 1, as a scan."""

    def step(carry, _):
        x, state = carry
        value, grad = jax.value_and_grad(fun)(x)
        updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=fun)
        x = jo.apply_updates(x, updates)
        return (x, state), x

    start = jnp.asarray(start, float)
    run = jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), None, steps)[1])
    return jnp.concatenate([start[None], run(start)])


def contours(ax, fun, x: tuple, y: tuple, levels) -> None:
    """등고선. Contours of a function of two variables."""
    grid = np.stack(np.meshgrid(np.linspace(*x, 200), np.linspace(*y, 200)), axis=-1)
    ax.contour(grid[..., 0], grid[..., 1], jax.vmap(jax.vmap(fun))(grid), levels, colors="0.75", linewidths=0.8)


def axes(columns: int = 2) -> tuple:
    """(figure, its axes)."""
    figure = Figure(figsize=(6 * columns, 4.6), layout="constrained")  # a Figure without pyplot needs no screen
    made = figure.subplots(1, columns)
    for ax in np.atleast_1d(made):
        ax.grid(color="0.92")
    return figure, made


def finish(figure: Figure, out: Path) -> None:
    figure.savefig(out, format="png", dpi=90)
    print(f"그림 / picture: {out}")
