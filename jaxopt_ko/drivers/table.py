"""The table that `verbose=True` prints: a row for every update, and how the run ended."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

from jaxopt_ko.types import Code, Info, Solution

ROW = "{:>7}  {:>9}  {:>19}  {:>12}  {:>10}"


def show(info: Info, steps: Array) -> None:
    """Print a row of the table: of an update, its step taken or not."""
    row = (steps, info.evaluations.function, info.value, info.optimality, info.step_norm, info.accepted)
    jax.debug.callback(_print_row, *row)


def show_head() -> None:
    """Print the table's head."""
    jax.debug.callback(_print_head)


def show_end(solution: Solution) -> None:
    """Print how the run ended, and what it took."""
    jax.debug.callback(_print_end, solution.status.code, solution.steps, solution.value, tuple(solution.evaluations))


def _print_head() -> None:
    print(ROW.format("step", "functions", "value", "optimality", "|step|"))


def _print_row(steps: Any, functions: Any, value: Any, optimality: Any, step_norm: Any, accepted: Any) -> None:
    step = f"{float(step_norm):.2e}" if accepted else "-"
    print(ROW.format(int(steps), int(functions), f"{float(value):.12e}", f"{float(optimality):.3e}", step), flush=True)


def _print_end(code: Any, steps: Any, value: Any, evaluations: Any) -> None:
    functions, gradients, products = map(int, evaluations)
    print(Code(int(code)).sentence)  # type: ignore[call-arg]
    print(
        f"value {float(value):.15g} after {int(steps)} steps: {functions} functions, {gradients} gradients, "
        f"{products} products",
        flush=True,
    )


def show_pool(passes: Array, waits: Array, running: Array) -> None:
    """Print how many of many problems still wait, and how many are worked on."""
    jax.debug.callback(_print_pool, passes, waits, running)


def show_pool_end(found: Solution, updates: Array) -> None:
    """Print how the runs ended, and the updates of lanes beside those that they took."""
    jax.debug.callback(_print_pool_end, found.status.code, found.steps, updates)


def _print_pool(passes: Any, waits: Any, running: Any) -> None:
    print(f"after {int(passes):>6} passes: {int(waits):>9} problems wait, {int(running):>7} lanes run", flush=True)


def _print_pool_end(codes: Any, steps: Any, updates: Any) -> None:
    counts = {code: int((codes == code).sum()) for code in sorted({int(code) for code in codes.ravel()})}
    for code, count in counts.items():
        print(f"{count:>9}  {Code(code).sentence}")  # type: ignore[call-arg]
    taken = max(int(steps.sum()), 1)
    print(f"{taken} steps in {int(updates)} updates of lanes, {float(updates) / taken:.3f} times as many", flush=True)
