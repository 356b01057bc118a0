"""What has to fit together between the sections of a config: pure checks over parsed sections."""

from __future__ import annotations

import re
from collections.abc import Iterator

from requestor.config.algorithms import PPO, Algorithm, FedPGBR, OffPolicy, OnPolicy, PolicyGradient
from requestor.config.contradiction import Contradiction
from requestor.config.drift import DEFAULT_PROXIMAL, DriftConfig
from requestor.config.merging import merging_contradictions
from requestor.config.sections import (
    CompressionConfig,
    EnvConfig,
    FederationConfig,
    GolemConfig,
    ManifestConfig,
)
from requestor.config.spaces import space_contradictions
from requestor.federation.merging.catalogue import JUDGED
from requestor.networks import REAL_MONEY_NETWORKS

_IMAGE_HASH = re.compile(r"(hash:sha3:)?[0-9a-f]{56}(:.+)?|lock:[a-z0-9]+")


def contradictions(
    algo: Algorithm, env: EnvConfig, federation: FederationConfig, golem: GolemConfig
) -> list[Contradiction]:
    """Everything that does not fit together, in the order of the sections."""
    found = [*space_contradictions(algo, env)]
    if isinstance(algo, OnPolicy):
        found += _on_policy(algo, env, federation)
    if isinstance(algo, OffPolicy):
        found += _off_policy(algo, env, federation)
    if isinstance(algo, PolicyGradient):
        found += _policy_gradient(algo, env, federation)
    found += _federation(federation)
    found += merging_contradictions(
        federation, golem, knows_episodes=isinstance(algo, PolicyGradient)
    )
    found += _golem(golem)
    return found


def _multiple(steps: int, unit: int, product: str) -> Iterator[Contradiction]:
    if steps % unit:
        below = steps // unit * unit
        nearest = " or ".join(str(n) for n in (below, below + unit) if n)
        yield Contradiction(
            f"must be a multiple of {product} = {unit}, is {steps}",
            "federation.local_steps",
            f"use {nearest}",
        )


def _on_policy(
    algo: OnPolicy, env: EnvConfig, federation: FederationConfig
) -> Iterator[Contradiction]:
    rollout_steps = algo.n_steps * env.n_envs
    yield from _multiple(federation.local_steps, rollout_steps, "algo.n_steps * env.n_envs")
    if federation.replay == "kept":
        yield Contradiction(
            f"{algo.name} has no replay buffer to keep", "federation.replay", "use reset"
        )
    if isinstance(algo, PPO) and algo.normalize_advantage:
        if algo.batch_size == 1:
            yield Contradiction(
                "advantages of one sample cannot be normalised",
                "algo.batch_size",
                "use 2 or more, or normalize_advantage: false",
            )
        if rollout_steps == 1:
            yield Contradiction(
                "a rollout of one step cannot be normalised",
                "algo.n_steps",
                "use 2 or more, or normalize_advantage: false",
            )


def _off_policy(
    algo: OffPolicy, env: EnvConfig, federation: FederationConfig
) -> Iterator[Contradiction]:
    if algo.train_freq.unit == "episode":
        if env.n_envs > 1:
            yield Contradiction(
                "training by episodes needs one environment",
                "algo.train_freq",
                "use env.n_envs: 1, or a number of steps",
            )
    else:
        unit = algo.train_freq.every * env.n_envs
        yield from _multiple(federation.local_steps, unit, "algo.train_freq * env.n_envs")
    kept = federation.replay == "kept"
    available = federation.local_steps * (federation.rounds if kept else 1)
    if algo.learning_starts >= available:
        span = "the whole run" if kept else "a round (replay: reset)"
        yield Contradiction(
            f"nothing would be learned: a client takes {available} steps in {span}, "
            f"learning starts after {algo.learning_starts}",
            "algo.learning_starts",
            f"use less than {available}",
        )


