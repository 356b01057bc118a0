"""After a crash: the run's own agreements, bills and allocations, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.paying.debts import Debts, wind_up
from requestor.marketplace.golem.paying.sweep import Sweep, SweepReport
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import RUN_PROPERTY

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime

RUN = "run-1"
NODE = "0xme"
PLATFORM = "erc20-hoodi-tglm"
AMOUNT = "0.999999999999987654"
OFFER = {
    "golem.com.pricing.model": "linear",
    "golem.com.scheme": "payu",
    "golem.com.pricing.model.linear.coeffs": [0.001, 0.1],
    "golem.com.usage.vector": ["golem.usage.duration_sec"],
    "golem.node.id.name": "willow",
}


class FakeDaemon(DaemonApi):
    """The books of a daemon, in memory; a provider bills `delay` seconds after the end."""

    def __init__(self) -> None:
        self.agreements: dict[str, dict[str, Any]] = {}
        self.approved: set[str] = set()
        self.demand_rows: list[dict[str, Any]] = []
        self.endings: dict[str, float] = {}
        self.allocation_rows: dict[str, dict[str, Any]] = {}
        self.allocated: list[Decimal] = []
        self.refuse_allocations = False
        self.invoice_rows: list[dict[str, Any]] = []
        self.note_rows: list[dict[str, Any]] = []
        self.bills: dict[str, list[str]] = {}
        self.delay = 0.05
        self.node = NODE
        self.terminated: list[str] = []
        self.payments: list[tuple[str, str, str]] = []
        self.refuse_payments = False
        self.refusal = "Invalid amount accepted"
        self.failures: list[int] = []
        self.dies_at_termination = False
        self.is_gone = False

    def agree(self, agreement_id: str, run: str | None = RUN, bills: tuple[str, ...] = ()) -> None:
        """An agreement in force; on termination its provider sends `bills`."""
        properties = {} if run is None else {RUN_PROPERTY: run}
        self.agreements[agreement_id] = {
            "agreementId": agreement_id,
            "demand": {"properties": properties},
            "offer": {"properties": OFFER, "providerId": f"0x{agreement_id}"},
        }
        self.approved.add(agreement_id)
        self.bills[agreement_id] = list(bills)

    def allocate(self, allocation_id: str, amount: str) -> None:
        """An allocation."""
        self.allocation_rows[allocation_id] = {
            "allocationId": allocation_id,
            "totalAmount": amount,
            "remainingAmount": amount,
        }

    def bill(self, agreement_id: str, amount: str, status: str = "RECEIVED") -> None:
        """An invoice."""
        self.invoice_rows.append(
            {
                "invoiceId": f"invoice-{len(self.invoice_rows)}",
                "agreementId": agreement_id,
                "amount": amount,
                "status": status,
            }
        )

    def note(self, agreement_id: str, amount: str, status: str) -> None:
        """A debit note."""
        self.note_rows.append(
            {"agreementId": agreement_id, "totalAmountDue": amount, "status": status}
        )

    @property
    def paid(self) -> dict[str, Decimal]:
        """What the daemon has paid or will pay, by agreement: the last bill accepted."""
        paid: dict[str, Decimal] = {}
        for row in self.note_rows:
            if row["status"] in ("ACCEPTED", "SETTLED"):
                known = paid.get(row["agreementId"], Decimal(0))
                paid[row["agreementId"]] = max(known, Decimal(row["totalAmountDue"]))
        for row in self.invoice_rows:
            if row["status"] in ("ACCEPTED", "SETTLED"):
                paid[row["agreementId"]] = Decimal(row["amount"])
        return paid

    def check(self) -> None:
        """Fail as if nobody listened any more."""
        if self.is_gone:
            raise DaemonError("any call", 0, "connection refused")

    async def identity(self) -> str:
        self.check()
        return self.node

    async def demands(self) -> list[dict[str, Any]]:
        self.check()
        return list(self.demand_rows)

    async def unsubscribe_demand(self, demand_id: str) -> None:
        self.check()
        self.demand_rows = [row for row in self.demand_rows if row["demandId"] != demand_id]

    async def agreement_endings(self, since_unix_seconds: float) -> dict[str, float]:
        self.check()
        return self.endings

    async def approved_agreements(self) -> list[str]:
        self.check()
        return sorted(self.approved)

    async def agreement(self, agreement_id: str) -> dict[str, Any]:
        self.check()
        return self.agreements[agreement_id]

    async def terminate_agreement(self, agreement_id: str, message: str) -> None:
        self.is_gone |= self.dies_at_termination
        self.check()
        self.approved.discard(agreement_id)
        self.terminated.append(agreement_id)
        loop = asyncio.get_running_loop()
        for amount in self.bills[agreement_id]:
            loop.call_later(self.delay, self.bill, agreement_id, amount)

    async def allocations(self) -> list[dict[str, Any]]:
        self.check()
        return list(self.allocation_rows.values())

    async def create_allocation(self, amount: str, platform: str, address: str) -> str:
        self.check()
        if self.refuse_allocations:
            raise DaemonError("POST allocations", 400, "no funds")
        assert (platform, address) == (PLATFORM, self.node)
        self.allocated.append(Decimal(amount))
        self.allocate(name := f"D{len(self.allocated)}", amount)
        return name

    async def release_allocation(self, allocation_id: str) -> None:
        self.check()
        self.allocation_rows.pop(allocation_id, None)

    async def invoices(self, since_unix_seconds: float) -> list[dict[str, Any]]:
        self.check()
        return [dict(row) for row in self.invoice_rows]

    async def debit_notes(self, since_unix_seconds: float) -> AsyncIterator[dict[str, Any]]:
        self.check()
        for row in self.note_rows:
            yield dict(row)

    async def accept_invoice(self, invoice_id: str, amount: str, allocation_id: str) -> None:
        self.check()
        row = next(row for row in self.invoice_rows if row["invoiceId"] == invoice_id)
        assert allocation_id in self.allocation_rows
        assert Decimal(amount) == Decimal(row["amount"])
        if self.failures:
            raise DaemonError("POST accept", self.failures.pop(), "not now")
        if self.refuse_payments:
            raise DaemonError("POST accept", 400, self.refusal)
        self.payments.append((row["agreementId"], amount, allocation_id))
        row["status"] = "ACCEPTED"


class Scene:
    """A ledger as a killed process left it, its daemon, and the sweep that follows."""

    def __init__(self, path: Path) -> None:
        self.unix_seconds = 1000.0
        self.daemon = FakeDaemon()
        self.notices: list[str] = []
        self.ledger = Ledger(path, lambda: self.unix_seconds)

    def intend(self, amount: str = AMOUNT) -> None:
        """Enter that an allocation was asked for."""
        node = self.daemon.node
        self.ledger.write("allocation_intended", amount_glm=amount, budget_glm="1", node_id=node)

    def open_session(self, allocation_id: str = "A", amount: str = AMOUNT) -> None:
        """An allocation, granted and known."""
        self.intend(amount)
        self.daemon.allocate(allocation_id, amount)
        self.ledger.write(
            "allocation_created",
            allocation_id=allocation_id,
            amount_glm=amount,
            platform=PLATFORM,
        )

    def approve(
        self,
        agreement_id: str,
        *bills: str,
        name: str = "willow",
        expires_unix_seconds: float | None = None,
    ) -> None:
        """An agreement that the ledger knows: 0.1 GLM at the start, 0.001 a second."""
        self.daemon.agree(agreement_id, RUN, bills)
        self.ledger.approve(
            agreement_id,
            provider_id=f"0x{agreement_id}",
            provider_name=name,
            threads=1,
            prices=Prices(Decimal("0.1"), Decimal(0), Decimal("3.6")),
            approved_unix_seconds=self.unix_seconds,
            expires_unix_seconds=expires_unix_seconds,
        )

    def end(self, agreement_id: str) -> None:
        """End an agreement before the crash."""
        self.daemon.approved.discard(agreement_id)
        self.ledger.write("agreement_ended", agreement_id=agreement_id)

    async def sweep(self, wait_seconds: float = 10.0, **changes: Any) -> SweepReport:
        """Clean up."""
        report = await self.make(**changes).run(wait_seconds)
        self.check_books()
        return report

    async def pay(self, *awaited: str) -> SweepReport:
        """Pay what is owed at the end of a session."""
        report = await self.make().pay(frozenset(awaited), 10.0)
        self.check_books()
        return report

    def make(self, **changes: Any) -> Sweep:
        """A sweep."""
        settings: dict[str, Any] = {"unix_clock": lambda: self.unix_seconds, **changes}
        return Sweep(self.daemon, self.ledger, RUN, self.notices.append, **settings)

    def check_books(self) -> None:
        """The ledger says exactly what the daemon says."""
        summary = self.ledger.summary
        ours = {
            agreement: paid
            for agreement, paid in self.daemon.paid.items()
            if agreement in summary.providers
        }
        assert summary.accepted_glm == ours


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "ledger.jsonl")
    yield made
    made.ledger.close()


def test_a_run_that_never_went_to_the_market_leaves_nothing(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.daemon.agree("foreign", run="another run")
    report = run_in_virtual_time(scene.sweep())
    assert report.is_empty
    assert not scene.daemon.terminated


def test_a_session_killed_at_work_is_ended_paid_and_released(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.approve("g2", "0.15")
    scene.unix_seconds += 60
    report = run_in_virtual_time(scene.sweep())
    assert str(report) == "2 agreements ended, 2 invoices accepted, 1 allocations released"
    assert scene.daemon.terminated == ["g1", "g2"]
    assert scene.daemon.payments == [("g1", "0.12", "A"), ("g2", "0.15", "A")]
    assert not scene.daemon.allocation_rows
    summary = scene.ledger.summary
    assert summary.total_glm == Decimal("0.27")
    assert not summary.is_open


def test_foreign_agreements_and_allocations_are_left_alone(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.daemon.agree("foreign", run="another run", bills=("0.1",))
    scene.daemon.agree("unmarked", run=None)
    scene.daemon.agreements["odd"] = {"agreementId": "odd", "demand": None, "offer": 5}
    scene.daemon.approved.add("odd")
    scene.daemon.allocate("B", "0.999999999999987655")
    scene.daemon.bill("foreign", "0.1")
    report = run_in_virtual_time(scene.sweep())
    assert report.agreements == report.invoices == 0
    assert scene.daemon.approved == {"foreign", "unmarked", "odd"}
    assert list(scene.daemon.allocation_rows) == ["B"]
    assert scene.daemon.invoice_rows[0]["status"] == "RECEIVED"


def test_an_agreement_that_the_ledger_does_not_know_is_found_by_its_mark(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.unix_seconds += 30
    scene.daemon.agree("g9", RUN, ("0.11",))
    report = run_in_virtual_time(scene.sweep())
    assert report.agreements == report.invoices == 1
    entry = scene.ledger.approvals["g9"]
    assert entry.approved_unix_seconds == 1000.0
    assert (entry.provider_name, entry.hour_glm) == ("willow", Decimal("3.6"))
    assert scene.daemon.payments == [("g9", "0.11", "A")]


def test_an_allocation_whose_id_was_never_learned_is_found_by_its_amount(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.intend()
    scene.daemon.allocate("A", AMOUNT)
    scene.daemon.allocate("B", "0.999999999999987653")
    report = run_in_virtual_time(scene.sweep())
    assert report.allocations == 1
    assert list(scene.daemon.allocation_rows) == ["B"]
    assert not scene.ledger.summary.is_open


def test_an_allocation_that_was_never_made_is_forgotten(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.intend()
    assert run_in_virtual_time(scene.sweep()).is_empty
    assert not scene.ledger.summary.is_open


def test_the_second_invoice_of_an_agreement_is_not_paid(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12", "0.12")
    scene.approve("g2")
    scene.daemon.bill("g2", "0.11")
    scene.daemon.bill("g2", "0.12", "ACCEPTED")
    scene.unix_seconds += 60
    run_in_virtual_time(scene.sweep())
    assert scene.daemon.payments == [("g1", "0.12", "A")]
    assert scene.ledger.summary.accepted_glm == {"g1": Decimal("0.12"), "g2": Decimal("0.12")}


@pytest.mark.parametrize(
    ("asked", "is_paid"),
    # 0.1 at the start, 60 s and 3 s of slack at 0.001 GLM/s, and 1e-9 for rounding
    [("0.163000001", True), ("0.163000002", False), ("1e6", False), ("-0.1", False)],
)
def test_over_billing_is_refused_once(
    scene: Scene, run_in_virtual_time: RunInVirtualTime, asked: str, is_paid: bool
) -> None:
    scene.open_session()
    scene.approve("g1", asked)
    scene.unix_seconds += 60

    async def twice() -> None:
        await scene.sweep()
        await scene.sweep()

    run_in_virtual_time(twice())
    assert bool(scene.daemon.payments) is is_paid
    assert len(scene.ledger.summary.refused) == (0 if is_paid else 1)
    assert len(scene.notices) == (0 if is_paid else 1)
    if not is_paid:
        why = "at most 0.163000001 GLM can be due" if asked != "-0.1" else "that is no amount"
        assert why in scene.notices[0]


def test_time_after_the_end_of_an_agreement_is_not_paid(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1")
    scene.unix_seconds += 60
    scene.end("g1")
    scene.unix_seconds += 36_000
    scene.daemon.bill("g1", "5")  # ten hours would cost 36 GLM; what ran cost at most 0.163
    run_in_virtual_time(scene.sweep())
    assert not scene.daemon.payments
    assert scene.ledger.summary.refused_agreements == {"g1"}


@pytest.mark.parametrize(("known", "is_paid"), [(True, False), (False, True)])
def test_the_daemon_knows_when_an_agreement_ended_whose_end_nobody_entered(
    scene: Scene, run_in_virtual_time: RunInVirtualTime, *, known: bool, is_paid: bool
) -> None:
    """The process was killed in the instant after it ended it, and is resumed ten hours later."""
    scene.open_session()
    scene.approve("g1")
    scene.daemon.approved.discard("g1")
    if known:
        scene.daemon.endings["g1"] = scene.unix_seconds + 60
    scene.unix_seconds += 36_000
    scene.daemon.bill("g1", "0.163000002")  # 0.163000001 GLM can be due for 60 s
    run_in_virtual_time(scene.sweep())
    assert bool(scene.daemon.payments) is is_paid
    assert scene.ledger.endings["g1"] == (1060.0 if known else scene.unix_seconds)


def test_what_was_accepted_without_the_ledger_knowing_is_entered(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1")
    scene.approve("g2")
    scene.ledger.write("debit_note_accepted", agreement_id="g1", total_glm="0.11")
    scene.daemon.note("g1", "0.11", "ACCEPTED")
    scene.daemon.note("g1", "0.12", "SETTLED")
    scene.daemon.note("g1", "0.13", "RECEIVED")
    scene.daemon.bill("g2", "0.140", "SETTLED")
    run_in_virtual_time(scene.sweep(wait_seconds=0.0))
    summary = scene.ledger.summary
    assert summary.accepted_glm == {"g1": Decimal("0.12"), "g2": Decimal("0.14")}
    assert summary.invoiced == {"g2"}


def test_it_waits_for_late_bills_but_not_for_ever(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("late", "0.12")
    scene.approve("never")
    scene.daemon.delay = 4.0
    scene.unix_seconds += 60

    async def timed() -> float:
        await scene.sweep(wait_seconds=10.0)
        return asyncio.get_running_loop().time()

    assert 10 <= run_in_virtual_time(timed()) < 11
    assert scene.daemon.payments == [("late", "0.12", "A")]
    assert not scene.daemon.allocation_rows


def test_it_does_not_wait_when_all_bills_are_there(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.unix_seconds += 60

    async def timed() -> float:
        await scene.sweep(wait_seconds=10.0)
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(timed()) < 0.5
    assert scene.daemon.payments == [("g1", "0.12", "A")]


def test_sweeping_twice_changes_nothing(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.daemon.agree("g9", RUN, ("0.11",))
    scene.daemon.note("g1", "0.11", "ACCEPTED")
    scene.unix_seconds += 60

    async def twice() -> None:
        await scene.sweep()
        written = scene.ledger.path.read_bytes()
        again = await scene.sweep()
        assert again.is_empty
        assert scene.ledger.path.read_bytes() == written

    run_in_virtual_time(twice())
    assert len(scene.daemon.payments) == 2


def test_a_bill_that_cannot_be_paid_is_told_and_does_not_stop_the_rest(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.daemon.refuse_payments = True
    scene.unix_seconds += 60
    report = run_in_virtual_time(scene.sweep())
    assert (report.invoices, report.allocations) == (0, 1)
    assert scene.notices == [
        "willow: a bill could not be paid: POST accept: 400 Invalid amount accepted"
    ]
    assert scene.ledger.summary.refused_agreements == {"g1"}
    assert not scene.daemon.allocation_rows


def test_what_another_node_holds_is_not_touched(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.daemon.node = "0xother"
    assert run_in_virtual_time(scene.sweep()).is_empty
    assert scene.daemon.approved == {"g1"}
    assert scene.ledger.summary.is_open
    assert scene.notices == ["what node 0xme still holds can only be ended on its own daemon"]


def test_a_daemon_that_is_gone_leaves_the_rest_in_the_ledger(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.daemon.dies_at_termination = True
    with pytest.raises(DaemonError, match="no answer"):
        run_in_virtual_time(scene.sweep())
    assert scene.ledger.summary.open_agreements == {"g1"}
    assert scene.ledger.summary.open_allocations == {"A"}


def test_demands_of_the_run_are_taken_back_and_no_others(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.daemon.demand_rows = [
        {"demandId": "ours", "properties": {RUN_PROPERTY: RUN}},
        {"demandId": "theirs", "properties": {RUN_PROPERTY: "another run"}},
        {"demandId": "odd", "properties": None},
    ]
    run_in_virtual_time(scene.sweep())
    assert [row["demandId"] for row in scene.daemon.demand_rows] == ["theirs", "odd"]


# --- what may work later ---------------------------------------------------------------------


def test_a_payment_that_fails_in_passing_is_tried_again(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.daemon.failures = [500, 503, 502]
    scene.unix_seconds += 60
    report = run_in_virtual_time(scene.sweep())
    assert report.invoices == 1
    assert scene.daemon.payments == [("g1", "0.12", "A")]
    assert scene.notices == [
        "willow: a bill could not be paid: POST accept: 502 not now (it will be tried again)"
    ]
    assert len(scene.ledger.summary.failed_payments) == 1


def test_what_fails_until_the_end_of_a_sweep_is_paid_by_the_next_session(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.daemon.failures = [500] * 100
    scene.unix_seconds += 60
    run_in_virtual_time(scene.sweep(wait_seconds=1.0))
    assert not scene.daemon.payments
    assert not scene.daemon.allocation_rows
    scene.daemon.failures = []
    scene.open_session("B", "0.8")
    assert run_in_virtual_time(scene.pay()).invoices == 1
    assert scene.daemon.payments == [("g1", "0.12", "B")]


def test_an_invoice_that_comes_after_its_session_is_paid_in_the_next(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("late")
    scene.approve("greedy")
    scene.unix_seconds += 60
    scene.end("late")
    scene.end("greedy")
    run_in_virtual_time(scene.sweep(wait_seconds=0.0))
    scene.daemon.bill("late", "0.163000001")
    scene.daemon.bill("greedy", "0.163000002")
    scene.unix_seconds += 36_000
    assert run_in_virtual_time(scene.sweep()).is_empty  # no allocation to pay from
    scene.open_session("B", "0.8")
    report = run_in_virtual_time(scene.pay())
    assert str(report) == "0 agreements ended, 1 invoices accepted, 0 allocations released"
    assert scene.daemon.payments == [("late", "0.163000001", "B")]
    assert scene.ledger.summary.refused_agreements == {"greedy"}
    assert list(scene.daemon.allocation_rows) == ["B"]


def test_paying_waits_for_what_is_awaited_only(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("slow")
    scene.approve("idle")

    async def timed() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(4.0, scene.daemon.bill, "slow", "0.1")
        await scene.pay("slow")
        return loop.time()

    assert 4 <= run_in_virtual_time(timed()) < 5
    assert scene.daemon.payments == [("slow", "0.1", "A")]


# --- bounds ----------------------------------------------------------------------------------


def test_time_after_the_expiry_of_an_agreement_is_not_paid(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    """A process that died two days ago has written no end."""
    scene.open_session()
    scene.approve("g1", "5", expires_unix_seconds=scene.unix_seconds + 100)
    scene.approve("g2", "0.2", expires_unix_seconds=scene.unix_seconds + 100)
    scene.unix_seconds += 2 * 86_400
    run_in_virtual_time(scene.sweep())
    assert scene.daemon.payments == [("g2", "0.2", "A")]
    assert "at most 0.203000001 GLM can be due" in scene.notices[0]


def test_the_expiry_of_an_unknown_agreement_is_that_of_its_demand(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.daemon.agree("g9", RUN, ("5",))
    demand = scene.daemon.agreements["g9"]["demand"]
    demand["properties"]["golem.srv.comp.expiration"] = 1_100_000
    scene.unix_seconds += 86_400
    run_in_virtual_time(scene.sweep())
    assert scene.ledger.approvals["g9"].expires_unix_seconds == 1100.0
    assert not scene.daemon.payments


def test_the_budget_is_not_exceeded_by_cleaning_up(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.approve("g2", "0.13")
    scene.daemon.note("g2", "0.01", "ACCEPTED")
    scene.unix_seconds += 60
    run_in_virtual_time(scene.sweep(budget_glm=Decimal("0.2499")))
    assert scene.daemon.payments == [("g1", "0.12", "A")]
    assert scene.ledger.summary.refused_agreements == set()
    assert scene.notices == [
        "willow: invoice over 0.130000000 GLM stays unpaid: it does not fit into the budget of "
        "0.2499 GLM any more; `derl-request resume golem.budget_glm=…` pays it"
    ]
    scene.open_session("B", "0.8")
    run_in_virtual_time(scene.sweep(budget_glm=Decimal("0.25")))
    assert scene.ledger.summary.total_glm == Decimal("0.25")


def test_without_a_budget_that_of_the_last_session_holds(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.9")
    scene.approve("g2", "0.2")
    scene.unix_seconds += 1000
    run_in_virtual_time(scene.sweep())
    assert scene.daemon.payments == [("g1", "0.9", "A")]


@pytest.mark.parametrize("asked", ["1e9999999", "1e-9999999"])
def test_an_absurd_amount_is_refused_in_few_words(
    scene: Scene, run_in_virtual_time: RunInVirtualTime, asked: str
) -> None:
    scene.open_session()
    scene.approve("g1", asked)
    run_in_virtual_time(scene.sweep())
    assert not scene.daemon.payments
    assert scene.ledger.summary.refused_agreements == {"g1"}
    assert scene.ledger.path.stat().st_size < 3000
    assert len(scene.notices[0]) < 200


# --- two nodes -------------------------------------------------------------------------------


def test_each_node_ends_what_it_has_made_itself(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.unix_seconds += 60
    first, second, told = scene.daemon, FakeDaemon(), set[tuple[str, str]]()
    second.node = "0xother"

    async def elsewhere() -> None:
        scene.daemon = second
        scene.open_session("B", "0.8")
        scene.approve("g2", "0.1")
        assert str(await scene.make(told=told).run(5.0)) == (
            "1 agreements ended, 1 invoices accepted, 1 allocations released"
        )
        assert (await scene.make(told=told).run(5.0)).is_empty

    run_in_virtual_time(elsewhere())
    summary = scene.ledger.summary
    assert (summary.open_agreements, summary.open_allocations) == ({"g1"}, {"A"})
    assert scene.notices == ["what node 0xme still holds can only be ended on its own daemon"]
    scene.daemon = first
    first.agree("g9", RUN, ("0.11",))
    report = run_in_virtual_time(scene.make(told=told).run(5.0))
    assert str(report) == "2 agreements ended, 2 invoices accepted, 1 allocations released"
    assert first.payments == [("g1", "0.12", "A"), ("g9", "0.11", "A")]
    assert scene.ledger.approvals["g9"].approved_unix_seconds == 1000.0
    assert not summary.is_open
    assert summary.total_glm == Decimal("0.33")


# --- whose bills -----------------------------------------------------------------------------


def test_bills_of_other_parties_are_refused_and_the_rest_is_paid(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    wrong = {
        "platform": {"paymentPlatform": "erc20-holesky-tglm"},
        "payee": {"payeeAddr": "0xthief"},
        "payer": {"payerAddr": "0xother"},
        "issuer": {"issuerId": "0xother"},
        "nothing": {"amount": "NaN"},
        "words": {"amount": "a lot"},
        "right": {},
    }
    for name, changes in wrong.items():
        scene.approve(name)
        scene.end(name)
        entry = scene.ledger.approvals[name]
        scene.ledger.approve(
            name,
            provider_id=entry.provider_id,
            provider_name=name,
            threads=1,
            prices=entry.prices,
            approved_unix_seconds=entry.approved_unix_seconds,
            platform="erc20-hoodi-tglm",
            payee=f"0xPay-{name}",
        )
        scene.daemon.bill(name, "0.1")
        scene.daemon.invoice_rows[-1].update(
            {
                "paymentPlatform": "erc20-hoodi-tglm",
                "payeeAddr": f"0xpay-{name}",
                "payerAddr": "0xME",
                "issuerId": entry.provider_id,
                **changes,
            }
        )
    run_in_virtual_time(scene.make().run(0.0))
    assert [paid for paid, _, _ in scene.daemon.payments] == ["right"]
    summary = scene.ledger.summary
    assert summary.refused_agreements == set(wrong) - {"right"}
    told = {notice.partition(":")[0]: notice for notice in scene.notices}
    assert set(told) == set(wrong) - {"right"}
    assert "it is for erc20-holesky-tglm" in told["platform"]
    assert "it is to be paid to 0xthief" in told["payee"]
    assert "that is no amount" in told["words"]


def test_a_second_invoice_is_told_of_once(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12", "0.12")
    scene.unix_seconds += 60

    async def twice() -> None:
        await scene.sweep()
        await scene.sweep()

    run_in_virtual_time(twice())
    assert scene.notices == [
        "willow: invoice over 0.120000000 GLM refused: it is the agreement's second"
    ]
    assert [entry.bill_id for entry in scene.ledger.summary.refused] == ["invoice-1"]
    assert scene.ledger.summary.refused_agreements == set()


def test_accepted_notes_of_several_activities_add_up(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1")
    for activity, amount in (("a1", "0.11"), ("a2", "0.05"), ("a1", "0.12"), ("a2", "0.04")):
        scene.daemon.note("g1", amount, "ACCEPTED")
        scene.daemon.note_rows[-1]["activityId"] = activity
    run_in_virtual_time(scene.make().run(0.0))
    assert scene.ledger.summary.accepted_glm == {"g1": Decimal("0.17")}


@pytest.mark.parametrize("said", ["Not enough funds. Allocated: 0 Needed: 0.12", "other words"])
def test_an_invoice_that_the_allocation_did_not_carry_is_taken_up_again(
    scene: Scene, run_in_virtual_time: RunInVirtualTime, said: str
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.daemon.refuse_payments = True
    scene.daemon.refusal = said
    scene.unix_seconds += 60
    run_in_virtual_time(scene.sweep())
    is_owed = said.startswith("Not enough funds")
    assert scene.ledger.summary.unsettled == ({"g1"} if is_owed else set())
    scene.daemon.refuse_payments = False
    scene.open_session("B", "2")
    run_in_virtual_time(scene.pay())
    assert scene.daemon.payments == ([("g1", "0.12", "B")] if is_owed else [])


# --- debts -----------------------------------------------------------------------------------


def make_debts(scene: Scene, budget: str) -> Debts:
    """What pays the scene's debts."""
    return Debts(
        scene.daemon,
        scene.ledger,
        scene.notices.append,
        Decimal(budget),
        unix_clock=lambda: scene.unix_seconds,
    )


