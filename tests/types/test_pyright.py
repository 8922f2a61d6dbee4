"""Pyright on a user's program and on the skeletons, and on the face: needs the `types` extra. mypy: test_house.py."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import jaxopt_ko as jo

pytest.importorskip("pyright")
ROOT = pathlib.Path(__file__).parents[2]


def pyright(*arguments):
    """Its report, by what pyproject.toml says of it."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", *arguments]
    # --verifytypes reads no --pythonpath: it asks the first python of PATH where packages are. Where that has no jax,
    # all of jax's types are unknown, which --ignoreexternal says nothing of but in aliases.
    env = os.environ | {"PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ.get("PATH", "")])}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return json.loads(done.stdout)


def test_programs_of_users_have_the_types_that_they_should():
    report = pyright()
    assert report["summary"]["filesAnalyzed"] >= 4
    assert not [f"{x['file']}:{x['range']['start']['line'] + 1}: {x['message']}" for x in report["generalDiagnostics"]]


def test_no_name_of_the_face_has_an_unknown_type():
    report = pyright("--verifytypes", "jaxopt_ko", "--ignoreexternal")["typeCompleteness"]
    symbols = {symbol["name"]: symbol for symbol in report["symbols"]}
    names = [f"jaxopt_ko.{name}" for name in jo.__all__]
    seen = [name for name in names if name in symbols]
    assert len(seen) > 450 and "jaxopt_ko.Hyper" in seen  # of jax.Array, among others
    assert not [name for name in seen if not (symbols[name]["isTypeKnown"] or symbols[name]["isTypeAmbiguous"])]
    classes = {name.partition(".")[2].partition(".")[0]: symbol for name, symbol in symbols.items()}
    assert classes.keys() >= {"adam", "minimize", "Solution"}
