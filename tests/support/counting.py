"""How large a program is: equations of a jaxpr, operations of StableHLO."""

import jax


def equations(jaxpr):
    """How many there are, those of inner jaxprs too."""
    inner = [one for equation in jaxpr.eqns for one in jax.extend.core.jaxprs_in_params(equation.params)]
    return len(jaxpr.eqns) + sum(map(equations, inner))


def shapes(jaxpr):
    """Of all arrays in a jaxpr, and in its inner ones."""
    found = {variable.aval.shape for equation in jaxpr.eqns for variable in equation.outvars}
    inner = [one for equation in jaxpr.eqns for one in jax.extend.core.jaxprs_in_params(equation.params)]
    return found.union(*map(shapes, inner))


def stablehlo(opt, params):
    """The text of one update, before XLA."""
    return jax.jit(lambda p, s: opt.update(p, s, p)).lower(params, opt.init(params)).as_text()