def leave_debts(scene: Scene, run_in_virtual_time: RunInVirtualTime) -> None:
    """A session that ended with two invoices of 0.12 and 0.13 and a budget of 0.05."""
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.approve("g2", "0.13")
    scene.daemon.note("g2", "0.03", "ACCEPTED")
    scene.unix_seconds += 60
    run_in_virtual_time(scene.sweep(budget_glm=Decimal("0.05")))
    assert not scene.daemon.payments
    assert not scene.daemon.allocation_rows
    assert scene.ledger.summary.put_off_glm == {"g1": Decimal("0.12"), "g2": Decimal("0.13")}


@pytest.mark.parametrize(
    ("budget", "paid"),
    [("0.05", []), ("0.15", ["g1"]), ("0.2499", ["g1"]), ("0.25", ["g1", "g2"]), ("9", "both")],
)
def test_debts_are_paid_as_far_as_a_larger_budget_goes(
    scene: Scene, run_in_virtual_time: RunInVirtualTime, budget: str, paid: list[str] | str
) -> None:
    leave_debts(scene, run_in_virtual_time)
    expected = ["g1", "g2"] if paid == "both" else paid
    told = len(scene.notices)
    assert run_in_virtual_time(make_debts(scene, budget).pay()) == len(expected)
    assert [name for name, _, _ in scene.daemon.payments] == expected
    assert not scene.daemon.allocation_rows
    assert not scene.ledger.summary.is_open
    assert len(scene.notices) == told  # that they stay unpaid was told
    scene.check_books()
    assert scene.ledger.summary.total_glm <= max(Decimal(budget), Decimal("0.05"))
    # what is set aside for it is what it takes
    for made in scene.daemon.allocated:
        needed = sum((scene.daemon.paid[name] for name in expected), Decimal(0))
        beyond = made - (needed - (Decimal("0.03") if "g2" in expected else 0))
        assert 0 <= beyond <= (Decimal("1e-12") if len(expected) == 2 else Decimal("0.11"))


