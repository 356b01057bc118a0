"""Golem's payment networks: which are real money, which are no more, and how they are named."""

from __future__ import annotations

REAL_MONEY_NETWORKS = frozenset({"mainnet", "polygon"})
"""Payment networks on which GLM is real money."""

RETIRED_NETWORKS = frozenset({"holesky", "goerli", "rinkeby", "mumbai"})
"""Test networks that are no more; yapapi's default is one of them."""


def payment_platform(driver: str, network: str) -> str:
    """Return the name by which daemons know a way of paying, e.g. `erc20-hoodi-tglm`."""
    token = "glm" if network in REAL_MONEY_NETWORKS else "tglm"
    return f"{driver}-{network}-{token}"
