"""Every attack by name: one line on what it is, where it comes from, and what it does where."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from requestor.attacks import vectors
from requestor.attacks.vectors import Lie

Work = Literal["honest", "altered", "none"]
"""What a liar has executed: the order, another one in its place, or nothing."""

Knowledge = Literal["own", "honest"]
"""What it must know: its own honest update, or other honest updates of the round as well."""

Wallets = Literal["own", "one"]
"""To whom the liars' nodes are paid: each to itself, or all to one wallet."""


@dataclass(frozen=True)
class Attack:
    """One way to lie.

    `update` makes up the update. `wrapper` is put around the environment, innermost; `steps_share`
    is the part of the steps that is done. `counts` are claimed in place of the number of samples
    and steps; `replays` sends the first result again; `fails` is the share of orders refused;
    `wallets` says to whom the liars' nodes are paid.
    """

    name: str
    summary: str
    source: str
    update: Lie | None = None
    work: Work = "honest"
    knowledge: Knowledge = "own"
    wrapper: str | None = None
    steps_share: float = 1.0
    counts: float | None = None
    replays: bool = False
    fails: float = 0.0
    wallets: Wallets = "own"


_FEDPG_BR = "Fan et al. 2021, arXiv 2110.14074"
_BYZPG = "Jordan et al. 2024, arXiv 2401.03489"
_WORLDS = "requestor.attacks.wrong_worlds"

_ALL = (
    Attack("noise", "its update and noise of three times its range", _FEDPG_BR, vectors.noise),
    Attack("sign_flip", "its update times -2.5", _FEDPG_BR, vectors.sign_flip),
    Attack(
        "scaling",
        "its update times 10",
        "Bagdasaryan et al. 2018, arXiv 1807.00459",
        vectors.scaling,
    ),
    Attack(
        "zero",
        "free rider: the model comes back as it went, no work is done",
        "Fraboni et al. 2020, arXiv 2006.11901",
        vectors.zero,
        work="none",
    ),
    Attack(
        "echo",
        "free rider: the last step of the global model comes back as its own work",
        "Lin et al. 2019, arXiv 1911.12560",
        vectors.echo,
        work="none",
    ),
    Attack(
        "random_action",
        "trains on episodes in which actions are drawn blindly",
        f"{_FEDPG_BR}; {_BYZPG}",
        work="altered",
        wrapper=f"{_WORLDS}:RandomActions",
    ),
    Attack(
        "reward_flip",
        "trains on rewards with the opposite sign",
        _FEDPG_BR,
        work="altered",
        wrapper=f"{_WORLDS}:FlippedRewards",
    ),
    Attack(
        "large_noise",
        "numbers of up to 1000, others for each receiver",
        _BYZPG,
        vectors.large_noise,
        work="none",
    ),
    Attack(
        "avg_zero",
        "colluders: what makes the mean of all updates zero",
        _BYZPG,
        vectors.avg_zero,
        knowledge="honest",
    ),
    Attack(
        "alie",
        "colluders: 1.5 standard deviations from the mean in every number",
        "Baruch et al. 2019, arXiv 1902.06156",
        vectors.alie,
        knowledge="honest",
    ),
    Attack(
        "ipm",
        "colluders: half the mean, with the opposite sign",
        "Xie et al. 2019, arXiv 1903.03936",
        vectors.ipm,
        knowledge="honest",
    ),
    Attack(
        "mimic",
        "colluders: all copy one honest client",
        "Karimireddy et al. 2020, arXiv 2006.09365",
        vectors.mimic,
        knowledge="honest",
    ),
    Attack(
        "just_outside",
        "colluders: just outside of what a filter by distance lets pass",
        _FEDPG_BR,
        vectors.just_outside,
        knowledge="honest",
    ),
    Attack(
        "normalized",
        "colluders: the opposite direction at the usual length",
        "Fang et al. 2025, arXiv 2502.08123",
        vectors.normalized,
        knowledge="honest",
    ),
    Attack(
        "inflated_counts",
        "honest work that claims 10^18 samples of the normaliser, or 10^12 steps",
        "Flower issue of self-reported example counts; DeRL's own",
        counts=vectors.JUNK_COUNT,
    ),
    Attack(
        "replayed",
        "the result of its first order, again and again",
        "DeRL's own",
        replays=True,
        work="none",
    ),
    Attack(
        "wrong_environment",
        "trains in a world whose actions are mirrored",
        "DeRL's own",
        work="altered",
        wrapper=f"{_WORLDS}:MirroredActions",
    ),
    Attack(
        "fewer_steps",
        "does a quarter of the steps and bills them all",
        "DeRL's own",
        work="altered",
        steps_share=0.25,
    ),
    Attack(
        "selective_failure",
        "fails every second order that it gets, does the others well",
        "DeRL's own",
        fails=0.5,
    ),
    Attack(
        "sybil_one_wallet",
        "one liar with several nodes, all paid to one wallet, that send the same",
        "Douceur 2002; Fung et al. 2018, arXiv 1808.04866",
        vectors.sybil,
        knowledge="honest",
        wallets="one",
    ),
    Attack(
        "sybil_wallets",
        "one liar with several nodes, each with a wallet of its own, that send the same",
        "Douceur 2002; Fung et al. 2018, arXiv 1808.04866",
        vectors.sybil,
        knowledge="honest",
    ),
)

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ALL}
"""All attacks by name, in the order in which they are listed."""


def find_attack(name: str) -> Attack:
    """Return the attack of a name.

    Raises:
        ValueError: there is none; the message names the nearest ones.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    near = difflib.get_close_matches(name, ATTACKS, n=2, cutoff=0.5)
    hint = f"near names: {', '.join(near)}" if near else f"known are {', '.join(ATTACKS)}"
    raise ValueError(f"no attack is called {name}; {hint}")
