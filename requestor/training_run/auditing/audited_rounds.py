"""The rounds whose work may be done again, with what it takes: the very orders, and their files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from provider_image.wire import order_digest
from requestor.training_run.auditing.hearings import held_desk
from requestor.training_run.auditing.held_files import HeldFiles
from requestor.training_run.auditing.replaying import Work
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import RoundFiles


@dataclass
class AuditedRounds:
    """The round that is open and the one before it: a late copy may be of that."""

    held: HeldFiles
    _files: dict[int, RoundFiles] = field(default_factory=dict)

    def begin(self, round_index: int, files: RoundFiles) -> None:
        """Take notice of a round that begins, and of what its orders have in common."""
        last = {number: known for number, known in self._files.items() if number == round_index - 1}
        self._files = {**last, round_index: files}

    def __contains__(self, round_index: int) -> bool:
        """Tell whether work of a round can still be done again."""
        return round_index in self._files

    def hold(self, delivery: Delivery) -> Work:
        """Return the very order that a delivery answers, with its files, until `release`."""
        item, desk = delivery.update.item, self._desk(delivery)
        inputs = desk.job(item, "audit", 0).inputs
        return self.held.hold(Work(desk.order(item), inputs, desk.files.model_specs))

    def release(self, work: Work) -> None:
        """Drop what is held for a work."""
        self.held.release(work)

    def held_desk(self, delivery: Delivery, work: Work) -> RoundDesk:
        """Return a desk that makes the order of `work` as long as it is held."""
        return held_desk(self._files[delivery.update.item.round], work)

    def kept_result(self, delivery: Delivery) -> Path | None:
        """Return where the result that counts lies until its round is closed."""
        files = self._files.get(delivery.update.item.round)
        return files.inbox / f"{delivery.order_sha256}.result" if files is not None else None

    def _desk(self, delivery: Delivery) -> RoundDesk:
        """Return a desk that makes the very order that a delivery answers."""
        item = delivery.update.item
        desk = RoundDesk(self._files[item.round])
        if order_digest(desk.order(item)) != delivery.order_sha256:
            desk.leave_state_out(item)
        return desk
