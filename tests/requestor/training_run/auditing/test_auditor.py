"""The auditor: who is drawn, what a verdict leads to, and what survives a crash."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from requestor.evaluation.local_worker import LocalOrderFailed
from requestor.marketplace.choice.history import Who
from requestor.training_run import events
from requestor.training_run.auditing.findings import audit_key
from requestor.training_run.auditing.options import AuditOptions
from requestor.trust.audit_rates import AuditRates
from requestor.trust.disputes import Replay
from tests.requestor.training_run.auditing.audit_bench import (
    FALSE_LINKS,
    TRUE_LINKS,
    Bench,
    Replays,
    delivery,
    wrong,
)

pytestmark = pytest.mark.asyncio


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_an_honest_provider_is_verified_and_its_rate_falls_at_once(bench: Bench) -> None:
    auditor = bench.auditor()
    work = [delivery(client, "willow") for client in range(3)]
    assert await bench.reviewed(auditor, work) == []
    # the first for sure; while it is under audit the second already counts it
    assert bench.chances(work)[:2] == [1.0, 1 / 8]
    assert bench.standing(work[0]) == "verified"
    assert bench.memory.counts["0xwillow"] == len(bench.replays.asked)
    assert bench.court.sentences == []
    await auditor.close()


async def test_a_liar_is_convicted_by_a_second_execution_up_to_the_first_wrong_link(
    bench: Bench,
) -> None:
    bench.memory.counts["0xlarch"] = 0
    auditor = bench.auditor()
    fake, other, good = delivery(0, "larch", lies=True), delivery(1, "larch"), delivery(2, "beech")
    assert await bench.reviewed(auditor, [fake, other, good]) == [0, 1]
    assert bench.replays.asked[0] == (Replay(None), False)
    assert (Replay(2), True) in bench.replays.asked  # the second link is the first wrong one
    assert bench.court.sentences == [("0xlarch", True)]
    (event,) = [one for one in bench.told if isinstance(one, events.ProviderConvicted)]
    assert (event.provider_name, event.client) == ("larch", 0)
    (case,) = (bench.folder / "evidence").iterdir()
    verdict = json.loads((case / "verdict.json").read_text())
    assert verdict["first_wrong_link"] == 2
    assert verdict["accounts"]["accused"]["links"] == list(FALSE_LINKS)
    assert verdict["accounts"]["referee"]["links"] == list(TRUE_LINKS)
    await auditor.close()


async def test_who_does_a_liar_s_honest_item_anew_is_no_liar(bench: Bench) -> None:
    """Honest work of the same order has the same bits, whoever does it."""
    auditor = bench.auditor()
    fake, honest = delivery(0, "larch", lies=True), delivery(1, "larch")
    assert await bench.reviewed(auditor, [fake, honest]) == [0, 1]
    assert bench.standing(honest) == "unaudited"
    again = delivery(1, "beech")
    assert again.result_sha256 == honest.result_sha256
    assert await bench.reviewed(auditor, [again]) == []
    await auditor.close()


async def test_who_is_convicted_has_no_witness_of_its_own_kind(bench: Bench) -> None:
    """Two voices of one owner agree on a fake; then both are caught at others."""
    bench.options = AuditOptions(rates=AuditRates(0.0001, 0.0001))
    auditor = bench.auditor()
    one, two = delivery(1, "larch", lies=True), delivery(1, "alder", lies=True)
    auditor.note(one)
    auditor.compare(one, two)
    assert bench.standing(one) == "verified"
    others = [delivery(2, "larch", lies=True), delivery(3, "alder", lies=True)]
    for other in others:
        auditor.note(other)
        auditor.suspect(other, "odd")
    objections = await auditor.review(bench.plan(), [one, *others])
    assert {o.delivery.update.item.client for o in objections} == {1, 2, 3}
    await auditor.close()


async def test_a_convicted_voice_s_verified_work_stays(bench: Bench) -> None:
    auditor = bench.auditor()
    good = delivery(0, "larch")
    assert await bench.reviewed(auditor, [good]) == []
    bench.memory.counts.clear()  # looked at as if it were new
    fake = delivery(1, "larch", lies=True)
    assert await bench.reviewed(auditor, [good, fake]) == [1]
    await auditor.close()


async def test_who_names_an_honest_ones_wallet_is_convicted_alone(bench: Bench) -> None:
    """Any offer may name any wallet; what the honest one has sent is looked at, and stays."""
    auditor = bench.auditor()
    for _ in range(50):
        bench.memory.audited(Who("0xbeech", "beech"))  # 1 / 51^3: next to never drawn
    honest = delivery(0, "beech", wallet="0xpurse")
    fake = delivery(1, "larch", lies=True, wallet="0xpurse")
    assert await bench.reviewed(auditor, [honest, fake]) == [1]
    assert bench.court.sentences == [("0xlarch", True)]
    assert (bench.standing(honest), bench.standing(fake)) == ("verified", "faked")
    later = delivery(2, "beech", wallet="0xpurse")  # looked at like an unknown one's
    assert await bench.reviewed(auditor, [later]) == []
    assert bench.chances([honest, fake, later])[2] == 1.0
    assert bench.standing(later) == "verified"
    resumed = bench.auditor()
    assert await bench.reviewed(resumed, [honest, later]) == []
    assert await bench.reviewed(resumed, [delivery(3, "beech", wallet="0xpurse")]) == []
    await auditor.close()


async def test_every_faking_node_of_a_wallet_is_convicted(bench: Bench) -> None:
    auditor = bench.auditor()
    fakes = [delivery(n, name, lies=True, wallet="0xpurse") for n, name in enumerate("abc")]
    assert await bench.reviewed(auditor, fakes) == [0, 1, 2]
    assert sorted(bench.court.sentences) == [("0xa", True), ("0xb", True), ("0xc", True)]
    await auditor.close()


async def test_another_s_record_helps_nobody_who_names_its_wallet(bench: Bench) -> None:
    auditor = bench.auditor()
    for _ in range(50):
        bench.memory.audited(Who("0xbeech", "beech", "0xpurse"))
    rider = delivery(0, "larch", wallet="0xpurse")
    await bench.reviewed(auditor, [rider])
    assert bench.chances([rider]) == [1.0]
    await auditor.close()


@pytest.mark.parametrize("is_first_false", [True, False])
async def test_where_two_of_one_wallet_contradict_each_other_the_one_that_counts_is_audited(
    bench: Bench, is_first_false: bool
) -> None:
    bench.options = AuditOptions(rates=AuditRates(0.0001, 0.0001))
    auditor = bench.auditor()
    first = delivery(0, "beech", lies=is_first_false, wallet="0xpurse")
    auditor.note(first)
    auditor.compare(first, delivery(0, "larch", lies=not is_first_false, wallet="0xpurse"))
    objections = await auditor.review(bench.plan(), [first])
    assert [one.kind for one in objections] == ["fraud"] * is_first_false
    assert bench.standing(first) == ("faked" if is_first_false else "verified")
    assert bench.court.sentences == [("0xbeech", True)] * is_first_false
    await auditor.close()


async def test_a_copy_that_comes_when_its_round_is_long_over_does_nothing(bench: Bench) -> None:
    bench.options = AuditOptions(rates=AuditRates(0.0001, 0.0001))
    auditor = bench.auditor()
    first = delivery(0, "beech", wallet="0xpurse")
    auditor.note(first)
    for later in (1, 2):
        auditor.begin(bench.plan(later), bench.files())
    auditor.compare(first, delivery(0, "larch", lies=True, wallet="0xpurse"))
    auditor.compare(first, delivery(0, "hazel", lies=True))
    await auditor.drain()
    assert bench.standing(first) == "unaudited" and bench.replays.asked == []
    await auditor.close()


async def test_our_own_error_convicts_nobody(bench: Bench) -> None:
    bench.replays.said = [wrong()]  # and right when asked again
    auditor = bench.auditor()
    good = delivery(0, "willow")
    assert await bench.reviewed(auditor, [good]) == []
    assert bench.standing(good) == "undecided" and bench.court.sentences == []
    await auditor.close()


async def test_machines_of_other_bits_are_never_convicted(bench: Bench) -> None:
    bench.has_equal_bits = False
    auditor = bench.auditor()
    other = delivery(0, "willow", lies=True)
    assert await bench.reviewed(auditor, [other]) == []
    assert bench.standing(other) == "undecided" and bench.court.sentences == []
    assert len(bench.replays.asked) == 1
    await auditor.close()


async def test_what_this_machine_cannot_do_is_undecided(bench: Bench) -> None:
    bench.replays.said = [LocalOrderFailed("no such environment")]
    auditor = bench.auditor()
    good = delivery(0, "willow")
    assert await bench.reviewed(auditor, [good]) == []
    assert bench.standing(good) == "undecided"
    await auditor.close()


async def test_an_equal_copy_of_another_voice_verifies_and_makes_no_record(bench: Bench) -> None:
    bench.options = AuditOptions(rates=AuditRates(1e-9, 0.0))
    auditor = bench.auditor()
    first, own = delivery(0, "willow"), delivery(1, "willow")
    await bench.reviewed(auditor, [first, own])
    auditor.compare(first, delivery(0, "hazel"))
    auditor.compare(own, delivery(1, "willow"))
    assert (bench.standing(first), bench.standing(own)) == ("verified", "unaudited")
    assert bench.replays.asked == [] and not bench.memory.counts
    await auditor.close()


@pytest.mark.parametrize("is_first_false", [True, False])
async def test_of_two_copies_that_differ_the_wrong_one_is_convicted(
    bench: Bench, is_first_false: bool
) -> None:
    bench.options = AuditOptions(rates=AuditRates(1e-9, 0.0), refuse_bills=False)
    auditor = bench.auditor()
    first = delivery(0, "willow", lies=is_first_false)
    second = delivery(0, "hazel", lies=not is_first_false)
    auditor.note(first)
    auditor.compare(first, second)
    objections = await auditor.review(bench.plan(), [first])
    assert bool(objections) == is_first_false
    assert bench.court.sentences == [("0xwillow" if is_first_false else "0xhazel", False)]
    await auditor.close()


async def test_in_the_background_rounds_go_on_and_verdicts_come_later(bench: Bench) -> None:
    bench.options = AuditOptions(rates=AuditRates(1.0, 0.0), when="background")
    bench.replays.gate = asyncio.Event()
    auditor = bench.auditor()
    fake = delivery(0, "larch", lies=True)
    assert await bench.reviewed(auditor, [fake]) == []  # merged by now
    bench.replays.gate.set()
    await auditor.drain()
    assert [one.standing for one in bench.became_known] == ["faked"]
    assert bench.court.sentences == [("0xlarch", True)]
    await auditor.close()


async def test_a_late_audit_has_what_the_checkpoints_have_dropped(bench: Bench) -> None:
    bench.options = AuditOptions(rates=AuditRates(1.0, 0.0), when="background")
    bench.replays.gate = asyncio.Event()
    auditor = bench.auditor()
    await bench.reviewed(auditor, [delivery(0, "larch", lies=True)])
    (bench.folder / "model").unlink()  # two rounds later
    bench.replays.gate.set()
    await auditor.drain()
    assert bench.court.sentences == [("0xlarch", True)]
    assert list((bench.folder / "held").iterdir()) == []
    await auditor.close()


async def test_what_was_drawn_before_a_crash_is_looked_at_after_it(bench: Bench) -> None:
    bench.replays.gate = asyncio.Event()
    fake, good = delivery(0, "larch", lies=True), delivery(1, "beech")
    before = bench.auditor()
    before.note(fake)
    before.note(good)
    await before.close()
    bench.replays = Replays()
    after = bench.auditor()
    assert bench.standing(fake) == "pending"
    assert await bench.reviewed(after, [fake, good]) == [0]
    await after.close()
    again = bench.auditor()
    bench.replays.asked.clear()
    # known to have faked: also what nobody looked at is objected to, and nothing is done twice
    assert await bench.reviewed(again, [fake, good]) == [0]
    assert bench.replays.asked == []
    await again.close()


async def test_audits_of_merged_rounds_that_a_crash_cut_short_count_as_none(bench: Bench) -> None:
    bench.replays.gate = asyncio.Event()
    before = bench.auditor()
    good = delivery(0, "willow")
    before.note(good)
    await before.close()
    after = bench.auditor(round_index=1)
    assert bench.standing(good) == "unaudited" and bench.chances([good]) == [0.0]
    await after.close()


async def test_without_a_rate_nothing_is_drawn_or_written(bench: Bench) -> None:
    bench.options = AuditOptions()
    auditor = bench.auditor()
    assert await bench.reviewed(auditor, [delivery(0, "larch", lies=True)]) == []
    assert (bench.folder / "audits.jsonl").read_bytes() == b""
    await auditor.close()


async def test_the_key_is_secret_stays_and_is_another_for_every_run(tmp_path: Path) -> None:
    one, two = audit_key(tmp_path / "one.key"), audit_key(tmp_path / "two.key")
    assert one != two and len(one) == 32
    assert audit_key(tmp_path / "one.key") == one
    assert stat.S_IMODE((tmp_path / "one.key").stat().st_mode) == 0o600
    (tmp_path / "one.key").write_bytes(one[:7])  # torn
    assert len(audit_key(tmp_path / "one.key")) == 32
