"""Where a run is saved, and how: by orbax, in the background, each checkpoint whole or not there at all."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.errors import HyperparameterError, StateError, describe, say
from jaxopt_ko.training.checks import check_whole
from jaxopt_ko.types import PyTree


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where and how often `fit` saves a run: after every so many epochs, and the last `keep` of them are kept.

    directory: made if it is not there; one run has it for itself. A checkpoint has the parameters and the optimizer's
    state by the paths of their leaves, the history and the key: `load_state` reads its "state" into another optimizer.

    loop.fit(…, checkpoint=Checkpoints("runs/1", every=5))
    """

    directory: str | os.PathLike[str]
    every: int = 1  # epochs
    keep: int = 2  # checkpoints

    def __post_init__(self) -> None:
        if not isinstance(self.directory, str | os.PathLike) or not os.fspath(self.directory):
            say(HyperparameterError, "Checkpoints", "directory must be the path of a folder", describe(self.directory),
                'Give one: Checkpoints("runs/1")')  # fmt: skip
        check_whole("Checkpoints", "every", self.every, 1)
        check_whole("Checkpoints", "keep", self.keep, 1)


def as_checkpoints(name: str, given: Any) -> Checkpoints:
    """Where a run is saved: a folder with the defaults of `Checkpoints`, or what was given.

    name: who speaks, in error messages.
    given: a `Checkpoints`, or the path of a folder.

    Returns a `Checkpoints`. Raises HyperparameterError for anything else. A part of `fit`; not for other programs.

    >>> jo.loop.as_checkpoints("fit", "runs/1").keep
    2
    """
    if isinstance(given, Checkpoints):
        return given
    if isinstance(given, str | os.PathLike) and os.fspath(given):
        return Checkpoints(given)
    say(HyperparameterError, name, "checkpoint must be a folder or a Checkpoints", describe(given),
        'Give one: checkpoint="runs/1", or loop.Checkpoints("runs/1", every=5)')  # fmt: skip


Done = tuple[int, Any, list[PyTree]]  # epochs done, what one epoch hands to the next, what each epoch returned


