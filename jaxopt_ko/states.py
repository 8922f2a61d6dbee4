"""What the states of solvers are put together of: the classes by which a pickle of one names its parts."""

from jaxopt_ko.solvers.engine.compact_bfgs import LBFGSBMemory
from jaxopt_ko.solvers.engine.convergence import Course
from jaxopt_ko.solvers.engine.line_search import Evaluation, LineSearchState
from jaxopt_ko.solvers.engine.matrix_free import MatrixFreeState
from jaxopt_ko.solvers.engine.nested_line_searches import SlopeLinesearchInfo
from jaxopt_ko.solvers.first_order import FirstOrderState
from jaxopt_ko.solvers.newton import NewtonCgMemoryState, NewtonMemoryState
from jaxopt_ko.solvers.quadratic import Equilibration, HomogeneousPoint

__all__ = [
    "Course", "Equilibration", "Evaluation", "FirstOrderState", "HomogeneousPoint", "LBFGSBMemory", "LineSearchState",
    "MatrixFreeState", "NewtonCgMemoryState", "NewtonMemoryState", "SlopeLinesearchInfo",
]  # fmt: skip

# their names in 0.1, by which older pickles call them
Line, Memory, Reached = LineSearchState, LBFGSBMemory, Evaluation
Point, Scaling = HomogeneousPoint, Equilibration
