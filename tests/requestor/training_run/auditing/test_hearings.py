"""Audits by providers: who is asked, who decides, and what becomes of each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from provider_image.wire import read_bundle, tensors_digest
from requestor.evaluation.local_worker import LocalOrderFailed
from requestor.federation.rounds import WorkItem
from requestor.training_run.auditing.options import AuditOptions
from requestor.training_run.auditing.witnesses import Answer
from requestor.training_run.dispatching.errands import ErrandDesk
from requestor.training_run.orders.deliveries import Delivery
from requestor.trust.audit_rates import AuditRates
from requestor.trust.disputes import Replay
from tests.requestor.training_run.auditing.audit_bench import Bench, delivery

pytestmark = pytest.mark.asyncio

BUYING = AuditOptions(rates=AuditRates(1.0, 0.0), by="providers", bought=1.0)


@dataclass
class Fleet:
    """Providers in the order in which they are idle: honest, lying, or vanishing with the order."""

    ways: dict[str, str]
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def wait_less(self, is_all_in: bool) -> None:
        self.is_all_in = is_all_in

    async def ask(
        self,
        item: WorkItem,
        desk: ErrandDesk,
        about: Delivery,
        *,
        barred: Collection[str],
        seconds: float,
    ) -> Answer:
        self.asked.append(tuple(sorted(barred)))
        name = next((one for one in self.ways if f"0x{one}" not in barred), None)
        if name is None:
            return Answer()
        if self.ways[name] == "vanishes":
            return Answer(None, f"0x{name}")
        return Answer(delivery(item.client, name, lies=self.ways[name] == "lies"), f"0x{name}")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, options=BUYING, has_equal_bits=False)


def fleet(bench: Bench, **ways: str) -> Fleet:
    bench.witnesses = asked = Fleet(ways)
    return asked


async def test_another_provider_verifies_and_that_makes_no_record(bench: Bench) -> None:
    asked = fleet(bench, hazel="works")
    auditor = bench.auditor()
    good = delivery(0, "willow")
    assert await bench.reviewed(auditor, [good]) == []
    finding = bench.findings.of_delivery(good)
    assert finding is not None
    assert (finding.standing, finding.verified_by) == ("verified", ("0xhazel",))
    assert asked.asked == [("0xwillow",)] and asked.is_all_in
    assert not bench.memory.counts and not bench.replays.asked
    await auditor.close()


@pytest.mark.parametrize(
    ("sender", "ways"),
    [
        ("lies", {"hazel": "works", "birch": "works"}),
        ("works", {"hazel": "lies", "birch": "works"}),
        ("lies", {"hazel": "vanishes", "birch": "works", "beech": "works"}),
    ],
)
async def test_two_providers_contradict_the_third_and_convict_nobody(
    bench: Bench, sender: str, ways: dict[str, str]
) -> None:
    bench.memory.counts.update({f"0x{name}": 100 for name in ("willow", *ways)})
    bench.options = replace(BUYING, rates=AuditRates(1.0, 0.001))
    fleet(bench, **ways)
    auditor = bench.auditor()
    sent = delivery(0, "willow", lies=sender == "lies")
    auditor.note(sent)
    auditor.suspect(sent, "odd")
    objections = await auditor.review(bench.plan(), [sent])
    assert bench.court.sentences == []
    if sender == "lies":  # another provider does it, nobody is banned
        (objection,) = objections
        assert objection.kind == "screened" and bench.standing(sent) == "contradicted"
        assert "two other providers agree on another result, from link 2 on" in objection.reason
    else:
        assert not objections and bench.standing(sent) == "verified"
    after = [delivery(1, "willow"), delivery(2, "hazel"), delivery(3, "birch")]
    for one in after:  # whoever of the three is right: all have a full look from now on
        auditor.note(one)
    looked_at = [one.chance == 1.0 for one in map(bench.findings.of_delivery, after) if one]
    assert looked_at == [True, ways["hazel"] != "vanishes", True]
    await auditor.close()


@pytest.mark.parametrize("sender", ["works", "lies"])
async def test_this_machine_decides_where_its_bits_are_equal(bench: Bench, sender: str) -> None:
    bench.has_equal_bits = True
    asked = fleet(bench, hazel="works" if sender == "lies" else "lies", birch="lies")
    auditor = bench.auditor()
    sent = delivery(0, "willow", lies=sender == "lies")
    await bench.reviewed(auditor, [sent])
    assert bench.replays.asked[0] == (Replay(2), True)  # the first wrong link is the second
    assert len(asked.asked) == 1
    guilty = "0xwillow" if sender == "lies" else "0xhazel"
    assert [voice for voice, _ in bench.court.sentences] == [guilty]
    # where the witness lied, the whole item was done here, and that makes a record
    assert bench.memory.counts["0xwillow"] == (sender == "works")
    (case,) = (bench.folder / "evidence").iterdir()
    if sender == "works":  # the witness's lie, not what the sender delivered
        kept = read_bundle(case / "delivered.safetensors", max_bytes=10_000)
        assert tensors_digest(kept.tensors) != sent.result_sha256
    await auditor.close()


@pytest.mark.parametrize("third", [{}, {"birch": "vanishes"}])
async def test_without_a_third_both_are_doubted_for_good_and_nobody_is_convicted(
    bench: Bench, third: dict[str, str]
) -> None:
    bench.memory.counts.update({"0xwillow": 100, "0xhazel": 100})
    bench.options = replace(BUYING, rates=AuditRates(1.0, 0.001))
    fleet(bench, hazel="lies", **third)
    auditor = bench.auditor()
    sent = delivery(0, "willow")
    auditor.note(sent)
    auditor.suspect(sent, "odd")
    assert await bench.reviewed(auditor, [sent]) == []
    assert bench.standing(sent) == "undecided" and bench.court.sentences == []
    await auditor.close()
    after = bench.auditor()  # and after a crash
    both = [delivery(1, "willow"), delivery(2, "hazel"), delivery(3, "birch")]
    bench.memory.counts["0xbirch"] = 100
    for one in both:
        after.note(one)
    assert bench.chances(both) == [1.0, 1.0, 0.001]
    await after.close()


async def test_where_nobody_has_equal_bits_an_item_stays_unaudited_and_that_is_said(
    bench: Bench,
) -> None:
    fleet(bench)
    auditor = bench.auditor()
    sent = delivery(0, "willow", lies=True)
    assert await bench.reviewed(auditor, [sent]) == []
    finding = bench.findings.of_delivery(sent)
    assert finding is not None
    assert (finding.standing, finding.chance) == ("unaudited", 0.0)
    assert finding.reason == "no machine with equal bits did it again"
    await auditor.close()


async def test_auto_asks_providers_only_where_this_machine_makes_other_bits(bench: Bench) -> None:
    bench.options = replace(BUYING, by="auto")
    bench.has_equal_bits = True
    asked = fleet(bench, hazel="works")
    auditor = bench.auditor()
    good = delivery(0, "willow")
    await bench.reviewed(auditor, [good])
    assert asked.asked == [] and bench.memory.counts["0xwillow"] == 1
    bench.has_equal_bits = False
    await bench.reviewed(auditor, [delivery(1, "birch")])
    assert asked.asked == [("0xbirch",)]
    await auditor.close()


async def test_what_is_bought_is_drawn_with_a_smaller_chance(bench: Bench) -> None:
    bench.options = replace(BUYING, bought=0.1)
    fleet(bench, hazel="works")
    auditor = bench.auditor()
    work = [delivery(client, f"new{client}") for client in range(4)]
    await bench.reviewed(auditor, work)
    assert bench.chances(work) == [0.1] * 4
    await auditor.close()


async def test_a_convicted_provider_is_asked_nothing_more(bench: Bench) -> None:
    bench.has_equal_bits = True
    asked = fleet(bench, hazel="works", birch="works")
    auditor = bench.auditor()
    await bench.reviewed(auditor, [delivery(0, "willow", lies=True)])
    await bench.reviewed(auditor, [delivery(1, "beech")])
    assert asked.asked[-1] == ("0xbeech", "0xwillow")
    await auditor.close()


async def test_a_machine_of_ours_that_fails_leaves_it_undecided(bench: Bench) -> None:
    bench.has_equal_bits = True
    bench.replays.said = [LocalOrderFailed("no memory")]
    fleet(bench, hazel="works", birch="works")
    auditor = bench.auditor()
    sent = delivery(0, "willow", lies=True)
    assert await bench.reviewed(auditor, [sent]) == []
    assert bench.standing(sent) == "undecided" and bench.court.sentences == []
    await auditor.close()
