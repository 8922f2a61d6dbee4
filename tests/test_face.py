"""The face: what a solution shows, what a misspelt name was meant to be, which rooms are imported late."""

import copy
import importlib.util
import pathlib
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo

ROOT = pathlib.Path(jo.__file__).parent.parent


def fresh(code):
    """What it prints in a process of its own."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- solutions ------------------------------------------------------------------------------------------


def bowl(x):
    return jnp.sum((x - 1.0) ** 2)


def test_a_solution_shows_how_it_ended_and_where():
    solution = jo.minimize(bowl, jnp.zeros(3))
    text = repr(solution)
    assert text.startswith("Solution(GRADIENT_SMALL: Converged: the gradient is zero to the tolerance.\n")
    assert "params=[1., 1., 1.], value=0., steps=" in text and "gradient))" in text and "product" not in text
    assert len(text) < 200 and str(solution) == text
    assert repr(solution.status) == f"Status(GRADIENT_SMALL: {solution.status.sentence})"
    for again in (pickle.loads(pickle.dumps(solution)), copy.deepcopy(solution), jax.tree.map(jnp.copy, solution)):
        assert type(again) is jo.Solution and repr(again) == text
    large = jo.minimize(lambda p: bowl(p["a"]) + bowl(p["b"]), {"a": jnp.zeros(9), "b": jnp.zeros(())})
    assert "params=2 arrays" in repr(large) and "params=float32[9]" in repr(jo.minimize(bowl, jnp.zeros(9)))


def test_many_solutions_show_how_many_ended_how():
    many = jax.vmap(lambda x: jo.minimize(bowl, x, max_steps=2))(
        jnp.stack([jnp.ones(3), jnp.full(3, 1e3), jnp.ones(3)])
    )
    assert repr(many.status) == "Status(3 runs: 2 GRADIENT_SMALL, 1 BUDGET_SPENT)"
    assert "params=float32[3,3]" in repr(many)
    assert repr(jo.Status(jnp.zeros(0, jnp.int32))) == "Status(no run)"


def test_a_traced_solution_shows_types():
    seen = []

    def run(x):
        solution = jo.minimize(bowl, x)
        seen.append(repr(solution))
        return solution

    abstract = jax.eval_shape(run, jnp.zeros(3))
    jax.jit(jax.vmap(run))(jnp.zeros((2, 3)))
    for text in (*seen, repr(abstract)):
        assert text.startswith("Solution(int32[]\n  params=float32[3], value=float32[]")
    jax.jit(lambda x: jax.debug.print("{}", jo.minimize(bowl, x).status))(jnp.zeros(3))


def test_whatever_a_solution_is_made_of_it_shows_itself():
    solution = jo.minimize(bowl, jnp.zeros(3))
    for function in (lambda x: None, lambda x: object(), lambda x: "a", lambda x: np.float64("nan"), lambda x: 99):
        assert repr(jax.tree.map(function, solution)).startswith("Solution(")
    assert repr(jo.Solution(*range(9))).startswith("Solution(")
    for code in (None, 1.5, "a", 99, [1, 2], jnp.float32(1)):
        assert repr(jo.Status(code)).startswith("Status(")
    gone = jo.Status(jnp.ones((), jnp.int32) + 1)
    gone.code.delete()
    assert repr(gone) == "Status(int32[])"


# ---- names that are not there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        ("", "adm", "adam"), ("", "ADAM", "adam"), ("", "minimise", "minimize"), ("", "multisteps", "MultiSteps"),
        ("solve", "least_square", "least_squares"), ("losses", "huber", "huber_loss"), ("tree", "nomr", "norm"),
        ("contrib", "moun", "muon"), ("tree_utils", "tree_ad", "tree_add"),
        ("schedules", "cosine_decay", "cosine_decay_schedule"),
        ("debug", "check_value", "check_values"), ("states", "Quantised", None), ("", "qqq", None), ("", "_adam", None),
    ],
)  # fmt: skip
def test_what_was_meant_is_said(module, name, meant):
    room = getattr(jo, module) if module else jo
    path = f"jaxopt_ko.{module}" if module else "jaxopt_ko"
    with pytest.raises(AttributeError) as error:
        getattr(room, name)
    said = f"Did you mean {meant}? " if meant else ""
    assert str(error.value) == f"{path}: there is no name {name!r}. {said}dir({path}) lists those that there are."
    assert error.value.obj is None  # or Python 3.12 says the same again


def test_every_public_module_says_what_was_meant():
    for name in jo.__all__:
        if isinstance(room := getattr(jo, name), type(jo)):
            with pytest.raises(AttributeError, match=f"^jaxopt_ko.{name}: there is no name 'nowhere'"):
                room.nowhere  # noqa: B018
            assert not hasattr(room, "__nowhere__")


def test_an_import_of_a_name_that_is_not_there_fails_as_everywhere():
    with pytest.raises(ImportError, match="cannot import name 'adm'"):
        from jaxopt_ko import adm  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        import jaxopt_ko.adm  # noqa: F401


# ---- late rooms -----------------------------------------------------------------------------------------

HEAVY = (  # other packages' modules, and our rooms, that take long and that a training loop may never need
    "chex", "jax.extend", "jax.scipy.linalg", "jax._src.pallas", "optax", "orbax", "flax", "matplotlib",
    *(f"jaxopt_ko.{room}" for room in (
        "analysis", "catalog", "drivers", "losses", "precision", "projections", "sharding", "solvers", "states",
        "training", "wrappers",
    )),
)  # fmt: skip


def test_an_import_takes_what_a_first_optimizer_needs_and_no_more():
    """Beside optax's it is measured by examples/benchmarks/import_time.py."""
    before = set(fresh("import sys, jax, jax.numpy; print(*sys.modules)").split())
    after = set(fresh("import sys, jaxopt_ko; jaxopt_ko.adam(0.1); print(*sys.modules)").split())
    new = after - before
    assert not {name for name in new if any(f"{name}.".startswith(f"{heavy}.") for heavy in HEAVY)}
    assert len({name for name in new if name.startswith("jaxopt_ko")}) < 120
    others = {name for name in new if not name.startswith("jaxopt_ko")}
    assert len(others) < 25, others


