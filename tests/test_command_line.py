"""python -m jaxopt_ko: the catalogue, the doctor, the explorer."""

import json
import subprocess
import sys

import jax
import pytest

import jaxopt_ko as jo
from jaxopt_ko import __main__ as shell


def run(capsys, *words):
    """What main says of these words: (status, what is printed, what is said of errors)."""
    status = shell.main(words)
    return status, *capsys.readouterr()


def test_it_runs_as_a_module():
    command = [sys.executable, "-W", "error", "-m", "jaxopt_ko"]
    done = subprocess.run([*command, "catalog", "adam"], capture_output=True, text=True, check=True)
    assert done.stdout == jo.catalog.page("adam") + "\n"
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"jaxopt_ko {jo.__version__}\n"


def test_without_a_command_it_says_what_there_is(capsys):
    status, said, _ = run(capsys)
    assert status == 0 and {"catalog", "doctor", "explore"} <= set(said.split())


@pytest.mark.parametrize("language", jo.catalog.LANGUAGES)
def test_the_catalogue_has_a_line_for_every_method(capsys, language):
    status, said, _ = run(capsys, "catalog", "--language", language)
    assert status == 0 and said.splitlines()[2:] == str(jo.catalog.catalog(language)).splitlines()[2:]
    assert len(said.splitlines()) == len(jo.catalog.ROWS) + 2
    status, said, _ = run(capsys, "catalog", "--language", language, "--columns", "name", "equation")
    assert len(said.splitlines()[0].split()) == 2


def test_a_method_that_is_not_there_is_answered_with_the_one_that_was_meant(capsys):
    status, said, wrong = run(capsys, "catalog", "adm")
    assert status == 2 and not said
    assert wrong.startswith("There is no method 'adm' in the catalogue. Did you mean adam? ")


def test_a_word_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        shell.main(["catalog", "--language", "fr"])
    assert ended.value.code == 2 and "choose from" in capsys.readouterr().err


def test_the_doctor_says_what_a_bug_report_needs(capsys):
    status, said, _ = run(capsys, "doctor")
    assert status == 0 and "jax_default_matmul_precision" in said and "as it should be" in said
    status, said, _ = run(capsys, "doctor", "--json")
    found = json.loads(said)
    assert found["versions"]["jax"] == jax.__version__ and found["versions"]["python"].startswith("3.")
    assert found["flags"]["jax_enable_x64"] is False and found["flags"]["jax_numpy_rank_promotion"] == "raise"
    assert found["devices"]["cpu (cpu)"] == jax.device_count()
    assert "optax" in found["optional"]


def test_the_doctor_reports_what_fails(capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError("Unable to initialize\nbackend 'cuda'")

    monkeypatch.setattr(jax, "devices", fails)
    monkeypatch.setattr(jo, "adam", fails)
    monkeypatch.setattr(shell, "OPTIONAL", ("no-such-package",))
    status, said, _ = run(capsys, "doctor")
    assert status == 1 and "none  Unable to initialize backend 'cuda'" in said
    assert "RuntimeError: Unable to initialize" in said and "not installed  no-such-package" in said


def test_the_explorer_is_the_repositorys(capsys, monkeypatch, tmp_path):
    made = tmp_path / "explore.html"
    writes = tmp_path / "explore.py"
    writes.write_text("import pathlib, sys; pathlib.Path(sys.argv[2]).write_text('page')")
    assert shell.EXPLORER.exists() and "--out" in shell.EXPLORER.read_text(encoding="utf-8")
    monkeypatch.setattr(shell, "EXPLORER", writes)
    status, said, _ = run(capsys, "explore", "--out", str(made))
    assert status == 0 and made.read_text() == "page" and made.as_uri() in said
    monkeypatch.setattr(shell, "EXPLORER", tmp_path / "nowhere.py")
    status, _, wrong = run(capsys, "explore")
    assert status == 2 and "examples/explore.py" in wrong


def test_the_benchmark_is_the_repositorys(capsys, monkeypatch, tmp_path):
    assert (shell.SUITE / "__main__.py").exists()
    (tmp_path / "__main__.py").write_text(
        "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text(' '.join(sys.argv))"
    )
    monkeypatch.setattr(shell, "SUITE", tmp_path)
    status, _, _ = run(capsys, "bench", "--out", str(tmp_path / "x"), "--tasks", "a", "b", "--help")
    assert status == 0 and (tmp_path / "x").read_text().endswith("x --tasks a b --help")
    monkeypatch.setattr(shell, "SUITE", tmp_path / "nowhere")
    status, _, wrong = run(capsys, "bench")
    assert status == 2 and "examples/benchmarks/suite" in wrong
