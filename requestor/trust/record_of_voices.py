"""How far each provider's work was looked at in a run, and what it would have taken to hide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from requestor.trust.catching import SHARES, caught
from requestor.trust.provenance import RefusedRecord, RoundRecord, WorkRecord

Done = TypeVar("Done", WorkRecord, RefusedRecord)


@dataclass(frozen=True)
class VoiceRecord:
    """What a voice has done in a run: items merged or refused, by what is known of them.

    `caught` says, for each of `catching.SHARES`, with which chance a cheat who fakes that share
    of its items would have been found out.
    """

    voice: str
    names: tuple[str, ...]
    items: int
    audited: int
    verified: int
    faked: int
    refused: int
    caught: tuple[float, ...]


def voice_records(rounds: Iterable[RoundRecord]) -> tuple[VoiceRecord, ...]:
    """Return one entry for each voice that sent something, in the order of the voices."""
    found: dict[str, _Tally] = {}
    for one in rounds:
        for work in _of_others(one.work):
            tally = found.setdefault(work.wallet or work.provider_id, _Tally())
            tally.names[work.provider_name] = None
            tally.rates.append(_rate(work))
            tally.audited += work.standing not in ("unaudited", "pending")
            tally.verified += work.standing == "verified"
            tally.faked += work.standing == "faked"
        for refused in _of_others(one.refused):
            tally = found.setdefault(refused.wallet or refused.provider_id, _Tally())
            tally.refused += 1
            tally.audited += refused.kind == "fraud"
            tally.faked += refused.kind == "fraud"
            tally.rates.append(refused.chance)
            tally.names[refused.provider_name] = None
    return tuple(found[voice].record(voice) for voice in sorted(found))


def overall(rounds: Iterable[RoundRecord]) -> tuple[float, ...]:
    """Return the chances to have caught a cheat that stood behind every provider."""
    rates: list[float] = []
    for one in rounds:
        rates += [_rate(work) for work in _of_others(one.work)]
        rates += [refused.chance for refused in _of_others(one.refused)]
    return tuple(caught(rates, share) for share in SHARES)


def _rate(work: WorkRecord) -> float:
    """The chance to have been looked at; none where the run ended before that was done."""
    return 0.0 if work.standing == "pending" else work.chance


def _of_others(done: Iterable[Done]) -> list[Done]:
    """Return what the requestor did not do itself."""
    return [one for one in done if not one.is_own]


class _Tally:
    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.rates: list[float] = []
        self.audited = self.verified = self.faked = self.refused = 0

    def record(self, voice: str) -> VoiceRecord:
        return VoiceRecord(
            voice=voice,
            names=tuple(name for name in self.names if name),
            items=len(self.rates),
            audited=self.audited,
            verified=self.verified,
            faked=self.faked,
            refused=self.refused,
            caught=tuple(caught(self.rates, share) for share in SHARES),
        )
