"""What the roster does about an agreement at its ceiling while its lease does not let go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from requestor.marketplace.golem.renting import roster as module
from requestor.marketplace.golem.renting.roster import RELEASE_SECONDS, LeaseRoster
from requestor.marketplace.money.spending import Account, Prices

pytestmark = pytest.mark.asyncio


class Records:
    """Knows one provider, and whether it came to the ceiling soon."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.lasted: list[tuple[float, bool]] = []

    def wallet_of(self, agreement_id: str) -> None:
        return None

    async def note_start(self, *_: Any) -> None:
        return None

    def lease_ended(self, agreement_id: str, orders_done: int, busy_seconds: float) -> None:
        return None

    def came_to_ceiling(self, agreement_id: str, seconds: float, *, was_ready: bool) -> bool:
        self.lasted.append((seconds, was_ready))
        return seconds < 50

    def failed(self, agreement_id: str, failure: str, reason: str) -> None:
        self.failures.append(reason)


async def test_a_lease_at_its_ceiling_that_does_not_let_go_is_ended_over_its_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    books: Any = SimpleNamespace(
        account_of=lambda name: Account(name, "0x1", Prices(), 1, 90.0), name_of=lambda _: "oak"
    )
    presence: Any = SimpleNamespace(away_seconds=0.0, is_unsettled=False)
    records: Any = Records()
    api: Any = None
    notices: list[str] = []
    ended: list[str] = []
    roster = LeaseRoster(
        books,
        records,
        api,
        presence,
        end_agreement=ended.append,
        deploy_timeout_seconds=60.0,
        notice=notices.append,
    )
    service: Any = SimpleNamespace(agreement_id="g1", provider_name="oak", provider_id="0x1")
    lease = roster.open_lease(service)
    for clock[0] in (100.0, 100.5, 99.9 + RELEASE_SECONDS):
        roster.at_ceiling("g1")
        assert lease.was_released
        assert ended == []
    clock[0] = 100.0 + RELEASE_SECONDS
    roster.at_ceiling("g1")
    assert ended == ["g1"]
    assert records.lasted == [(10.0, True)]
    assert notices == [
        "oak: its agreement came to golem.max_price.agreement_glm after 10 s; "
        "it is not rented again in this session"
    ]
    # what comes of being ended is nobody's fault
    roster.terminated("g1", {"message": "Not needed any more"})
    roster.start_failed(service, "Activity terminated by provider")
    assert len(notices) == 1
    assert records.failures == []
    roster.close()
