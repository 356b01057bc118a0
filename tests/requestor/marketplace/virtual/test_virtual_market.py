"""A virtual market: who gets an order, what honest and lying providers deliver, who comes next."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from provider_image.wire import (
    EnvironmentSpec,
    LearnerSpec,
    ModelMetadata,
    TrainOrder,
    TrainResult,
    encode_order,
    order_digest,
    read_bundle,
    write_bundle,
)
from requestor.attacks.catalogue import ATTACKS
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import Job, LeaseOver, OrderFailed, OutputFile, Terms
from requestor.marketplace.virtual.market import VirtualLease, VirtualMarketplace
from requestor.marketplace.virtual.providers import Bench, VirtualProvider, crowd

T = TypeVar("T")
CLIENTS = 3
MODEL = {"policy/w": np.array([1.0, 1.0], dtype=np.float32)}
METADATA = ModelMetadata(
    algorithm="ppo", environment_id="x", observation_space="x", action_space="x"
)
TERMS = Terms(
    run_id="r",
    providers=CLIENTS,
    budget_glm=Decimal(1),
    ceilings=Prices(),
    memory_gib=1,
    storage_gib=1,
    threads=1,
    image="",
    image_url=None,
    subnet="public",
    payment_driver="erc20",
    payment_network="hoodi",
    expiration_seconds=1,
    deploy_timeout_seconds=1,
    invoice_timeout_seconds=1,
)


class Stamping:
    """A workshop whose honest work on client c is the update (c + 1, -c - 1)."""

    def __init__(self) -> None:
        self.done: list[TrainOrder] = []

    async def train(
        self, order: TrainOrder, inputs: Mapping[str, Path], outputs: Mapping[str, Path]
    ) -> None:
        self.done.append(order)
        update = np.array([1.0, -1.0], dtype=np.float32) * (order.client + 1)
        metadata = TrainResult(
            order_sha256=order_digest(order),
            steps=order.local_steps,
            episodes=1,
            wall_seconds=0.0,
            cpu_seconds=0.0,
        )
        write_bundle(outputs[order.output], {"policy/w": update}, metadata)


def job(folder: Path, client: int) -> Job:
    reference = write_bundle(folder / "model.safetensors", MODEL, METADATA)
    order = TrainOrder(
        run_id="r",
        round=0,
        client=client,
        seed=client,
        environment=EnvironmentSpec("CartPole-v1"),
        learner=LearnerSpec("ppo"),
        local_steps=8,
        steps_done=0,
        steps_total=80,
        model=reference,
        output="result.safetensors",
    )
    return Job(
        order=encode_order(order),
        inputs={"model.safetensors": folder / "model.safetensors"},
        input_digests={"model.safetensors": reference.sha256},
        outputs={"result.safetensors": OutputFile(folder / f"result-{client}", 10_000)},
        deadline_seconds=10,
    )


def on_market(
    attack: str | None, act: Callable[[list[VirtualLease]], Awaitable[T]], spares: int = 0
) -> T:
    """Open a market of three, the first lying, and do something with its leases."""

    async def main() -> T:
        known = ATTACKS[attack] if attack else None
        providers, others = crowd(CLIENTS, 1, known, spares)
        market = VirtualMarketplace(providers, others, Stamping(), CLIENTS)
        async with market.rent(TERMS, lambda text: None) as pool:
            return await act([await pool.next_lease() for _ in range(CLIENTS)])

    return asyncio.run(main())


def test_honest_work_arrives_with_its_digest(tmp_path: Path) -> None:
    async def act(leases: list[VirtualLease]) -> Mapping[str, str]:
        return await leases[2].execute(job(tmp_path, 2))

    claimed = on_market(None, act)
    content = (tmp_path / "result-2").read_bytes()
    assert claimed == {"result.safetensors": hashlib.sha256(content).hexdigest()}
    bundle = read_bundle(tmp_path / "result-2", max_bytes=10_000)
    assert bundle.tensors["policy/w"].tolist() == [3.0, -3.0]


def test_a_colluder_waits_for_the_honest_and_uses_what_they_did(tmp_path: Path) -> None:
    async def act(leases: list[VirtualLease]) -> None:
        liar = asyncio.create_task(leases[0].execute(job(tmp_path, 0)))
        await leases[1].execute(job(tmp_path, 1))
        assert not liar.done()
        await leases[2].execute(job(tmp_path, 2))
        await liar

    on_market("ipm", act)
    # honest: (2, -2) and (3, -3), so their mean is (2.5, -2.5); half of it, turned round
    bundle = read_bundle(tmp_path / "result-0", max_bytes=10_000)
    assert bundle.tensors["policy/w"].tolist() == [-1.25, 1.25]


def test_a_selective_failure_is_a_failed_order(tmp_path: Path) -> None:
    async def act(leases: list[VirtualLease]) -> None:
        for client in (1, 2):
            await leases[client].execute(job(tmp_path, client))
        await leases[0].execute(job(tmp_path, 0))
        with pytest.raises(OrderFailed, match="memory"):
            await leases[0].execute(job(tmp_path, 0))

    on_market("selective_failure", act)


def test_who_is_let_go_twice_is_replaced_by_a_spare(tmp_path: Path) -> None:
    async def act(leases: list[VirtualLease]) -> list[str]:
        names = []
        lease = leases[0]
        for _ in range(3):
            lease.release("unusable", avoid=True, failure="bad_result")
            lease = await lease.pool.next_lease()
            names.append(lease.info.provider_name)
        with pytest.raises(LeaseOver):
            await leases[0].execute(job(tmp_path, 0))
        return names

    assert on_market("sign_flip", act, spares=1) == ["liar-1", "spare-1", "spare-1"]


def test_a_lease_that_is_merely_given_back_is_the_same_provider_s_again() -> None:
    provider = VirtualProvider("a")
    bench = Bench([VirtualProvider("b")])
    for _ in range(3):
        assert bench.instead_of(provider, avoid=False, failure="other") is provider


def test_nodes_of_one_wallet_are_one_voice_of_the_crowd() -> None:
    for name, nodes in (("sybil_one_wallet", 5), ("sybil_wallets", 4)):
        providers, _ = crowd(4, 2, ATTACKS[name])
        assert len(providers) == nodes
        assert len({provider.voice for provider in providers}) == 4