def test_no_more_is_set_aside_for_debts_than_the_budget_has_left(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    leave_debts(scene, run_in_virtual_time)  # 0.12 and 0.10, and 0.03 are accepted already
    assert run_in_virtual_time(make_debts(scene, "0.2").pay()) == 1
    (made,) = scene.daemon.allocated
    assert Decimal("0.12") <= made <= Decimal("0.170000000001")


def test_without_debts_nothing_is_set_aside(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    scene.open_session()
    scene.approve("g1", "0.12")
    scene.unix_seconds += 60
    run_in_virtual_time(scene.sweep())
    assert run_in_virtual_time(make_debts(scene, "9").pay()) == 0
    assert not scene.daemon.allocated


def test_an_allocation_for_debts_that_is_refused_leaves_nothing_open(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    leave_debts(scene, run_in_virtual_time)
    scene.daemon.refuse_allocations = True
    with pytest.raises(DaemonError, match="no funds"):
        run_in_virtual_time(make_debts(scene, "9").pay())
    assert not scene.ledger.summary.is_open
    assert scene.ledger.summary.unsettled == {"g1", "g2"}


def test_debts_whose_payment_fails_stay_debts(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    leave_debts(scene, run_in_virtual_time)
    scene.daemon.failures = [500, 500]
    assert run_in_virtual_time(make_debts(scene, "9").pay()) == 0
    assert not scene.daemon.allocation_rows
    assert run_in_virtual_time(make_debts(scene, "9").pay()) == 2


def test_winding_up_pays_debts_and_outlives_a_refused_allocation(
    scene: Scene, run_in_virtual_time: RunInVirtualTime
) -> None:
    leave_debts(scene, run_in_virtual_time)
    scene.daemon.refuse_allocations = True
    budget = Decimal("0.25")
    refused = run_in_virtual_time(wind_up(scene.make(budget_glm=budget), budget, 1.0))
    assert refused.is_empty
    assert "what earlier sessions owe is not paid now" in scene.notices[-1]
    scene.daemon.refuse_allocations = False
    report = run_in_virtual_time(wind_up(scene.make(budget_glm=budget), budget, 1.0))
    assert report.invoices == 2
    assert scene.ledger.summary.total_glm == budget
    scene.daemon.is_gone = True
    with pytest.raises(DaemonError, match="refused"):
        run_in_virtual_time(wind_up(scene.make(budget_glm=budget), budget, 1.0))
