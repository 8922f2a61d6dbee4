"""What is kept of a sweep: after each chunk its lanes and the books of all, by orbax, whole or not there at all."""

from __future__ import annotations

import contextlib
import json
import logging
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from jaxopt_ko.errors import StateError, say
from jaxopt_ko.training.checkpoints import Checkpoints, Store, as_checkpoints

Books = dict[str, np.ndarray]  # what became of all lanes


class Kept(NamedTuple):
    """Lanes as they were written after a block."""

    lanes: np.ndarray  # int[C]
    leaves: list[np.ndarray]  # [C, ...]: the carry, and which leaves are watched


class SweepStore(Store):
    """The folder of one sweep: a number for each chunk that was trained, of which those are kept that are needed."""

    def __init__(self, where: str | PathLike[str], sweep: dict[str, Any], shapes: list[Any]) -> None:
        folder = as_checkpoints("sweep", where).directory
        super().__init__("sweep", Checkpoints(folder, keep=1_000_000))  # which ones go is said here
        self.sweep, self.shapes = sweep, shapes
        self.held: dict[int, set[int]] = {}  # number -> the lanes whose newest carry is there

    def keep(self, books: Books, kept: Kept | None) -> None:
        """Write the books, and the lanes that were trained; when this returns they are on the disk."""
        number = self.last + 1
        tree: dict[str, Any] = {"sweep": _text(self.sweep), "books": books}
        if kept is not None and len(kept.lanes):
            leaves = {str(i): leaf for i, leaf in enumerate(kept.leaves) if leaf.size}
            tree |= {"lanes": kept.lanes, "leaves": leaves}
        with self._reported(f"written as number {number}"):
            self.manager.save(number, args=self.orbax.args.PyTreeSave(tree), force=True)
            self.manager.wait_until_finished()
        new, running = set() if kept is None else set(kept.lanes.tolist()), books["running"]
        old = {n: {lane for lane in lanes - new if running[lane]} for n, lanes in self.held.items()}
        self.last, self.held = number, {number: new, **{n: lanes for n, lanes in old.items() if lanes}}
        for n in self.manager.all_steps():
            if n not in self.held:
                self.manager.delete(n)

    def found(self) -> tuple[Books | None, list[Kept]]:
        """The newest books, and the lanes that are running as they were written last."""
        books, parts, seen = None, [], set()
        problems: list[str] = []
        for number in sorted(self.manager.all_steps(), reverse=True):
            try:
                tree = self._read(number)
            except Exception as error:  # killed while it was removed, say; orbax raises many kinds
                logging.getLogger("jaxopt_ko").warning("sweep: number %d in %s is not whole", number, self.folder)
                problems.append(f"{number}: {type(error).__name__}: {error}")
                continue
            self._check(tree)
            books = tree["books"] if books is None else books
            lanes = np.asarray(tree.get("lanes", np.zeros(0, int)))
            rows = [i for i, lane in enumerate(lanes) if lane not in seen and books["running"][lane]]
            self.held[number] = {int(lanes[i]) for i in rows}
            seen.update(self.held[number])
            if rows:
                leaves = [
                    np.asarray(tree["leaves"][str(i)])[rows] if str(i) in tree["leaves"] else np.zeros(
                        (len(rows), *shape.shape), shape.dtype)
                    for i, shape in enumerate(self.shapes)
                ]  # fmt: skip
                parts.append(Kept(lanes[rows], leaves))
        if problems and books is None:
            say(StateError, "sweep", f"nothing in {self.folder} can be read", "; ".join(problems)[:1000],
                "Give another folder, or remove this one to begin anew")  # fmt: skip
        return books, parts

    def _check(self, tree: Any) -> None:
        there = json.loads(bytes(np.asarray(tree["sweep"])).decode())
        for name, value in self.sweep.items():
            if there.get(name) != value:
                say(StateError, "sweep", f"{name} must be that of the sweep in {self.folder}",
                    f"{_short(value)}, and there {_short(there.get(name))}",
                    "Give what it was begun with, or another folder")  # fmt: skip

    @contextlib.contextmanager
    def _reported(self, what: str) -> Any:
        """Errors of orbax in the one form."""
        try:
            yield
        except Exception as error:
            say(OSError, "sweep", f"the checkpoint in {self.folder} could not be {what}",
                f"{type(error).__name__}: {str(error)[:500]}",
                "Make room or choose another folder; the same call goes on from the last whole chunk")  # fmt: skip


def _text(sweep: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(json.dumps(sweep).encode(), np.uint8)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:150]} ... {text[-40:]}"
