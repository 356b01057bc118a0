"""`derl-liar`: a `derl-worker` that lies, for mock fleets (`programs` in a fleet file).

`start`, `stop` and `serve` are passed on to the real `derl-worker`, which does what honest work a
lie needs. `work ORDER.json` alters the order before, or the result after, so that the result
belongs to the order and every checksum agrees. What it remembers lies beside the orders.

Limits. Colluders here do not know honest updates: they *estimate* them from their own honest work,
in a folder that they share (`--shared`), else each from its own alone; it uses what is there and
waits for nobody. Hash chains are copied from the work that was done, or made up. Other worlds need
this package where the worker runs, as it is in mock containers without an image.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from provider_image.wire import (
    MAX_FILE_BYTES,
    MAX_ORDER_BYTES,
    TrainOrder,
    TrainResult,
    WireError,
    decode_metadata,
    decode_order,
    encode_order,
    order_digest,
    read_bundle,
    read_file,
    sha256_file,
    write_bundle,
)
from requestor.attacks.catalogue import ATTACKS, find_attack
from requestor.attacks.liar import Answer, Company, Liar, Memory, RefusesWork
from requestor.attacks.vectors import Float32

WORKER = "derl-worker"
SHARED_VARIABLE = "MOCK_GOLEM_SHARED"
EXIT_USAGE = 2
EXIT_ORDER_FAILED = 3
_ALTERED = "liar-order.json"
_COUNT = "liar-count"
_FIRST = "liar-first.safetensors"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the worker, dishonestly; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: list[str] = options.command
    if command[:1] != ["work"] or len(command) != 2:
        return subprocess.run([WORKER, *command], check=False).returncode
    try:
        attack = find_attack(options.attack)
        order = decode_order(bytes(read_file(Path(command[1]), MAX_ORDER_BYTES)))
    except (ValueError, WireError) as error:
        print(f"derl-liar: {error}", file=sys.stderr)
        return EXIT_USAGE
    if not isinstance(order, TrainOrder):
        return subprocess.run([WORKER, *command], check=False).returncode
    shared = Path(options.shared) if options.shared else None
    company = Company(options.clients, max(1, options.liars))
    liar = Liar(attack, company, options.seed, remembered(Path()))
    return _Worker(liar, order, shared).work()


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {attack.name:18} {attack.summary}" for attack in ATTACKS.values())
    parser = argparse.ArgumentParser(
        prog="derl-liar",
        description="A derl-worker that lies, for mock fleets; see mock_golem/README.md.",
        epilog=f"attacks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--attack", default="sign_flip", metavar="NAME", help="one of those below")
    parser.add_argument("--clients", type=int, default=8, help="updates in a round (8)")
    parser.add_argument("--liars", type=int, default=1, help="how many of them lie (1)")
    parser.add_argument("--seed", type=int, default=0, help="of made-up numbers (0)")
    parser.add_argument(
        "--shared",
        default=os.environ.get(SHARED_VARIABLE),
        metavar="FOLDER",
        help=f"where colluders tell each other what they did (${SHARED_VARIABLE})",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what derl-worker takes")
    return parser


def remembered(folder: Path) -> Memory:
    """Return what a liar left in `folder` for itself."""
    memory = Memory()
    if (folder / _COUNT).exists():
        memory.orders = int((folder / _COUNT).read_text())
    if (folder / _FIRST).exists():
        memory.first = _read_answer(folder / _FIRST)
    for path in folder.glob("liar-model-*.f32"):
        memory.models[int(path.stem.rpartition("-")[2])] = np.fromfile(path, dtype=np.float32)
    return memory


def remember(memory: Memory, folder: Path) -> None:
    """Leave in `folder` what `remembered` takes up."""
    (folder / _COUNT).write_text(str(memory.orders))
    if memory.first is not None and not (folder / _FIRST).exists():
        write_bundle(folder / _FIRST, memory.first.tensors, memory.first.metadata)
    for path in folder.glob("liar-model-*.f32"):
        path.unlink()
    for number, model in memory.models.items():
        model.tofile(folder / f"liar-model-{number}.f32")


@dataclass
class _Worker:
    """One order in the current directory."""

    liar: Liar
    order: TrainOrder
    shared: Path | None

    def work(self) -> int:
        order = self.order
        try:
            other = self.liar.to_execute(order)
        except RefusesWork as refused:
            remember(self.liar.memory, Path())
            print(f"derl-worker: order.json: {refused}", file=sys.stderr)
            return EXIT_ORDER_FAILED
        honest = None
        if other is not None:
            Path(_ALTERED).write_bytes(encode_order(other))
            done = subprocess.run(
                [WORKER, "work", _ALTERED], check=False, stdout=subprocess.DEVNULL
            )
            if done.returncode:
                return done.returncode
            honest = _read_answer(Path(order.output))
        reference = order.model
        model = read_bundle(
            Path(reference.name), max_bytes=reference.bytes, sha256=reference.sha256
        ).tensors
        own = self.liar.honest_update(order, model, honest)
        answer = self.liar.answer(order, model, honest, self._seen(own))
        write_bundle(Path(order.output), answer.tensors, answer.metadata)
        remember(self.liar.memory, Path())
        outputs = [order.output, *([order.client_state_output] if other is not None else [])]
        files = {name: sha256_file(Path(name), MAX_FILE_BYTES) for name in outputs if name}
        print(json.dumps({"order_sha256": order_digest(order), "files": files}, sort_keys=True))
        return 0

    def _seen(self, own: Float32) -> list[Float32]:
        """Tell the other colluders of an update, and return what they told of this round."""
        if self.shared is None or self.liar.attack.knowledge == "own":
            return [own]
        folder = self.shared / f"{self.order.run_id}-{self.order.round:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        mine = folder / f"{self.order.client:05d}.f32"
        temporary = folder / f"{self.order.client:05d}.{os.getpid()}.tmp"
        own.tofile(temporary)
        temporary.replace(mine)
        told = sorted(folder.glob("?????.f32"))
        return [np.fromfile(path, dtype=np.float32) for path in told]


def _read_answer(path: Path) -> Answer:
    bundle = read_bundle(path, max_bytes=MAX_FILE_BYTES)
    return Answer(bundle.tensors, decode_metadata(bundle, TrainResult))


if __name__ == "__main__":
    sys.exit(main())