def _policy_gradient(
    algo: PolicyGradient, env: EnvConfig, federation: FederationConfig
) -> Iterator[Contradiction]:
    most = algo.episodes_at_most * algo.horizon
    if federation.local_steps != most:
        yield Contradiction(
            f"must be the most steps of a client's round, its episodes * algo.horizon = {most}, "
            f"is {federation.local_steps}",
            "federation.local_steps",
            f"use {most}",
        )
    if isinstance(algo, FedPGBR) and algo.least_episodes > algo.most_episodes:
        yield Contradiction(
            f"is more than algo.most_episodes, {algo.most_episodes}",
            "algo.least_episodes",
            "use less",
        )
    if env.normalize is not None:
        yield Contradiction(f"{algo.name} does not normalise", "env.normalize", "use false")
    if env.n_envs != 1:
        yield Contradiction(
            f"{algo.name} plays each episode of a round in an environment of its own",
            "env.n_envs",
            "leave it out",
        )
    if federation.aggregation.rule in JUDGED:
        yield Contradiction(
            f"plays merged models, and {algo.name} merges directions",
            "federation.aggregation.rule",
            "use fedpg_br or geometric_median",
        )
    for key in ("optimizer", "replay", "drift", "server_optimizer", "server_learning_rate"):
        if getattr(federation, key) != FederationConfig.model_fields[key].get_default():
            yield Contradiction(
                f"has no meaning for {algo.name}: the server takes all steps",
                f"federation.{key}",
                "leave it out",
            )


def _federation(federation: FederationConfig) -> Iterator[Contradiction]:
    if federation.quorum is not None and federation.quorum > federation.clients:
        yield Contradiction(
            f"asks for {federation.quorum} results of {federation.clients} clients",
            "federation.quorum",
            f"use at most {federation.clients}, or null for all",
        )
    if federation.compression is not None:
        yield from _compression(federation.compression)
    if federation.drift is not None:
        yield from _drift(federation.drift)


def _drift(drift: DriftConfig) -> Iterator[Contradiction]:
    if drift.name == "fedprox" and drift.proximal is None:
        yield Contradiction(
            "fedprox needs the weight of its term",
            "federation.drift.proximal",
            f"use {DEFAULT_PROXIMAL}, or leave it out",
        )
    if drift.name != "fedprox" and drift.proximal is not None:
        yield Contradiction(
            f"{drift.name} has no proximal term",
            "federation.drift.proximal",
            "leave it out, or use name: fedprox",
        )


def _compression(compression: CompressionConfig) -> Iterator[Contradiction]:
    codec = compression.codec
    if codec == "topk" and compression.fraction is None:
        yield Contradiction(
            "topk needs the fraction of numbers that it keeps",
            "federation.compression.fraction",
            "use 0.15, or leave it out",
        )
    if codec != "topk" and compression.fraction is not None:
        yield Contradiction(
            f"{codec} keeps all numbers",
            "federation.compression.fraction",
            "leave it out, or use codec: topk",
        )
    if codec not in ("int8", "int4") and compression.rounding != "nearest":
        yield Contradiction(
            f"{codec} rounds to nearest",
            "federation.compression.rounding",
            "leave it out, or use codec: int8 or int4",
        )


def _manifest(manifest: ManifestConfig) -> Iterator[Contradiction]:
    if (manifest.signature is None) != (manifest.certificate is None):
        yield Contradiction(
            "a signature and its certificate go together",
            "golem.manifest",
            "give both, or neither",
        )
    if manifest.node_descriptor is not None and manifest.signature is not None:
        yield Contradiction(
            "a node descriptor stands for a signature; there are both",
            "golem.manifest",
            "leave one of them out",
        )


def _golem(golem: GolemConfig) -> Iterator[Contradiction]:
    if golem.gpu is not None and golem.runtime != "vm-nvidia":
        yield Contradiction(
            f"runtime {golem.runtime} has no GPU", "golem.gpu", "use golem.runtime: vm-nvidia"
        )
    if golem.manifest is not None:
        yield from _manifest(golem.manifest)
    if golem.mode != "yagna":
        return
    if golem.image is None and golem.manifest is None:
        yield Contradiction(
            "is missing; mode yagna needs an image",
            "golem.image",
            "give the image's hash or tag, or lock:<variant> of one that `derl-image` built",
        )
    elif (
        golem.image is not None
        and golem.payment_network in REAL_MONEY_NETWORKS
        and not _IMAGE_HASH.fullmatch(golem.image)
    ):
        yield Contradiction(
            f"real money on {golem.payment_network} needs the image's hash, is {golem.image!r}; "
            "what a tag stands for can change",
            "golem.image",
            "give its 56 hex digits (SHA3-224)",
        )
    if "budget_glm" not in golem.model_fields_set:
        yield Contradiction(
            "is missing; in mode yagna there is no default for what a run may spend",
            "golem.budget_glm",
            "say how many GLM the run may cost",
        )
