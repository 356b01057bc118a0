"""Beside the results that are kept until their round is closed: who sent them, and what was
rejected, so that a process that takes over after a crash knows what the one before knew.

`<order>.source` names the sender of `<order>.result`; `<order>.rejected` lists what was taken back
of that order. Both are our own files: one that cannot be read counts as missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from requestor.training_run.orders.deliveries import Rejection, Source
from requestor.training_run.run_directory import write_whole


@dataclass(frozen=True)
class DeliveryNotes:
    """The notes of one round, in its inbox; orders are named by their digests."""

    inbox: Path

    def write_source(self, order_sha256: str, source: Source | None) -> None:
        """Note who sent an order's result; None: nobody knows."""
        path = self._source_path(order_sha256)
        if source is None:
            path.unlink(missing_ok=True)
        else:
            write_whole(path, msgspec.json.encode(source))

    def source(self, order_sha256: str) -> Source | None:
        """Return who sent an order's result, if that is known."""
        try:
            return msgspec.json.decode(self._source_path(order_sha256).read_bytes(), type=Source)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def add_rejection(self, order_sha256: str, rejection: Rejection) -> None:
        """Note that a result of an order was rejected."""
        rejections = [*self.rejections(order_sha256), rejection]
        write_whole(self._rejected_path(order_sha256), msgspec.json.encode(rejections))

    def rejections(self, order_sha256: str) -> tuple[Rejection, ...]:
        """Return what was rejected of an order, in order."""
        try:
            content = self._rejected_path(order_sha256).read_bytes()
            return msgspec.json.decode(content, type=tuple[Rejection, ...])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return ()

    def _source_path(self, order_sha256: str) -> Path:
        return self.inbox / f"{order_sha256}.source"

    def _rejected_path(self, order_sha256: str) -> Path:
        return self.inbox / f"{order_sha256}.rejected"