def test_the_table_of_late_names_is_as_the_rooms_have_it():
    spec = importlib.util.spec_from_file_location("late_names", ROOT / "docs" / "late_names.py")
    late_names = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(late_names)
    assert late_names.written() == late_names.FACE.read_text(encoding="utf-8"), "Run python docs/late_names.py"


def test_late_names_are_listed_imported_and_the_same_by_every_path():
    code = """
import sys
import jaxopt_ko as jo
assert "jaxopt_ko.solvers" not in sys.modules
assert {*jo.__all__, "solvers", "drivers"} <= set(dir(jo)) and "lbfgs" not in vars(jo)
import jaxopt_ko.debug, jaxopt_ko.solve
from jaxopt_ko.diagnose import hessian_trace
assert jaxopt_ko.debug is jo.debug is sys.modules["jaxopt_ko.analysis.debug"] is sys.modules["jaxopt_ko.debug"]
assert jo.debug.__spec__.name == "jaxopt_ko.analysis.debug" and jo.solve is jo.drivers is sys.modules["jaxopt_ko.solve"]
assert hessian_trace is jo.diagnose.hessian_trace and hessian_trace.__module__ == "jaxopt_ko.diagnose"
from jaxopt_ko import *
assert lbfgs is jo.lbfgs is vars(jo)["lbfgs"] and minimize is jo.solve.minimize
assert catalog is jo.catalog is sys.modules["jaxopt_ko.catalog"]
import importlib
importlib.reload(jo)
assert jo.lbfgs is lbfgs and sum(getattr(x, "package", None) == "jaxopt_ko" for x in sys.meta_path) == 1
"""
    fresh(code)


@pytest.mark.parametrize(
    "path",
    ["minimize", "LBFGSBState", "MultiSteps", "states.LBFGSBMemory", "states.FourBit", "debug.check_values"],
)
def test_late_classes_are_pickled_by_their_public_path_however_they_were_imported(path):
    room, _, name = path.rpartition(".")
    thing = getattr(getattr(jo, room) if room else jo, name)
    data = pickle.dumps(thing)
    home = sys.modules[thing.__module__]
    assert thing.__module__ == (f"jaxopt_ko.{room}" if room else "jaxopt_ko") and getattr(home, name) is thing
    assert fresh(f"import pickle; print(pickle.loads({data!r}).__qualname__)").strip() == thing.__qualname__
    own = {"states.LBFGSBMemory": "solvers.engine.compact_bfgs", "states.FourBit": "precision.packed"}.get(path)
    if own:
        said = fresh(f"from jaxopt_ko.{own} import {name}; print({name}.__module__)").strip()
        assert said == "jaxopt_ko.states"
