"""The concepts a newcomer holds in mind. Imports nothing of ours."""

from __future__ import annotations

import operator
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, Self, TypeAlias

import jax
import numpy as np
from jax import Array

__all__ = [
    "KKT", "AdaptiveGradClipState", "AddDecayedWeightsState", "ClipByGlobalNormState", "ClipState", "Code",
    "EmptyState", "Evaluations", "GradientTransformation", "GradientTransformationExtraArgs", "Hyper", "Info",
    "MaskOrFn", "MaskedNode", "Multipliers", "NonNegativeParamsState", "NormalizeState", "OptState", "Params",
    "ScalarOrSchedule", "ScaleByTrustRatioState", "ScaleState", "Schedule", "Solution", "Status", "TransformInitFn",
    "TransformUpdateExtraArgsFn", "TransformUpdateFn", "Updates",
]  # fmt: skip

PyTree: TypeAlias = Any  # any nest of tuples, lists, dicts, NamedTuples, registered classes over arrays
Params: TypeAlias = Any  # pytree of floating arrays: what is being optimized
Updates: TypeAlias = Any  # pytree like Params: gradients on the way in, steps to add on the way out
State: TypeAlias = Any  # what a transformation remembers between two updates
DType: TypeAlias = Any  # whatever jnp.dtype() takes

Number: TypeAlias = float | Array | np.ndarray[Any, Any] | np.number[Any]  # one number, traced or not
Schedule: TypeAlias = Callable[[Any], Array]  # int32[] step, from 0 -> float[]
GivenSchedule: TypeAlias = Callable[[Any], Number]  # one that a user has written: its result may be a Python number
Hyper: TypeAlias = Number | GivenSchedule  # every numeric hyperparameter of every method


OptState: TypeAlias = Any  # optax's names for what is above
ScalarOrSchedule: TypeAlias = Hyper
MaskOrFn: TypeAlias = Any  # pytree of bools, or a function of the parameters that makes it
TransformInitFn: TypeAlias = Callable[[Params], State]
TransformUpdateFn: TypeAlias = Callable[..., tuple[Updates, State]]
TransformUpdateExtraArgsFn: TypeAlias = Callable[..., tuple[Updates, State]]


class _Pair(NamedTuple):
    """Two functions."""

    init: Callable[..., State]
    update: Callable[..., tuple[Updates, State]]


class _ByName(type):
    """Asked by `isinstance`, a class of pairs knows optax's class of the same name, too."""

    def __instancecheck__(cls, pair: Any) -> bool:
        if type.__instancecheck__(cls, pair):
            return True
        names = (kind.__name__ for kind in type(pair).__mro__)
        return getattr(pair, "_fields", None) == _Pair._fields and cls.__name__ in names


class GradientTransformation(_Pair, metaclass=_ByName):
    """The one pair that every method is: SGD and interior point alike.

    init(params) -> state
        Makes the state for these parameters; it may also be given abstract leaves (`jax.ShapeDtypeStruct`).
    update(updates, state, params=None, **extra_args) -> (updates, state)
        Turns gradients into steps. Pure: neither argument is changed. The steps have the structure and the
        shapes of the gradients and are *added* to the parameters (`apply_updates`). The new state equals
        the old one in structure, shape and dtype, so it threads through `lax.scan`.

    Every `update` of this package takes any `extra_args` and ignores those it has no use for: what its factories
    return is the class below. A pair of your own is of either, as you call it; all that is made here takes both.
    """

    __slots__ = ()


class GradientTransformationExtraArgs(GradientTransformation):
    """A pair whose `update` takes any `extra_args`; so says `isinstance`, of ours and of optax's."""

    __slots__ = ()


class MessageEnum(IntEnum):
    """Codes that carry a sentence each."""

    sentence: str

    def __new__(cls, code: int, sentence: str) -> Self:
        """An integer that carries its sentence."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member


class Code(MessageEnum):
    """The codes of a `Status`, with what they mean."""

    RUNNING = 0, "The run goes on."
    GRADIENT_SMALL = 1, "Converged: the gradient is zero to the tolerance."
    DECREASE_SMALL = 2, "Converged: the value falls by no more than its own rounding."
    STEP_SMALL = 3, "Converged: the step is shorter than the tolerance, or lost in the parameters' own rounding."
    BUDGET_SPENT = 4, "Stopped: max_steps was reached before a tolerance."
    NOT_FINITE = 5, "Failed: the function is not finite at the starting point."
    SEARCH_FAILED = 6, "Stopped: no step was found that lowers the value, and the gradient is not small."
    DIVERGED = 7, "Failed: a step led to where the function is not finite; the best point seen is returned."
    NO_ROOT = 8, "Failed: the function is not zero here, though nowhere near is it smaller."
    INFEASIBLE = 9, "Failed: no point satisfies the constraints, or none near here."
    UNBOUNDED = 10, "Failed: the value falls without bound; where there are constraints, they hold."
    STUCK = 11, "Stopped: rounding errors keep the method from coming any closer to a solution."
    OUT_OF_TIME = 12, "Stopped: max_seconds were over before a tolerance was reached."


class Status(NamedTuple):
    """How a solver stands."""

    code: Array  # int32[]  one of Code

    @property
    def success(self) -> Array:
        """bool[]: a tolerance was met."""
        return (self.code >= int(Code.GRADIENT_SMALL)) & (self.code <= int(Code.STEP_SMALL))

    @property
    def sentence(self) -> str:
        """What the code of one finished run means."""
        return Code(int(self.code)).sentence  # type: ignore[call-arg]

    def __repr__(self) -> str:
        """The code's name and sentence; of many runs, how many ended how; of a traced one, its type."""
        return f"Status({_told(self.code)})"