class Store:
    """The checkpoints of one run: a context, which ends when all is written."""

    def __init__(self, name: str, where: Checkpoints) -> None:
        self.name, self.where = name, where
        self.folder = Path(where.directory).absolute()
        try:
            self.orbax: Any = importlib.import_module("orbax.checkpoint")
        except ImportError:
            say(ImportError, name, "orbax writes the checkpoints, and it is not installed", None,
                'Run pip install "jaxopt_ko[checkpoints]"')  # fmt: skip
        options = self.orbax.CheckpointManagerOptions(max_to_keep=where.keep, cleanup_tmp_directories=True)
        handler = self.orbax.PyTreeCheckpointHandler()
        with self._reported("opened"):
            self.manager = self.orbax.CheckpointManager(self.folder, options=options, item_handlers=handler)
        self.last = max(self.manager.all_steps(), default=0)  # epochs that are saved

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._reported(f"written after epoch {self.last}"):
                self.manager.wait_until_finished()
                self.manager.check_for_errors()
        except OSError:
            if kind is None:
                raise
        finally:
            with contextlib.suppress(Exception):  # it raises the same once more
                self.manager.close()

    def save(self, done: int, run: PyTree, thread: PyTree, results: list[PyTree]) -> None:
        """Begin to write what the first `done` epochs have made; it is copied before this returns."""
        if done == self.last or not done:
            return
        with self._reported(f"written after epoch {self.last}"):
            self.manager.wait_until_finished()
        history = jax.tree.map(lambda *row: np.stack(row), *results)
        tree = {key: _named(part) for key, part in (("run", run), *_parts(thread), ("history", history))}
        args = self.orbax.args.PyTreeSave({key: part for key, part in tree.items() if part})
        with self._reported(f"written after epoch {done}"):
            if done in self.manager.all_steps():  # it could not be read
                self.manager.delete(done)
            self.manager.save(done, args=args, force=True)
        self.last = done

    def latest(self, run: PyTree, start: Any, blank: PyTree) -> Done:
        """The last checkpoint that can be read; (0, start, []) if there is none."""
        problems = []
        for done in sorted(self.manager.all_steps(), reverse=True):
            try:
                found = self._read(done)
            except Exception as error:  # orbax raises many kinds
                problems.append(f"epoch {done}: {type(error).__name__}: {error}")
                logging.getLogger("jaxopt_ko").warning("%s: no whole checkpoint of epoch %d", self.name, done)
                continue
            self.last = done
            return self._filled(done, found, run, start, blank)
        if problems:
            say(StateError, self.name, f"no checkpoint in {self.folder} can be read", "; ".join(problems)[:1000],
                "Give another folder, or remove this one to begin anew")  # fmt: skip
        return 0, start, []

    def _read(self, done: int) -> Any:
        known = self.manager.item_metadata(done)
        known = getattr(known, "tree", known)
        leaf = lambda x: hasattr(x, "shape")  # noqa: E731
        args = jax.tree.map(lambda _: self.orbax.RestoreArgs(restore_type=np.ndarray), known, is_leaf=leaf)
        return self.manager.restore(done, args=self.orbax.args.PyTreeRestore(restore_args=args))

    def _filled(self, done: int, found: Any, run: PyTree, start: Any, blank: PyTree) -> Done:
        self._same_run(found.get("run", {}), _named(run))
        parts = {key: self._like(key, part, found.get(key, {})) for key, part in _parts(start)}
        rows = jax.tree.map(lambda x: x.update(shape=(done, *x.shape)), blank)
        history = self._like("history", rows, found.get("history", {}))
        results = [jax.tree.map(lambda x, i=i: np.asarray(x[i]), history) for i in range(done)]
        train = start.train._replace(params=parts["params"], state=parts["state"])
        return done, type(start)(train, *parts["rest"]), results

    def _same_run(self, found: Any, run: dict[str, Any]) -> None:
        for name in sorted({*found, *run}):
            if name not in found or name not in run or not np.array_equal(found[name], run[name]):
                say(StateError, self.name, f"{name} must be that of the run in {self.folder}",
                    f"{run.get(name)}, and there {found.get(name)}",
                    "Give what it was begun with, or another folder")  # fmt: skip

    def _like(self, key: str, like: PyTree, found: Any) -> PyTree:
        """Saved leaves in the structure, dtypes and places of `like`."""
        names, (leaves, treedef) = _paths(like), jax.tree.flatten(like)
        made = []
        for name, leaf in zip(names, leaves, strict=True):
            shape, dtype = _kept(leaf).shape, _kept(leaf).dtype
            value = found.get(name) if np.prod(shape) else np.zeros(shape, dtype)
            if value is None or value.shape != shape or value.dtype != dtype:
                got = "nothing" if value is None else describe(value)
                say(StateError, self.name, f"the leaf {name!r} of {key} must be as it is in {self.folder}",
                    f"{describe(leaf)}, and there {got}",
                    "Give the model, the optimizer and the batches of that run, or another folder")  # fmt: skip
            made.append(_placed(value, leaf))
        extra = sorted(set(found) - set(names))
        if extra:
            what = f"the leaf {extra[0]!r} of {key} in {self.folder} has no place in this run"
            say(StateError, self.name, what, None,
                "Give the model, the optimizer and the batches of that run, or another folder")  # fmt: skip
        return jax.tree.unflatten(treedef, made)

    @contextlib.contextmanager
    def _reported(self, what: str) -> Any:
        """Errors of orbax in the one form."""
        try:
            yield
        except Exception as error:
            good = [step for step in self._steps() if f"epoch {step}" not in what]
            kept = f"the last good one is of epoch {max(good)}" if good else "there is none before it"
            say(OSError, self.name, f"the checkpoint in {self.folder} could not be {what}; {kept}",
                f"{type(error).__name__}: {str(error)[:500]}",
                "Make room or choose another folder; the same call goes on from the last good one")  # fmt: skip

    def _steps(self) -> list[int]:
        """Those that are whole, as the folder has them."""
        with contextlib.suppress(OSError):
            return [int(entry.name) for entry in self.folder.iterdir() if entry.name.isdigit()]
        return []


def _parts(thread: Any) -> list[tuple[str, PyTree]]:
    train, *rest = thread
    return [("params", train.params), ("state", train.state), ("rest", rest)]


def _paths(tree: PyTree) -> list[str]:
    """Of its leaves: "layers/0/kernel"; told apart where two are spelled alike."""
    seen: dict[str, int] = {}
    names = []
    for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(tuple(path), simple=True, separator="/") or "value"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return names


def _named(tree: PyTree) -> dict[str, Any]:
    """Leaves by name, as orbax takes them: arrays, none of them empty."""
    kept = [_kept(leaf) for leaf in jax.tree.leaves(tree)]
    return {name: leaf for name, leaf in zip(_paths(tree), kept, strict=True) if np.prod(leaf.shape)}


def _kept(leaf: Any) -> Any:
    """A PRNG key is the numbers in it."""
    if not hasattr(leaf, "dtype"):
        return np.asarray(jnp.asarray(leaf))
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return (
        jax.eval_shape(jax.random.key_data, leaf)
        if isinstance(leaf, jax.ShapeDtypeStruct)
        else jax.random.key_data(leaf)
    )


def _placed(value: Any, like: Any) -> Any:
    if isinstance(like, jax.ShapeDtypeStruct):
        return value
    if hasattr(like, "dtype") and jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(like))
    return jax.device_put(value, like.sharding) if isinstance(like, jax.Array) else jnp.asarray(value)
