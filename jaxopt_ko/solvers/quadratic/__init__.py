"""Linear and quadratic programs by a primal-dual interior-point method. `method` is its page; the parts that it puts
together stand in files of their own: program, variables, kkt and residuals."""

from jaxopt_ko.solvers.quadratic.method import quadratic_interior_point
from jaxopt_ko.solvers.quadratic.program import Equilibration, check_program, sides
from jaxopt_ko.solvers.quadratic.variables import HomogeneousPoint, QuadraticState

__all__ = ["Equilibration", "HomogeneousPoint", "QuadraticState", "check_program", "quadratic_interior_point", "sides"]
