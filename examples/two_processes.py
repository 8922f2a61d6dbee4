"""Two processes train one language model; one of them dies, and both resume: `python examples/two_processes.py`.

Two real processes of four devices each, on this machine, as two machines would be: `jax.distributed` brings them
together at 127.0.0.1, gloo carries what their devices exchange. They train data-parallel with ZeRO-1, the program is
that of `sharded.py`. Each optimizer comes to what one process of eight devices comes to. Then process 1 dies of SIGKILL
in mid-run; the other, which waits for it in vain, is ended; both are started again, resume from the last checkpoint,
and end where the run ends that nothing interrupted. The program ends with an error if not. A minute on two CPU cores.

All is in double precision: sums over devices are in another order in two processes than in one, and Shampoo's roots
make of the rounding errors of float32 another run.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np
from characters import roles
from sharded import begin, mesh_of, muon, restore, save, text, train

import jaxopt_ko as jo

STEPS, EVERY, DEATH = 12, 4, 10  # of a run; from one checkpoint to the next; the one at which process 1 dies
DEVICES = 8
GRACE = 5  # seconds for a process whose partner is dead


def shampoo():
    hidden = jo.shampoo(0.02, stack_axes=1, precondition_frequency=4)
    return jo.partition({"hidden": hidden, "rest": jo.adamw(4e-3, b2=0.99)}, roles)


METHODS = {
    "adamw": lambda: jo.adamw(4e-3, b2=0.99),
    "muon": muon,
    "shampoo": shampoo,
    "multi_steps": lambda: jo.MultiSteps(jo.adamw(4e-3, b2=0.99), every_k_schedule=3),
}


# ---- in each process ----------------------------------------------------------------------------------------


def work(args):
    """One process: alone on eight devices, or one of two that have four each."""
    threading.Thread(target=ends_with_its_parent, daemon=True).start()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", DEVICES // args.processes)
    if args.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{args.port}", args.processes, args.worker)
    data, mesh = text()[:200_000], mesh_of(jax.devices())
    for name in args.methods:
        tx = METHODS[name]()
        # With its state cut, Shampoo's roots are found in conditionals with collectives in them, which XLA on CPU may
        # begin in another order on each device: then all wait for ever.
        begun = begin(tx, mesh, zero=None if name == "shampoo" else "data")
        params, _, losses = train(tx, *begun, data, mesh, range(STEPS))
        keep(args.folder / f"{name}.{args.processes}", params, losses)
    if args.checkpoints is None:
        return

    def after(i, params, state):
        if (i + 1) % EVERY == 0:
            save(args.checkpoints / str(i + 1), tx, params, state)
        if i + 1 == DEATH and args.dies and args.worker == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    tx = METHODS[args.resumed]()
    first = max((int(path.name) for path in args.checkpoints.iterdir() if path.name.isdecimal()), default=0)
    begun = restore(args.checkpoints / str(first), tx, mesh) if first else begin(tx, mesh)
    params, _, losses = train(tx, *begun, data, mesh, range(first, STEPS), after)
    keep(args.folder / f"{args.resumed}.resumed", params, losses)


def keep(path, params, losses):
    """Of what all processes have the first writes down."""
    if jax.process_index() == 0:
        np.savez(path, *map(np.asarray, jax.tree.leaves(params)), losses=losses)


def ends_with_its_parent():
    """Nothing is ever written to this pipe: it ends when the parent does, however that comes about."""
    sys.stdin.read()
    os._exit(1)


# ---- the parent ---------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Processes:
    """Of this program, side by side; none is left when the `with` ends."""

    def __init__(self, count, folder, *options):
        flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
        # Host devices that all factorize at a time, and each with threads of its own, wait for each other for minutes.
        env = {**os.environ, "XLA_FLAGS": flags, "OPENBLAS_NUM_THREADS": "1"}
        common = ["--processes", count, "--port", free_port(), "--folder", folder, *options]
        self.all = []
        for i in range(count):
            command = map(str, [sys.executable, *(f"-W{x}" for x in sys.warnoptions), __file__, "--worker", i, *common])
            with (folder / f"log.{i}").open("ab") as log:
                one = subprocess.Popen(list(command), env=env, stdin=subprocess.PIPE, stdout=log, stderr=log)
            print(f"process {i} of {count}: pid {one.pid}", flush=True)
            self.all.append(one)
        self.folder = folder

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in self.all:
            one.kill()
            one.wait()
            one.stdin.close()

    def codes(self, limit):
        """Of all, when they have ended; once one has failed the others are given GRACE seconds, and then ended."""
        end = time.monotonic() + limit
        while None in [one.poll() for one in self.all] and time.monotonic() < end:
            if any(one.returncode for one in self.all):
                end = min(end, time.monotonic() + GRACE)
            time.sleep(0.05)
        for one in self.all:
            one.kill()
        return [one.wait() for one in self.all]

    def succeed(self, limit=300):
        codes = self.codes(limit)
        if any(codes):
            logs = "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self.folder.glob("log.*")))
            raise SystemExit(f"exit codes {codes}\n{logs}")


def away(folder, one, other, last=STEPS):
    """The largest difference of two runs: of any parameter, and of the last losses."""
    with np.load(folder / f"{one}.npz") as a, np.load(folder / f"{other}.npz") as b:
        losses = np.abs(a["losses"][-last:] - b["losses"][-last:]).max()
        params = max(np.abs(a[key] - b[key]).max() for key in a.files if key != "losses")
    return float(params), float(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--resumed", choices=list(METHODS), default="muon", help="one of them (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for what the processes write (default: a temporary one)")
    for name, kind in {"worker": int, "processes": int, "port": int, "checkpoints": Path}.items():
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--dies", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        work(args)
        return
    with tempfile.TemporaryDirectory() as made:
        compare((args.folder or Path(made)).resolve(), args)


def compare(folder, args):
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    args.methods = list(dict.fromkeys([*args.methods, args.resumed]))
    resuming = ["--resumed", args.resumed, "--checkpoints", checkpoints]
    with Processes(1, folder, "--methods", *args.methods) as alone:
        alone.succeed()
    with Processes(2, folder, "--methods", *args.methods, *resuming, "--dies") as both:
        codes = both.codes(300)
    if codes[1] != -signal.SIGKILL or codes[0] == 0:
        raise SystemExit(f"exit codes {codes}: process 1 was to die\n{(folder / 'log.1').read_text()[-3000:]}")
    kept = sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal())
    print(f"Process 1 died at step {DEATH}, process 0 ended with it; checkpoints of steps {kept}.")
    with Processes(2, folder, "--methods", *resuming) as again:
        again.succeed()

    for name in args.methods:
        params, losses = away(folder, f"{name}.2", f"{name}.1")
        print(f"{name}: two processes and one differ by {params:.1e} in the parameters, {losses:.1e} in the losses")
        assert params <= 1e-6, f"{name}: two processes are another run"
    params, losses = away(folder, f"{args.resumed}.resumed", f"{args.resumed}.2", STEPS - kept[-1])
    print(f"{args.resumed}, resumed: differs from the uninterrupted run by {params:.1e} and {losses:.1e}")
    assert params <= 1e-6, "the resumed run is another one"


if __name__ == "__main__":
    main()
