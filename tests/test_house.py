"""The house keeps its order: floors, public names, a Case for each, types and style."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import jaxopt_ko as jo
from cases import CASES

PACKAGE = pathlib.Path(jo.__file__).parent
FLOORS = [  # a room, or a module of one that has floors of its own; what is lower is known to what is higher
    {"types", "core.tables"},
    {"errors"},
    {"core.naming", "core.rounding", "core.quantizable"},
    {"core.checks"},
    {"core.signature"},
    {"core.numerics", "core.tree_fields", "core.method"},
    {"core.placement"},
    {"core.leaves", "core.shared_programs"},
    {"core.left_out"},
    {"core.moments"},
    {"core.tree"},
    {"core.stacking", "core.hyperparameters", "core.evaluation"},
    {"core.transform", "core.leaf_rule"},
    {"core.leaf_function", "core.aligned_leaves"},
    {"core.leafwise"},
    {"core.treewise", "core.matrixwise"},
    {"linalg.equilibration", "linalg.ordering", "linalg.coloring", "linalg.dependence"},
    {"linalg.symbolic"},
    {"linalg.sparse_indefinite"},
    {"linalg.matrix_functions", "linalg.least_norm", "linalg.sparse_cholesky"},
    {"linalg.sparse"},
    {"linalg.iterative"},
    {"compose"},
    {"schedules.steps"},
    {"schedules.arguments", "schedules.ramps"},
    {"schedules", "projections", "tree_utils"},
    {"losses", "training.checks"},
    {"losses.top_level", "training.progress", "training.checkpoints", "training.stopping", "training.microbatching"},
    {
        "training.steps",
        "training.sweeps.space",
        "training.sweeps.rungs",
        "training.sweeps.table",
        "training.sweeps.store",
    },
    {"training.sweeps.trial", "training.rate_finder"},
    {"training.sweeps.lanes"},
    {"training.sweeps.run"},
    {"transforms", "training"},
    {"optimizers.matrix.axes", "optimizers.matrix.roles", "optimizers.matrix.rest"},
    {"optimizers.matrix"},
    {"optimizers"},
    {"optimizers.more"},
    {
        "solvers.problem.objective",
        "solvers.problem.bounds",
        "solvers.problem.robust_losses",
        "solvers.problem.sparsity",
    },
    {"solvers.problem"},
    {"solvers.engine.convergence", "solvers.engine.lsmr", "solvers.engine.compact_bfgs"},
    {
        "solvers.engine.line_search",
        "solvers.engine.damped",
        "solvers.engine.region_steps",
        "solvers.engine.residual_measures",
    },
    {"solvers.engine"},
    {"solvers.engine.sparse_fit", "solvers.engine.sparse_region"},
    {"solvers.quadratic.matrices"},
    {"solvers.quadratic.structure", "solvers.quadratic.sparse"},
    {"solvers.engine.primal_dual", "solvers.engine.sparse_kkt", "solvers.engine.damped_bfgs"},
    {"solvers.interior_point.derivatives"},
    {"solvers.interior_point.secant"},
    {"solvers.interior_point.rooms", "solvers.quadratic.program"},
    {"solvers.interior_point.variables", "solvers.quadratic.kkt"},
    {"solvers.interior_point.filter", "solvers.quadratic.variables"},
    {"solvers.interior_point.kkt", "solvers.interior_point.residuals"},
    {"solvers.interior_point.info", "solvers.quadratic.residuals"},
    {"solvers.quadratic.arrangement"},
    {"solvers"},
    {"wrappers.checks", "wrappers.levels"},
    {"wrappers"},
    {"precision.codecs", "precision.landing"},
    {"precision.packed", "precision.weights"},
    {"precision", "states"},
    {"drivers.compiled", "drivers.table", "drivers.reports"},
    {"drivers.implicit", "drivers.run"},
    {"drivers.patterns", "drivers.sparse_implicit"},
    {"drivers.pool", "drivers.minimize", "drivers.least_squares", "drivers.program_runs", "drivers.shares"},
    {"drivers.covariance"},
    {"drivers"},
    {"analysis.vectors", "analysis.tridiagonal"},
    {"analysis.lanczos"},
    {"analysis.curvature", "analysis.noise", "analysis.skips"},
    {"analysis.noise_tracking"},
    {"analysis"},
    {"catalog.entry", "contrib", "sharding.named"},
    {"sharding.saved"},
    {"sharding.restarts"},
    {"catalog.rows", "sharding"},
    {"catalog"},
    {"__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# siblings that others of their room stand on
PIECES = {"optimizers.adam", "losses.arrays"}


def floor_of(name):
    """That of the module, or of the innermost room that it is in."""
    while name not in FLOOR:
        assert "." in name, f"{name} has no floor"
        name = name.rpartition(".")[0]
    return FLOOR[name]


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.endswith("__init__"):
            yield name, path


def rooms():
    for path in sorted(PACKAGE.rglob("__init__.py")):
        yield ".".join(path.relative_to(PACKAGE).parent.parts), path


def imports(path):
    """The modules of this package that a file imports, or imports names from."""
    known = {name for name, _ in modules()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "jaxopt_ko":
            below = node.module.split(".")[1:]
            for alias in node.names:
                inner = ".".join([*below, alias.name])
                yield inner if inner in known else ".".join(below)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda x: x if isinstance(x, str) else "")
def test_imports_run_downward_only(name, path):
    for target in imports(path):
        assert target in PIECES or floor_of(target) < floor_of(name), f"{name} imports {target}"


def test_few_siblings_import_each_other():
    used = {target for name, path in modules() for target in imports(path) if floor_of(target) == floor_of(name)}
    assert used == PIECES and len(PIECES) <= 3


def test_runtime_imports_are_jax_and_chex_only():
    code = "import sys, jaxopt_ko; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"optax", "flax", "torch", "matplotlib", "tqdm", "sklearn", "equinox"} & set(loaded)


def test_what_the_oldest_jax_of_pyproject_lacks_is_not_used():
    """jax.jit(static_argnums=…) without a function came with jax 0.8.1, jax.enable_x64 with 0.8.0; everything else runs
    on 0.7.0, too."""
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "jax.jit":
                assert node.args, f"{path}:{node.lineno}"
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "jax.enable_x64"), path


def test_an_editable_install_is_a_path_that_type_checkers_follow():
    """Setuptools makes a hook of it, which mypy and pyright do not see, unless package-dir is this and no more."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["package-dir"] == {"": "."}
    assert PACKAGE.name in project["tool"]["setuptools"]["packages"]["find"]["include"][0]
    assert (PACKAGE / "py.typed").exists()


