"""Linear algebra of dense matrices and of products with one."""

from jaxopt_ko.linalg.iterative import matrix_inverse_pth_root, nnls, power_iteration

__all__ = [
    "matrix_inverse_pth_root", "nnls", "power_iteration",
]  # fmt: skip
