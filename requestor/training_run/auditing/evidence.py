"""What is kept of a conviction, so that it can be shown to others: order, both results, verdict.

`evidence/round-00003-client-002-…/` holds the order, the delivered bundle as it came (of a copy or
an audit: its update as it was decoded), the update of the replay that it was held against, and
`verdict.json` with both hash chains. Bounded: see `MAX_CASES`, `MAX_BYTES`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from provider_image.wire import TrainResult, encode_order, write_bundle
from requestor.training_run.auditing.replaying import Replayed, Work
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.run_directory import write_whole
from requestor.trust.disputes import Account, Dispute, Verdict

MAX_CASES = 64
MAX_BYTES = 64 << 20
"""A delivered bundle that is larger is not copied; its digest stands in the verdict."""


@dataclass(frozen=True)
class EvidenceFolder:
    """The cases of one run."""

    folder: Path

    def keep(
        self,
        work: Work,
        delivery: Delivery,
        dispute: Dispute,
        verdict: Verdict,
        *,
        delivered: Path | None,
        replayed: Replayed | None,
    ) -> Path | None:
        """Write a case down; None if there are too many already."""
        item = delivery.update.item
        name = f"round-{item.round + 1:05d}-client-{item.client:03d}-{delivery.result_sha256[:12]}"
        case = self.folder / name
        self.folder.mkdir(exist_ok=True)
        if not case.exists() and sum(1 for _ in self.folder.iterdir()) >= MAX_CASES:
            return None
        case.mkdir(exist_ok=True)
        write_whole(case / "order.json", encode_order(work.order))
        if delivered is not None and delivered.exists() and delivered.stat().st_size <= MAX_BYTES:
            shutil.copyfile(delivered, case / "delivered.safetensors")
        elif delivered is None:  # a copy that never counted
            account = Account(None, delivery.links, delivery.result_sha256)
            said = Replayed(account, delivery.update.tensors, delivery.metrics)
            _write_replayed(case / "delivered.safetensors", work, delivery, said)
        if replayed is not None:
            _write_replayed(case / "replayed.safetensors", work, delivery, replayed)
        text = json.dumps(_verdict_record(delivery, dispute, verdict), indent=1)
        write_whole(case / "verdict.json", text.encode() + b"\n")
        return case


def _write_replayed(path: Path, work: Work, delivery: Delivery, replayed: Replayed) -> None:
    size = sum(array.nbytes for array in replayed.tensors.values())
    if size > MAX_BYTES:
        return
    metadata = TrainResult(
        order_sha256=delivery.order_sha256,
        steps=work.order.local_steps,
        episodes=0,
        wall_seconds=0.0,
        cpu_seconds=0.0,
        links=replayed.account.links,
    )
    write_bundle(path, dict(replayed.tensors), metadata)


def _verdict_record(delivery: Delivery, dispute: Dispute, verdict: Verdict) -> Mapping[str, Any]:
    source, item = delivery.source, delivery.update.item
    accounts = {
        "accused": dispute.accused,
        "witness": dispute.witness,
        "referee": dispute.referee,
    }
    return {
        "round": item.round,
        "client": item.client,
        "seed": item.seed,
        "order_sha256": delivery.order_sha256,
        "result_sha256": delivery.result_sha256,
        "provider": None if source is None else msgspec.to_builtins(source),
        "outcome": verdict.outcome,
        "convicted": list(verdict.convicted),
        "first_wrong_link": verdict.link,
        "reason": verdict.reason,
        "accounts": {name: _account(account) for name, account in accounts.items() if account},
    }


def _account(account: Account) -> Mapping[str, Any]:
    return {
        "by": account.by or "requestor",
        "result_sha256": account.result_sha256,
        "links": list(account.links),
    }