class Evaluations(NamedTuple):
    """How often the problem was evaluated."""

    function: Array  # int32[]  values or residuals
    gradient: Array  # int32[]  gradients or dense Jacobians
    product: Array  # int32[]   vectors times a Hessian or a Jacobian; a dense Hessian counts as its columns


class Info(NamedTuple):
    """What a solver's update reports, in its state: all that a driver's loop looks at."""

    value: Array  # float[]      at the parameters as they now are
    optimality: Array  # float[]  0 at a solution: the measure that gtol bounds
    step_norm: Array  # float[]  of the trial step, in the method's own scaling
    accepted: Array  # bool[]    whether the step was taken
    evaluations: Evaluations  # so far
    status: Status


class Multipliers(NamedTuple):
    """Those of a constrained problem: grad f + J_e'y + J_i'z - z_lower + z_upper = 0 at a solution."""

    equality: PyTree  # y, like c_e(x) or b
    inequality: PyTree  # z >= 0, like c_i(x) or h
    lower: Params  # >= 0, like params
    upper: Params  # >= 0, like params


class KKT(NamedTuple):
    """By how much the conditions of Karush, Kuhn and Tucker are missed, in the largest element each."""

    stationarity: Array  # float[]     |grad f + J_e'y + J_i'z - z_lower + z_upper|
    feasibility: Array  # float[]      |c_e|, c_i and the bounds, where they are violated
    complementarity: Array  # float[]  |multiplier times the room left by its constraint|


class Solution(NamedTuple):
    """What a driver returns."""

    params: Params  # the best point seen
    value: Array  # float[]  there
    status: Status
    steps: Array  # int32[]  updates made, rejected ones too
    evaluations: Evaluations
    state: State  # of the method, to go on from
    aux: PyTree = None  # what fun returns beside its value there, with has_aux; of a program a `Certificate`
    multipliers: Multipliers | None = None  # of a method for constrained problems
    kkt: KKT | None = None  # of the same

    def __repr__(self) -> str:
        """How the run ended, where, and what it took; the fields have the rest."""
        code = self.status.code if isinstance(self.status, Status) else self.status
        counts = _short(self.evaluations)
        if isinstance(self.evaluations, Evaluations):
            made = {name: _short(n) for name, n in self.evaluations._asdict().items()}
            counts = ", ".join(f"{n} {name}" for name, n in made.items() if n != "0")
        steps = f"steps={_short(self.steps)}, evaluations=({counts})"
        return f"Solution({_told(code)}\n  params={_short(self.params)}, value={_short(self.value)}, {steps})"


def _told(code: Any) -> str:
    """What a code means; it never raises, for a debugger shows what is traced, abstract, deleted or wrong as well."""
    try:
        codes = np.asarray(code).ravel()
        names = [Code(operator.index(one)) for one in codes]  # type: ignore[call-arg]
    except Exception:
        return _short(code)
    if not names:
        return "no run"
    if np.ndim(code) == 0:
        return f"{names[0].name}: {names[0].sentence}"
    return f"{len(names)} runs: " + ", ".join(f"{names.count(one)} {one.name}" for one in dict.fromkeys(names))


def _short(tree: Any) -> str:
    """Six numbers at most; of more the dtype and the shape, of many arrays their number."""
    leaves = jax.tree.leaves(tree)
    if len(leaves) != 1:
        return f"{len(leaves)} arrays" if leaves else repr(tree)
    (leaf,) = leaves
    try:
        if isinstance(leaf, float | np.ndarray | Array) and np.size(leaf) <= 6:
            return " ".join(np.array2string(np.asarray(leaf), precision=6, separator=", ").split())
    except Exception:  # it is traced, deleted, or on another process's device
        pass
    if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return repr(leaf) if isinstance(leaf, int | str) else type(leaf).__name__


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


# optax's names for it
AdaptiveGradClipState = AddDecayedWeightsState = ClipState = ClipByGlobalNormState = NonNegativeParamsState = EmptyState
NormalizeState = ScaleByTrustRatioState = ScaleState = EmptyState


class MaskedNode(NamedTuple):
    """Stands, without leaves, where a masked transformation sees nothing."""


class SplitRealAndImaginaryArrays(NamedTuple):
    """A complex array as two real ones: what a transformation behind `split_real_and_imaginary` sees."""

    real: Array  # like the leaf
    imaginary: Array  # like the leaf
