"""What is said of arguments that many functions share: once, here, and put into their docstrings.

    python docs/arguments.py          writes what is missing, and what has changed, into the sources
    python docs/arguments.py --check  says which functions miss something, and changes nothing

A line in a docstring, `name: text`, is what is said of an argument; several of one kind may share it, `b1, b2: text`.
Where a function says something of its own, that stays. Lines that are written here are in the source, so that `help`,
an editor that never runs the code and the site all show them. To change one, keep its old text behind the new one.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

# room ("" for all) -> argument -> what is said of it: as it is now, then older texts that it replaces
SHARED: dict[str, dict[str, tuple[str, ...]]] = {
    "optimizers": {
        "learning_rate": ("length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.",),
        "b1": ("decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.",),
        "b2": (
            "decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.",
            "decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squares.",
        ),
        "eps": ("added to the root in the divisor, >= 0: it bounds the step where gradients vanish.",),
        "eps_root": ("added under the root, >= 0; above 0 where the step itself is differentiated.",),
        "mu_dtype": ("dtype of the first moment; None: the parameter's, float32 at least.",),
        "nu_dtype": ("dtype of the second moment; None: the parameter's, float32 at least.",),
        "weight_decay": (
            "lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.",
        ),
        "mask": ("which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.",),
        "weight_decay_mask": (
            "which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.",
        ),
        "nesterov": ("take the mean one gradient ahead, as Nesterov does.",),
        "bias_correction": ("divide means by the weight that they have gathered, as all start at 0.",),
        "stack_axes": ("how many leading axes count layers of one shape: an integer, or a tree of them.",),
        "weight_dimension_numbers": (
            "`MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.",
        ),
        "ns_coeffs": (
            "a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.",
        ),
        "ns_steps": ("how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.",),
        "preconditioning": (
            'how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".',
        ),
        "compute_dtype": ("dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.",),
        "gram": ("iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.",),
        "max_precondition_dim": ("an integer >= 1: a longer side has no factor, and is left in its own basis.",),
        "stack_sharding": ("where the stack of all matrices of a shape is computed; None: where they are.",),
    },
    "losses": {
        "predictions": ("what the model says, float[...]: real floating numbers of any shape.",),
        "targets": ("real numbers of the same shape, nothing is broadcast; None: 0.",),
        "logits": ("scores, before a sigmoid or softmax, float[...]: real floating numbers.",),
        "labels": ("int[...], the index of a class for each; one that is no class gives NaN.",),
        "scores": ("float[..., classes], one for each class along the last axis.",),
        "predictor_outputs": ("scores, float[...]: above 0 for the class 1, below for -1.",),
        "log_predictions": ("logarithms of the predicted probabilities, float[...], as jax.nn.log_softmax makes.",),
        "axis": ("the axis of the classes, or several that count as one; -1, the last; None: all.",),
        "where": ("bool[...], broadcast to the shape of the first: the elements that count; None: all.",),
        "logit_paddings": ("[B, T], 0 where there is a time and 1 where there is none, at the end.",),
        "label_paddings": ("[B, N], 0 where there is a label and 1 where there is none, at the end.",),
        "blank_id": ("which of the K classes is the blank, an integer.",),
        "log_epsilon": ("stands for the logarithm of 0; labels that do not fit into the time cost minus this.",),
    },
    "schedules": {
        "init_value": ("the value at step 0: a finite number, which may be traced.",),
        "end_value": ("the value from the end of the transition on: a finite number, which may be traced.",),
        "peak_value": ("the largest value, where the warmup ends: a finite number, which may be traced.",),
        "transition_steps": ("T, how many steps it takes, a static whole number; 0 or less: it stays at init_value.",),
        "transition_begin": ("B, the step where it begins, a static whole number; what is negative counts as 0.",),
        "warmup_steps": ("how many steps the warmup takes, a static whole number >= 0; 0: none.",),
        "exponent": ("power of the cosine, a finite number > 0, which may be traced; 1: the cosine itself.",),
        "staircase": ("round n down, so that the value falls in stairs.",),
        "boundaries_and_scales": ("{step: factor >= 0}, steps static and factors traced if need be; None: none.",),
        "pct_start": ("share of the steps until the peak, a static number in (0, 1); 0.3 as in optax.",),
        "div_factor": ("the peak over the first value, a finite number > 0, which may be traced; 25 as in optax.",),
    },
    "projections.py": {
        "tree": ("x, floating arrays in a tree; all leaves together count as one vector.",),
        "x": ("floating arrays in a tree; all leaves together count as one vector.",),
        "a": ("what is orthogonal to the plane, a tree like x; complex numbers count as pairs of real ones.",),
        "b": ("a number, which may be traced.",),
        "scale": ("radius of the ball, a number > 0, which may be traced.",),
    },
    "errors.py": {
        "argument": ("the name of the argument that the message is about.",),
    },
    "catalog": {
        "language": ('"en" or "ko".',),
    },
    "core": {
        "tree": ("a tree of arrays or numbers.",),
        "tree_x": ("x, a tree of arrays or numbers.",),
        "tree_y": ("y, a tree of the same structure, of shapes that broadcast.",),
        "scalar": ("s, a number or an array of shape (), which may be traced.",),
        "dtype": ("of all leaves; None: each leaf's own.",),
        "axis": ("along which axes, an integer or several; None: of all elements.",),
        "keepdims": ("keep these axes, with the length 1.",),
        "moments": ("m, a tree like updates.",),
        "decay": ("a number in [0, 1], which may be traced.",),
    },
    "transforms": {
        "mask": ("which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.",),
        "axis_name": ("within `jax.shard_map`, the axes that every leaf is cut along; see `global_norm`. None: none.",),
        "debias": ("divide by the weight that the mean has gathered, as it starts at 0.",),
    },
    "wrappers": {
        "inner": ("the transformation, ours or optax's.",),
        "should_transform_fn": ("a function of the number of the call, int32[] from 0, to bool[].",),
        "state_dtype": ("of z; None: float32 at least.",),
        "weight_lr_power": (">= 0: with 2 steps of a warm-up count little in the average.",),
        "l2_norm_clip": ("C, the largest norm of an example's gradient over all leaves, in its units, > 0.",),
    },
    "solvers": {
        "gtol": ("converged when max|g| <= gtol, >= 0; None: from the dtype and the gradients seen, see `descent`.",),
        "ftol": ("converged when f falls by no more than ftol |f|, >= 0; None: eps of the dtype, see `descent`.",),
        "memory_size": ("how many pairs (s, y) are kept, an int >= 1; 10, as more seldom save evaluations.",),
        "max_linesearch_steps": ("trials in one search, an int >= 1.",),
        "max_learning_rate": ("the longest stepsize, > 0; None: no bound.",),
        "verbose": ("print the searches that fail.",),
        "scaling": ("s, the step that the operator is of: a number or a traced scalar, >= 0.",),
    },
    "drivers": {
        "args": ("what the functions are given after the parameters: a tuple of trees, differentiated by.",),
        "tol": ("of the method, >= 0; None: its own, from the dtype.",),
        "max_steps": ("updates, an int >= 0, traced too; None: 10,000.",),
        "has_aux": ("does the function return a pair, what it is asked for and aux? The solution keeps aux.",),
        "bandwidth": (
            "how far apart, at most, two parameters are that meet in Q, or in a row of A or G; None: any distance.",
        ),
        "verbose": ("print a row for every update.",),
        "derivative": ('"implicit" by the equations that hold, "implicit-cg", or "unrolled", see `minimize`.',),
    },
    "": {
        "key": ("a PRNG key, typed or raw, or an integer seed.",),
        "name": ("who speaks, in error messages.",),
        "params": ("the parameters, a tree of floating arrays.",),
        "updates": ("the gradients, or what the transformation before made of them, a tree like params.",),
        "tx": ("a transformation, an (init, update) pair, ours or optax's.",),
        "axis_name": ("a mapped axis of jax.vmap or jax.shard_map to reduce over, or several; None: none.",),
    },
}
LINE = re.compile(r"^(\s*)([*]{0,2}\w+(?:, [*]{0,2}\w+)*): (.*)$")
LAST = re.compile(r"^\s*(Raises|Returns|State|Source|Not |>>>|Arguments? and errors)")
ROOT = Path(__file__).resolve().parent.parent


def public_functions() -> dict[Any, str]:
    """Every public function as it is called -> its name, "losses.huber_loss"; each under its first name."""
    import jaxopt_ko as jo  # noqa: PLC0415

    found: dict[Any, tuple[Any, str]] = {}
    for module in ("", *(name for name in jo.__all__ if inspect.ismodule(getattr(jo, name)))):
        room = jo if not module else getattr(jo, module)
        for name in getattr(room, "__all__", None) or dir(room):
            thing = getattr(room, name, None)
            home = f"jaxopt_ko.{module}" if module and not hasattr(room, "__all__") else "jaxopt_ko"
            ours = inspect.isfunction(thing) and f"{thing.__module__}.".startswith(f"{home}.")
            if ours and not name.startswith("_"):
                found.setdefault(inspect.unwrap(thing), (thing, f"{module}.{name}" if module else name))
    return dict(found.values())


def documented(doc: str | None) -> set[str]:
    """The arguments of which a docstring says something on a line of their own."""
    found = (LINE.match(line) for line in (doc or "").splitlines())
    return {name.strip("*") for line in found if line for name in line.group(2).split(", ")}


def missing(function: Any) -> list[str]:
    """The arguments of which its docstring says nothing."""
    said = documented(function.__doc__)
    return [name for name in inspect.signature(function).parameters if name not in said]


def shared(function: Any, name: str) -> tuple[str, ...]:
    """What is said of such an argument wherever it stands in this room."""
    room = Path(inspect.getsourcefile(inspect.unwrap(function)) or "").relative_to(ROOT / "jaxopt_ko").parts[0]
    return SHARED.get(room, {}).get(name, ()) or SHARED[""].get(name, ())


def completed(lines: list[str], order: list[str], said: dict[str, tuple[str, ...]], indent: str) -> list[str]:
    """The lines of a docstring with what is said of each argument, in the order of the signature."""
    made = list(lines)
    for name, texts in said.items():
        for i, line in enumerate(made):
            own = LINE.match(line)
            if own and own.group(2) == name and own.group(3) in texts[1:]:
                made[i] = f"{own.group(1)}{name}: {texts[0]}"
    for name in order:
        if name in documented("\n".join(made)) or name not in said:
            continue
        line = f"{indent}{name}: {said[name][0]}"
        places = {n: i for i, own in enumerate(made) if (own_ := LINE.match(own)) for n in own_.group(2).split(", ")}
        before = [places[n] for n in order[: order.index(name)] if n in places]
        after = [places[n] for n in order[order.index(name) :] if n in places]
        if before:
            at = max(before) + 1
            while at < len(made) - 1 and made[at].strip() and not LINE.match(made[at]) and not LAST.match(made[at]):
                at += 1
            made.insert(at, line)
        elif after:
            made.insert(min(after), line)
        else:
            at = next((i for i, own in enumerate(made) if i and LAST.match(own)), len(made) - 1)
            blank = [""] if at < len(made) - 1 else []
            made[at:at] = [line, ""] if made[at - 1].strip() == "" else ["", line, *blank]
    return made


def written() -> dict[Path, str]:
    """The sources with all that is shared; those that it changes nothing in are left out."""
    by_file: dict[Path, list[Any]] = defaultdict(list)
    for function in public_functions():
        by_file[Path(inspect.getsourcefile(inspect.unwrap(function)) or "")].append(function)
    made = {}
    for path, functions in by_file.items():
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        nodes = {node.lineno: node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
        starts = {node.decorator_list[0].lineno if node.decorator_list else n: node for n, node in nodes.items()}
        for function in sorted(functions, key=lambda f: -inspect.unwrap(f).__code__.co_firstlineno):
            node = starts.get(inspect.unwrap(function).__code__.co_firstlineno)
            doc = node.body[0] if node is not None else None
            if not (isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)):
                continue
            order = list(inspect.signature(function).parameters)
            said = {name: texts for name in order if (texts := shared(function, name))}
            begin, end = doc.lineno - 1, doc.end_lineno or doc.lineno
            part = lines[begin:end]
            if begin == end - 1:  # a docstring of one line is opened
                part = [part[0].rstrip()[:-3], " " * doc.col_offset + '"""']
            full = completed(part, order, said, " " * doc.col_offset)
            if full != part:
                lines[begin:end] = full
        text = "\n".join(lines) + "\n"
        if text != source:
            made[path] = text
    return made


if __name__ == "__main__":
    if "--check" in sys.argv:
        for function, name in public_functions().items():
            if names := missing(function):
                print(f"{name}: {', '.join(names)}")
    else:
        for path, text in written().items():
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
