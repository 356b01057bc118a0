"""Every random number of a run descends from the run's seed through these functions."""

from __future__ import annotations

import hashlib

SEED_BOUND = 2**31 - 1
"""Seeds are in `[0, SEED_BOUND)`: what NumPy, torch and Gymnasium all accept."""


def derive_seed(run_seed: int, purpose: str, *indices: int) -> int:
    """Return the seed for one purpose, the same on every machine.

    SHA-256 over the run's seed, the purpose and the indices, so that two purposes or two
    clients never share a stream by accident of arithmetic (as `seed + client` would).
    """
    text = "\x1f".join(["derl", str(run_seed), purpose, *map(str, indices)])
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEED_BOUND


def held_out_seeds(run_seed: int, purpose: str, episodes: int) -> tuple[int, ...]:
    """Return the environment seeds of `episodes` evaluation episodes, all different."""
    seeds: dict[int, None] = {}
    index = 0
    while len(seeds) < episodes:
        seeds[derive_seed(run_seed, purpose, index)] = None
        index += 1
    return tuple(seeds)
