"""What states are put together of: the classes by which a pickle of one names its parts."""

import sys

from jaxopt_ko.core.naming import answers_at
from jaxopt_ko.precision.packed import (
    Companded8,
    Companded8Nonnegative,
    Dynamic8,
    Dynamic8Nonnegative,
    FourBit,
    FourBitNonnegative,
    FourBitNonnegativeOdd,
    FourBitOdd,
    Fp8,
    Fp8Nonnegative,
    Packed,
)
from jaxopt_ko.solvers.engine.compact_bfgs import LBFGSBMemory
from jaxopt_ko.solvers.engine.convergence import Course
from jaxopt_ko.solvers.engine.line_search import Evaluation, LineSearchState
from jaxopt_ko.solvers.engine.matrix_free import MatrixFreeState
from jaxopt_ko.solvers.engine.nested_line_searches import SlopeLinesearchInfo
from jaxopt_ko.solvers.first_order import FirstOrderState
from jaxopt_ko.solvers.newton import NewtonCgMemoryState, NewtonMemoryState
from jaxopt_ko.solvers.quadratic import Equilibration, HomogeneousPoint

__all__ = [
    "Companded8", "Companded8Nonnegative", "Course", "Dynamic8", "Dynamic8Nonnegative", "Equilibration", "Evaluation",
    "FirstOrderState", "FourBit", "FourBitNonnegative", "FourBitNonnegativeOdd", "FourBitOdd", "Fp8", "Fp8Nonnegative",
    "HomogeneousPoint", "LBFGSBMemory", "LineSearchState", "MatrixFreeState", "NewtonCgMemoryState",
    "NewtonMemoryState", "Packed", "SlopeLinesearchInfo",
]  # fmt: skip

# their names in 0.1, by which older pickles call them
Line, Memory, Reached = LineSearchState, LBFGSBMemory, Evaluation
Point, Scaling = HomogeneousPoint, Equilibration

answers_at("jaxopt_ko", {"states": sys.modules[__name__]})
