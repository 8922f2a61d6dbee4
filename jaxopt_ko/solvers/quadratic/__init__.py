"""Linear and quadratic programs by a primal-dual interior-point method. `method` is its page; the parts that it puts
together stand in files of their own: program, variables, kkt and residuals."""

from jaxopt_ko.solvers.quadratic.arrangement import Places, arranged, arranged_start, restored
from jaxopt_ko.solvers.quadratic.matrices import Sparse, rows_within
from jaxopt_ko.solvers.quadratic.method import quadratic_interior_point
from jaxopt_ko.solvers.quadratic.program import (
    Equilibration,
    GivenProgram,
    PreparedProgram,
    check_program,
    given_program,
    prepared,
    sides,
)
from jaxopt_ko.solvers.quadratic.residuals import Certificate, certificate
from jaxopt_ko.solvers.quadratic.sparse import SparsePlan, as_dense, as_sparse, sparse_plan
from jaxopt_ko.solvers.quadratic.structure import BlockSizes, block_order
from jaxopt_ko.solvers.quadratic.variables import HomogeneousPoint, QuadraticState, Start

__all__ = [
    "BlockSizes", "Certificate", "Equilibration", "GivenProgram", "HomogeneousPoint", "Places", "PreparedProgram",
    "QuadraticState", "Sparse", "SparsePlan", "Start", "arranged", "arranged_start", "as_dense", "as_sparse",
    "block_order", "certificate", "check_program", "given_program", "prepared", "quadratic_interior_point", "restored",
    "rows_within", "sides", "sparse_plan",
]  # fmt: skip
