"""What the documents for contributors say is so: CONTRIBUTING.md, CHANGELOG.md, .git-blame-ignore-revs."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_commits_that_git_blame_is_to_pass_over_are_in_the_history():
    """One that is not there makes git blame fail."""
    lines = (ROOT / ".git-blame-ignore-revs").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    assert listed and all(re.fullmatch("[0-9a-f]{40}", line) for line in listed)
    try:
        shallow = git("rev-parse", "--is-shallow-repository")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git, or no repository")
    if shallow == "true":
        pytest.skip("a shallow clone has not the whole history")
    for commit in listed:
        git("merge-base", "--is-ancestor", commit, "HEAD")
