"""A primal-dual interior-point method. `method` is its page; the parts that it puts together stand in files of their
own: rooms and variables, filter, residuals, kkt and info."""

from jaxopt_ko.solvers.interior_point.method import interior_point
from jaxopt_ko.solvers.interior_point.variables import InteriorPointState

__all__ = ["InteriorPointState", "interior_point"]
