"""From a config to the settings of a run, and to words about it."""

from __future__ import annotations

from decimal import Decimal

from requestor.cli.merge_plan import merging_words
from requestor.cli.renting import preferences, read_manifest
from requestor.config import (
    RunConfig,
    compression_spec,
    environment_spec,
    learner_spec,
    merger,
    state_rules,
    voice_plan,
)
from requestor.config.algorithms import Algorithm, ByzPG, FedPGBR
from requestor.config.trust import ScreeningConfig, TrustConfig
from requestor.federation.cohort_screening import Limits
from requestor.federation.gate import NotWorseGate, OpenGate
from requestor.federation.gradient_rounds import ByzPg, FedPgBr, GradientMethod
from requestor.federation.rounds import FederationSettings
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import GpuNeeds, Terms
from requestor.training_run.auditing.options import AuditOptions
from requestor.training_run.dispatching.dispatcher import DispatchOptions
from requestor.training_run.settings import EvaluationSettings, RunSettings, ScreeningSettings
from requestor.trust.audit_rates import AuditRates

GIB = 1 << 30
MOCK_IMAGE = "hash:sha3:" + "0" * 56 + ":http://127.0.0.1/provider-image.gvmi"
"""What a mock fleet is asked for when the config names no image: it runs no image anyway."""


def run_settings(
    config: RunConfig, run_id: str, registry_url: str = Terms.registry_url
) -> RunSettings:
    """Return the settings of a run under `config`, with images looked up at `registry_url`."""
    federation = config.federation
    golem = config.golem
    gate = config.evaluation.gate
    return RunSettings(
        name=config.name,
        federation=FederationSettings(
            run_seed=config.seed,
            rounds=federation.rounds,
            clients=federation.clients,
            local_steps=federation.local_steps,
            quorum=federation.quorum or federation.clients,
            merges_normalizer=federation.normalizer == "merged",
            voices=voice_plan(federation, golem),
            method=gradient_method(config.algo),
        ),
        environment=environment_spec(config),
        learner=learner_spec(config),
        rules=state_rules(config),
        merger=merger(federation, golem),
        evaluation=EvaluationSettings(
            episodes=config.evaluation.episodes,
            final_episodes=config.evaluation.final_episodes,
            every_rounds=config.evaluation.every_rounds,
            target_return=config.evaluation.target_return,
            deterministic=config.evaluation.deterministic,
            gate=(
                NotWorseGate(gate.confidence, gate.tolerance)
                if gate.rule == "not_worse"
                else OpenGate()
            ),
        ),
        dispatch=DispatchOptions(
            max_attempts=federation.max_attempts,
            speculate=federation.speculate,
            round_deadline_seconds=federation.round_deadline_seconds,
            startup_timeout_seconds=golem.startup_timeout_seconds,
            holds_quorum=federation.quorum is not None,
        ),
        order_timeout_seconds=golem.order_timeout_seconds,
        terms=run_terms(config, run_id, registry_url),
        compression=compression_spec(config),
        audits=audit_options(config.trust),
        screening=_screening(config.trust.screening),
    )


def gradient_method(algo: Algorithm) -> GradientMethod | None:
    """Return the method of federated policy gradients that `algo` is; None for a learner."""
    if isinstance(algo, FedPGBR):
        return FedPgBr(
            algo.least_episodes,
            algo.most_episodes,
            algo.server_episodes,
            algo.ratio_bound,
            algo.horizon,
        )
    if isinstance(algo, ByzPG):
        return ByzPg(algo.large_episodes, algo.small_episodes, algo.large_chance, algo.horizon)
    return None


def audit_options(trust: TrustConfig) -> AuditOptions:
    """Return how work is done again under the section `trust` of a config."""
    audits = trust.audits
    return AuditOptions(
        rates=AuditRates(audits.first, audits.least),
        by=audits.by,
        bought=audits.bought,
        when=audits.when,
        on_fraud=audits.on_fraud,
        refuse_bills=audits.refuse_bills,
        keep_rounds=trust.keep_rounds,
        keep_bytes=int(trust.keep_gib * GIB),
        screening=repr(trust.screening),
    )


