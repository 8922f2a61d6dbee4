"""What `help` says: every argument of every public function, and examples that run."""

import doctest
import importlib.util
import inspect
import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest

import jaxopt_ko as jo

PACKAGE = pathlib.Path(jo.__file__).parent
PATH = PACKAGE.parent / "docs" / "arguments.py"
SPEC = importlib.util.spec_from_file_location("arguments", PATH)
arguments = importlib.util.module_from_spec(SPEC)
sys.modules["arguments"] = arguments
SPEC.loader.exec_module(arguments)
FUNCTIONS = {name: function for function, name in arguments.public_functions().items()}
PARSER, EXAMPLES = doctest.DocTestParser(), {}
for name, function in FUNCTIONS.items():
    found = PARSER.get_examples(inspect.getdoc(function) or "")
    if found:
        EXAMPLES[name] = found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_documented(name):
    assert not arguments.missing(FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_example(name):
    assert name in EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name):
    names = {"jo": jo, "jax": jax, "jnp": jnp}
    test = doctest.DocTest(EXAMPLES[name], names, name, None, None, None)
    lines = []
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as a reader has them
        result = doctest.DocTestRunner(optionflags=options).run(test, out=lines.append)
    assert not result.failed, "".join(lines)


def test_what_is_shared_is_written_into_the_sources():
    changed = [str(path.relative_to(PACKAGE)) for path in arguments.written()]
    assert not changed, f"Run python docs/arguments.py: {', '.join(changed)}"


def test_an_argument_that_is_not_documented_is_seen():
    def function(first, second, *rest, third=0):
        """One sentence.

        first, rest: of one kind.
        """

    assert arguments.missing(function) == ["second", "third"]
    lines = ['    """One sentence.', "", "    first, rest: of one kind.", '    """']
    said = {"second": ("now", "once"), "third": ("later",)}
    made = arguments.completed(lines, ["first", "second", "rest", "third"], said, "    ")
    assert made[2:5] == ["    first, rest: of one kind.", "    second: now", "    third: later"]
    again = arguments.completed(made, ["first", "second", "rest", "third"], {"second": ("new", "now")}, "    ")
    assert "    second: new" in again and "    second: now" not in again
