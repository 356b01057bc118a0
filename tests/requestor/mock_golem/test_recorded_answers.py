"""The daemon gives the answers that real yagna 0.17.6 gave, call by call.

Recorded strings hold `<placeholders>` for ids and amounts: the first time one is met it takes the
value of our answer, afterwards it must stay the same, and requests are sent with it. Where the
exe-unit of the recording spoke in words of its own, `<text1>` stands for them.
"""

import json
import re
import secrets
import uuid
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio

FLEET = """
requestor: {funds_glm: 1000}
runtime: {isolation: process}
providers:
  - name: provider-1
    price: {start_glm: 0.001}
    terms: {debit_note_interval_seconds: 4}
"""
_PLACEHOLDER = re.compile(r"<[a-z]+\d+>")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")
_MILLISECONDS = re.compile(r"\d{13}")
_PATTERNS = {
    "node": "0x[0-9a-f]{40}",
    "uuid": "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "demand": "[0-9a-f]{32}-[0-9a-f]{64}",
    "proposal": "R-[0-9a-f]{64}",
    "agreement": "[0-9a-f]{64}",
    "id": "[0-9a-f]{32}",
    "amount": r"\d+\.\d+",
    "path": ".+",
}
# differences that are meant: what only the real one's exe-unit, chain or offer has in its words
_OUR_OWN_WORDS = {"internalError", "parseError", "name", "releaseTs", "insertionTs", "updateTs"}


class Replay:
    """Sends recorded requests and compares the answers."""

    def __init__(self, requestor: Any, **known: str) -> None:
        self.requestor = requestor
        self.known = {f"<{name}>": value for name, value in known.items()}
        self.known.setdefault("<node1>", requestor.address.identity)

    async def play(self, calls: list[dict[str, Any]]) -> None:
        """Play calls one after another."""
        for call in calls:
            path = self.fill(call["path"])
            query = {name: self.fill(value) for name, value in call["query"].items()}
            if call["response"] == [] or call["status"] == 408:
                query["timeout"] = "0.1"  # what is waited for in vain need not be waited for long
            body = ... if call["body"] is None else self.fill_all(call["body"])
            status, answer = await self.requestor.call(call["method"], path, body, **query)
            while "/exec/" in path and status == 200 and len(answer) < len(call["response"]):
                # ours answers as soon as one command has finished
                status, answer = await self.requestor.call("GET", path, **query)
            place = f"{call['method']} {path} -> {status} {json.dumps(answer)}"
            assert status == call["status"], place
            self.compare(call["response"], answer, place)

    def fill(self, text: str) -> str:
        """Replace placeholders by what they stand for; an unknown one gets a new id."""
        return _PLACEHOLDER.sub(lambda found: self._value(found.group()), text)

    def fill_all(self, value: Any) -> Any:
        """Replace placeholders everywhere in a body."""
        return json.loads(self.fill(json.dumps(value)))

    def _value(self, placeholder: str) -> str:
        if placeholder not in self.known:
            kind = placeholder.strip("<>0123456789")
            made_up = {
                "uuid": str(uuid.uuid4()),
                "agreement": secrets.token_hex(32),
                "id": secrets.token_hex(16),
                "image": "http://images/1",
            }
            self.known[placeholder] = made_up[kind]
        return self.known[placeholder]

    def compare(self, recorded: Any, ours: Any, place: str) -> None:
        """Check that our answer has the recorded one's form and words."""
        if isinstance(recorded, dict):
            assert isinstance(ours, dict), place
            extra = {"paymentDueDate"}  # optional: real yagna shows it on some bills only
            if place.endswith("properties"):  # of an offer: recorded are those that matter
                assert set(recorded) <= set(ours), place
            else:
                assert set(recorded) - extra == set(ours) - extra, place
            for name, value in recorded.items():
                if name in ours and name not in _OUR_OWN_WORDS:
                    self.compare(value, ours[name], f"{place} @ {name}")
        elif isinstance(recorded, list):
            assert isinstance(ours, list) and len(ours) == len(recorded), place
            for index, value in enumerate(recorded):
                self.compare(value, ours[index], f"{place} @ {index}")
        elif isinstance(recorded, float):
            assert isinstance(ours, float), place
        elif isinstance(recorded, str):
            self._compare_text(recorded, ours, place)
        elif isinstance(recorded, int) and recorded > 1_000_000_000 and recorded is not True:
            assert isinstance(ours, int), place
        else:
            assert ours == recorded, place

    def _compare_text(self, recorded: str, ours: Any, place: str) -> None:
        if recorded == "" and ours is None:
            return  # no output
        assert isinstance(ours, str), place
        if _INSTANT.fullmatch(recorded):
            assert _INSTANT.fullmatch(ours), place
            return
        pattern = ""
        position = 0
        for found in _PLACEHOLDER.finditer(recorded):
            pattern += self._literal(recorded[position : found.start()])
            name = found.group()
            kind = name.strip("<>0123456789")
            known = self.known.get(name)
            group = f"(?P<{name.strip('<>')}>{_PATTERNS.get(kind, '.+')})"
            pattern += group if known is None else re.escape(known)
            position = found.end()
        pattern += self._literal(recorded[position:])
        matched = re.fullmatch(pattern, ours, re.DOTALL)
        assert matched, f"{place}: {ours!r} is not {recorded!r}"
        self.known |= {f"<{name}>": value for name, value in matched.groupdict().items()}

    @staticmethod
    def _literal(text: str) -> str:
        return _MILLISECONDS.sub(r"\\d{13}", re.escape(text))