def public():
    return {name: getattr(jo, name) for name in jo.__all__}


def test_every_public_factory_has_a_case():
    covered = {case.factory for case in CASES}
    factories = {
        name
        for name, thing in public().items()
        if inspect.isfunction(thing) and "GradientTransformation" in str(inspect.signature(thing).return_annotation)
    }
    assert len(factories) > 30
    old = {"inject_stateful_hyperparams"}  # deprecated, it calls the newer one
    assert {name for name in factories - old if getattr(jo, name) not in covered} == set()


def test_public_names_are_sorted_unique_and_documented():
    names = list(jo.__all__)
    assert len(set(names)) == len(names)
    for name, thing in public().items():
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert inspect.getdoc(thing), name


def test_every_state_field_has_a_shape_and_a_meaning():
    for _, path in modules():
        source = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(source))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("State"):
                for field in node.body:
                    if isinstance(field, ast.AnnAssign):
                        assert "#" in source[field.lineno - 1], f"{path.name}: {node.name}.{field.target.id}"


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_style_and_types(command):
    root = PACKAGE.parent
    if not (root / "pyproject.toml").exists():
        pytest.skip("the package is installed without its repository")
    paths = [] if command == ["mypy"] else ["jaxopt_ko", "tests", "examples", "docs"]
    done = subprocess.run(
        [sys.executable, "-m", *command, *paths], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_import_one_by_one():
    for name, _ in modules():
        importlib.import_module(f"jaxopt_ko.{name}")


def test_every_exception_has_the_one_form_of_a_message():
    """`errors.say` and `errors.say_of_part` raise for all; beside them an exception that is under way is raised
    again."""
    may = {("errors", "say"), ("errors", "say_of_part")}
    for name, path in [*modules(), *rooms()]:
        for top in ast.parse(path.read_text(encoding="utf-8")).body:
            raises = [node for node in ast.walk(top) if isinstance(node, ast.Raise) and node.exc is not None]
            asserts = [node for node in ast.walk(top) if isinstance(node, ast.Assert)]
            owner = getattr(top, "name", "")
            assert (name, owner) in may or not raises, f"{path}:{raises[0].lineno}"
            assert not asserts, f"{path}:{asserts[0].lineno}"


def test_every_decay_that_is_debiased_is_declared():
    """Or its schedule would be taken for the constant that it is at a step."""
    for name, path in modules():
        source = path.read_text(encoding="utf-8")
        used = set(re.findall(r'\.gathered(?:_next|_before)?\("(\w+)"', source))
        if "shared=adam_corrections" in source or "adam_corrections(t, h)" in source:
            used |= {"b1", "b2"}
        if "def adam_corrections(" in source:  # it reads the decays of those who call it
            continue
        declared = set(re.findall(r'"(\w+)"', " ".join(re.findall(r"debiased=([^\n]*)", source))))
        assert used <= declared, name


def deprecations():
    """(where, the version that it names or None) of every call that says that a name is old."""
    for _, path in [*modules(), *rooms()]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            function = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
            if function in ("deprecated", "renamed"):
                place = 2 if function == "deprecated" else 0
                since = node.args[place] if len(node.args) > place else None
                passed_on = isinstance(since, ast.Attribute) and since.attr == "renamed_since"
                yield f"{path.name}:{node.lineno}", "0.0.0" if passed_on else getattr(since, "value", None)


def test_every_deprecation_says_since_which_version():
    found = dict(deprecations())
    assert len(found) > 15
    for where, since in found.items():
        assert since is not None and re.fullmatch(r"\d+\.\d+\.\d+", since), where


def test_a_deprecation_says_what_to_write_since_when_and_when_it_goes():
    with pytest.warns(DeprecationWarning) as seen:
        jo.errors.deprecated("f(old=…)", "new", "1.9.3")
        jo.errors.deprecated("g", "h", "0.1.0", jo.errors.WITH_OPTAX)
    assert [str(w.message) for w in seen] == [
        "f(old=…) is deprecated since 1.9.3: use `new` instead. It goes in 1.10.0 at the earliest.",
        "g is deprecated since 0.1.0: use `h` instead. It goes when optax's does.",
    ]
    assert all(w.filename == __file__ for w in seen)


def lines_of(node):
    """How many a function or a module has without docstrings."""
    inner = [x for x in ast.walk(node) if isinstance(x, ast.FunctionDef | ast.ClassDef | ast.Module)]
    said = sum(x.body[0].end_lineno - x.body[0].lineno + 1 for x in inner if ast.get_docstring(x))
    first = getattr(node, "lineno", 1)
    return max((x.end_lineno for x in ast.walk(node) if hasattr(x, "end_lineno")), default=first) - first + 1 - said


def test_pages_and_functions_are_short():
    for name, path in modules():
        page = ast.parse(path.read_text(encoding="utf-8"))
        assert lines_of(page) <= 450 or name == "catalog.rows", name  # which is data
        for node in ast.walk(page):
            assert not isinstance(node, ast.FunctionDef) or lines_of(node) <= 80, (name, node.name)


# what was asked for, a page each: methods of a file, of which each may have 60 lines
ASKED_FOR = {
    "adabound": 1, "adam_mini": 1, "adamp": 2, "aggmo": 1, "came": 1, "conda": 1, "dadaptation": 3, "fira": 1,
    "ftrl": 1, "grams": 1, "laprop": 1, "quasi_hyperbolic": 2, "schedule_free_plus": 1, "spam": 2, "stable_adamw": 1,
    "tam": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED_FOR)
def test_methods_asked_for_are_a_page_each(name):
    """Beside imports, docstrings, blank lines and lists of arguments."""
    source = (PACKAGE / f"optimizers/more/{name}.py").read_text(encoding="utf-8")
    page = [x for x in ast.parse(source).body if isinstance(x, ast.FunctionDef | ast.ClassDef)]
    kept = {i for x in page for i in range(x.lineno, x.end_lineno + 1)}
    for x in (y for top in page for y in ast.walk(top) if isinstance(y, ast.FunctionDef | ast.ClassDef)):
        if ast.get_docstring(x):
            kept -= set(range(x.body[0].lineno, x.body[0].end_lineno + 1))
        if x in page and isinstance(x, ast.FunctionDef):
            kept -= set(range(x.lineno, x.body[0].lineno))
    lines = source.splitlines()
    assert sum(bool(lines[i - 1].strip()) for i in kept) <= 60 * ASKED_FOR[name]
