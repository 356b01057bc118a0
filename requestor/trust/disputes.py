"""Two did the same work and came to different ends: who of them is wrong, found by bisection.

Work is a hash chain (FORMAT.md, section 6): each link commits to all before it. Both chains are
known, so the first link in which they differ is too, and only what leads up to that is done once
more. A provider is convicted when two executions that know nothing of each other agree
against it, one of them on this machine, and never otherwise: one machine may err, and ours too.
(Refereed delegation: Canetti, Riva, Rothblum 2011; Verde, arXiv 2502.19405.)

Who does it again is this machine, or a provider with equal bits. Providers may collude, as no
machine of ours can, and wallets are free: two liars with one lie are two against an honest third.
So this machine has the say wherever its bits are equal. Elsewhere whom two others oppose is
*contradicted*: its work is not believed, and somebody else does it, but nobody is convicted.

The state before a link is never taken from one party alone: its link commits to weights,
optimizer and moments, not to the random numbers and environments to go on with, so that a liar
could hand over a state from which an honest replay ends in its lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Outcome = Literal["verified", "convicted", "contradicted", "undecided"]


@dataclass(frozen=True)
class Account:
    """How one execution of an order went: by whom, the chain so far, and the update's digest.

    `by` is a voice, or None for this machine. `links` are those that it did, from the first;
    `result_sha256` is empty where it did not do all of the order.
    """

    by: str | None
    links: tuple[str, ...]
    result_sha256: str = ""


@dataclass(frozen=True)
class Replay:
    """What is to be done once more, by an execution of its own: the first `last` links, or all."""

    last: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What came of it: which voice is wrong, and from which link (from 1) on, None for no link.

    `convicted` faked it; of `contradicted` two others say so, and no more than they is known.
    """

    outcome: Outcome
    convicted: tuple[str, ...] = ()
    link: int | None = None
    reason: str = ""
    contradicted: tuple[str, ...] = ()


def first_difference(one: Sequence[str], two: Sequence[str]) -> int | None:
    """Return the number (from 1) of the first link in which two chains differ, None if in none."""
    pairs = zip(one, two, strict=False)
    found = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), None)
    if found is None and len(one) != len(two):
        return min(len(one), len(two)) + 1
    return found


def agree(one: Account, two: Account) -> bool:
    """Tell whether two whole accounts are the same to the last bit."""
    return one.result_sha256 == two.result_sha256 and one.links == two.links


@dataclass(frozen=True)
class Dispute:
    """A whole account of an order, that of the `accused`, and what others say of it.

    `witness` has done all of it too. It may be this machine or a provider of the same fingerprint
    as the accused; so may `referee`, of which another provider has done all of it. Ask
    `next_replay` for what to do, `heard` it, until there is a `verdict`.
    """

    accused: Account
    witness: Account | None = None
    referee: Account | None = None
    silent: frozenset[str] = frozenset()
    """Voices that were asked in vain, or are not believed."""

    is_hopeless: bool = False
    """No independent execution is to be had any more."""

    @property
    def barred(self) -> frozenset[str]:
        """The voices that must not be asked: each has one word, whichever it is."""
        accounts = (self.accused, self.witness, self.referee)
        return self.silent | {one.by for one in accounts if one is not None and one.by is not None}

    @property
    def doubted(self) -> frozenset[str]:
        """The voices one of which at least is wrong, and nobody can tell which."""
        open_ends = ("undecided", "contradicted")
        if self.verdict is None or self.verdict.outcome not in open_ends or self.witness is None:
            return frozenset()
        return self.barred - self.silent

    @property
    def link(self) -> int | None:
        """The first link (from 1) in which the two differ; None if it is only in the update."""
        if self.witness is None:
            return None
        return first_difference(self.accused.links, self.witness.links)

    @property
    def next_replay(self) -> Replay | None:
        """What has to be done once more; None when nothing has."""
        if self.verdict is not None:
            return None
        if self.witness is None:
            return Replay()
        shorter = min(len(self.accused.links), len(self.witness.links))
        # where one of the two has no such link, only the whole work can tell
        is_common = self.link is not None and self.link <= shorter
        return Replay(self.link if is_common else None)

    def heard(self, account: Account) -> Dispute:
        """Return the dispute with another account: of the witness, then of the referee."""
        if self.witness is None:
            return replace(self, witness=account)
        return replace(self, referee=account)

    def vanished(self, voice: str) -> Dispute:
        """Return the dispute after a voice was asked and did not answer."""
        return replace(self, silent=self.silent | {voice})

    def without_witness(self) -> Dispute:
        """Return what is left when the witness is not believed: that does not clear the accused.

        A referee that did all of the work is the next witness.
        """
        is_whole = self.referee is not None and self.referee.result_sha256
        liar = self.witness.by if self.witness is not None else None
        silent = self.silent if liar is None else self.silent | {liar}
        return Dispute(self.accused, self.referee if is_whole else None, silent=silent)

    def given_up(self) -> Dispute:
        """Return the dispute with nobody left to ask."""
        return replace(self, is_hopeless=True)

    @property
    def verdict(self) -> Verdict | None:
        """Who is wrong; None while that is open."""
        if self.witness is None:
            reason = "nobody with equal bits could do it again"
            return Verdict("undecided", reason=reason) if self.is_hopeless else None
        if agree(self.accused, self.witness):
            return Verdict("verified")
        if self.referee is None:
            if self.is_hopeless:
                return Verdict("undecided", link=self.link, reason="nobody else could do it again")
            return None
        backs_accused = self._backs(self.accused, self.referee)
        backs_witness = self._backs(self.witness, self.referee)
        if backs_witness and not backs_accused:
            return self._against(self.accused, self.witness, self.referee)
        if backs_accused and not backs_witness:
            return self._against(self.witness, self.accused, self.referee)
        return Verdict(
            "undecided", link=self.link, reason="three executions came to three different ends"
        )

    def _backs(self, party: Account, referee: Account) -> bool:
        """Tell whether a referee's account is that of a party, as far as it was asked for."""
        if party.by is not None and party.by == referee.by:
            return False  # its own word once more
        link = self.link
        if link is None or link > min(len(party.links), len(referee.links)):
            return agree(party, referee)
        return party.links[:link] == referee.links[:link]

    def _against(self, party: Account, *others: Account) -> Verdict:
        if party.by is None:  # this machine erred: nobody is to blame, and it is no judge
            return Verdict("undecided", link=self.link, reason="this machine contradicts itself")
        where = "in its update" if self.link is None else f"from link {self.link} on"
        if any(other.by is None for other in others):
            agreed = "two independent executions agree on another result"
            return Verdict("convicted", (party.by,), self.link, f"{agreed}, {where}")
        agreed = "two other providers agree on another result"
        unsure = "this machine makes other bits and cannot tell who is right"
        return Verdict(
            "contradicted",
            link=self.link,
            reason=f"{agreed}, {where}; {unsure}",
            contradicted=(party.by,),
        )