def _screening(config: ScreeningConfig) -> ScreeningSettings | None:
    limits = Limits(config.norm_z, config.divergence, config.copies, config.speed)
    if limits == Limits(None, None, copies=False, speed=None):
        return None
    return ScreeningSettings(limits, config.samples if config.divergence is not None else 0)


def run_terms(config: RunConfig, run_id: str, registry_url: str = Terms.registry_url) -> Terms:
    """Return what is rented under `config`."""
    golem = config.golem
    return Terms(
        run_id=run_id,
        providers=golem.providers,
        budget_glm=golem.budget_glm,
        ceilings=Prices(
            golem.max_price.start_glm, golem.max_price.cpu_hour_glm, golem.max_price.hour_glm
        ),
        memory_gib=golem.memory_gib,
        storage_gib=golem.storage_gib,
        threads=golem.threads,
        image=golem.image or ("" if golem.manifest is not None else MOCK_IMAGE),
        image_url=golem.image_url,
        subnet=golem.subnet,
        payment_driver=golem.payment_driver,
        payment_network=golem.payment_network,
        expiration_seconds=60 * golem.expiration_minutes,
        deploy_timeout_seconds=golem.deploy_timeout_seconds,
        invoice_timeout_seconds=golem.invoice_timeout_seconds,
        daemon_patience_seconds=golem.daemon_patience_seconds,
        payment_interval_seconds=60 * golem.payment_interval_minutes,
        preferences=preferences(config),
        runtime=golem.runtime,
        gpu=GpuNeeds(golem.gpu.memory_gib, golem.gpu.model) if golem.gpu is not None else None,
        registry_url=registry_url,
        manifest=read_manifest(golem.manifest),
    )


def first_hour_glm(config: RunConfig) -> Decimal:
    """Return the most that all providers can cost in their first hour."""
    golem, ceilings = config.golem, config.golem.max_price
    hourly = ceilings.cpu_hour_glm * golem.threads + ceilings.hour_glm
    return golem.providers * (ceilings.start_glm + hourly)


def plan_record(config: RunConfig) -> dict[str, str | int]:
    """Return as plain data what a run under `config` would do and rent."""
    fed, golem = config.federation, config.golem
    return {
        "steps": fed.rounds * fed.clients * fed.local_steps,
        "providers": golem.providers,
        "mode": golem.mode,
        "subnet": golem.subnet,
        "payment_network": golem.payment_network,
        "first_hour_glm": f"{first_hour_glm(config):f}",
        "budget_glm": f"{golem.budget_glm:f}",
    }


_DAEMONS = {
    "mock": "a private mock Golem daemon",
    "testnet": "a private real yagna, cut off from every network",
    "yagna": "the yagna daemon",
}


def describe_plan(config: RunConfig) -> str:
    """Say in a few lines what a run under `config` would do and rent."""
    fed, golem, ceilings = config.federation, config.golem, config.golem.max_price
    steps = fed.rounds * fed.clients * fed.local_steps
    where = _DAEMONS[golem.mode]
    return "\n".join(
        [
            f"{config.name}: at most {fed.rounds} rounds of {fed.clients} clients, "
            f"{fed.local_steps} steps each: {steps:,} steps of {config.env.id}",
            merging_words(config),
            f"would rent {golem.providers} providers through {where} "
            f"(subnet {golem.subnet}, {golem.payment_network}), each with at least "
            f"{golem.threads} thread(s), {golem.memory_gib:g} GiB memory, "
            f"{golem.storage_gib:g} GiB storage",
            f"price ceilings: {ceilings.start_glm} GLM start, {ceilings.cpu_hour_glm} GLM per "
            f"CPU hour, {ceilings.hour_glm} GLM per hour; that is at most "
            f"{first_hour_glm(config).quantize(Decimal('0.0001'))} GLM for the first hour of all",
            f"budget: {golem.budget_glm} GLM, never exceeded",
        ]
    )