async def test_authentication(serve: Any, recorded_answers: Any) -> None:
    requestor = await serve()
    calls = recorded_answers["authentication"]
    wrong = {"Authorization": "Bearer nonsense"}
    status, answer = await requestor.call("GET", "/me", headers=wrong)
    assert (status, answer) == (calls[0]["status"], calls[0]["response"])
    status, answer = await requestor.call("GET", "/version/get", headers=wrong)
    assert status == 200
    Replay(requestor).compare(calls[1]["response"], answer, "version")


async def test_allocations(serve: Any, recorded_answers: Any, manual_clock: Any) -> None:
    requestor = await serve(FLEET, clock=manual_clock)
    calls = recorded_answers["allocations"]
    replay = Replay(requestor)
    await replay.play(calls[:16])
    await manual_clock.advance(4)  # the allocation made last has two seconds to live
    await replay.play(calls[16:])


async def test_demands_and_proposals(serve: Any, recorded_answers: Any, manual_clock: Any) -> None:
    await manual_clock.advance(60)  # a demand for more than half an hour would be refused
    requestor = await serve(FLEET, clock=manual_clock)
    provider = next(iter(requestor.daemon.providers))
    replay = Replay(requestor, node2=provider)
    await replay.play(recorded_answers["demands_and_proposals"])


async def test_provider_does_not_answer(
    serve: Any, recorded_answers: Any, manual_clock: Any
) -> None:
    fleet = FLEET + "    faults: [{kind: slow_approval, seconds: 1000}]"
    requestor = await serve(fleet, clock=manual_clock)
    demand = await requestor.demand()
    draft = await requestor.draft(demand)
    replay = Replay(requestor, proposal1=draft["proposalId"], demand1=demand)
    calls = recorded_answers["provider_does_not_answer"]
    await replay.play(calls[:2])
    # yagna's messages name the agreement as if it were a proposal
    replay.known["<proposal2>"] = "R-" + replay.known["<agreement1>"]
    await replay.play(calls[2:])


async def test_a_whole_agreement(serve: Any, recorded_answers: Any, manual_clock: Any) -> None:
    faults = "[{kind: reject_agreement, times: 1}, "
    faults += "{kind: activity_create_fails, status: 408, times: 1}]"
    requestor = await serve(FLEET + f"    faults: {faults}", clock=manual_clock)
    demand = await requestor.demand()
    rejected = await requestor.ok(
        "POST",
        "/market-api/v1/agreements",
        {
            "proposalId": (await requestor.draft(demand))["proposalId"],
            "validTo": "2026-11-20T04:37:00Z",
        },
    )
    replay = Replay(requestor, agreement1=rejected, demand1=demand)
    await replay.play(recorded_answers["provider_rejects"])
    agreement = await requestor.sign((await requestor.draft())["proposalId"], appSessionId="abc")
    await requestor.ok("POST", f"/market-api/v1/agreements/{agreement}/wait")
    await Replay(requestor, agreement1=agreement).play(recorded_answers["activity_not_started"])
    provider = next(iter(requestor.daemon.providers))
    replay = Replay(requestor, agreement1=agreement, node1=provider)
    await replay.play(recorded_answers["activity"])
    activities = {"id1": replay.known["<id1>"], "id2": replay.known["<id2>"]}
    allocation = await requestor.allocation()
    await manual_clock.advance(4)
    parties = {"node1": provider, "node2": requestor.address.identity}
    replay = Replay(requestor, agreement1=agreement, uuid3=allocation, **activities, **parties)
    await replay.play(recorded_answers["debit_notes"])
    amounts = {name.strip("<>"): value for name, value in replay.known.items() if "amount" in name}
    # there, <id2> is an activity that never was
    replay = Replay(
        requestor,
        agreement1=agreement,
        agreement2=rejected,
        id1=activities["id1"],
        node1=provider,
    )
    await replay.play(recorded_answers["the_end_of_an_activity"])
    await requestor.invoices(agreement)
    too_small = await requestor.allocation("0.00002")
    replay = Replay(
        requestor,
        agreement1=agreement,
        uuid2=too_small,
        uuid3=allocation,
        **activities,
        **parties,
        **amounts,
    )
    calls = recorded_answers["invoices"]
    await replay.play(calls[:10])
    await manual_clock.advance(12)  # payments go out and are confirmed
    await replay.play(calls[10:])


async def test_networks(serve: Any, recorded_answers: Any) -> None:
    requestor = await serve()
    replay = Replay(requestor, node1="0x" + "1" * 40, node2="0x" + "2" * 40)
    await replay.play(recorded_answers["vpn"])
