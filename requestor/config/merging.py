"""From the config of the merge to what merges, and what does not fit together in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from requestor.config.aggregation import AggregationConfig, PreAggregatorConfig
from requestor.config.contradiction import Contradiction
from requestor.config.sections import FederationConfig, GolemConfig
from requestor.federation.merging.catalogue import (
    DEFAULT_ROBUST,
    JUDGED,
    OPTIMIZERS,
    PRE_AGGREGATORS,
    RULES,
    names_of,
    parameters_of,
)
from requestor.federation.merging.merger import MOST_UPDATES, Merger
from requestor.federation.merging.protocol import AggregationRule, PreAggregator, ServerOptimizer
from requestor.federation.merging.searching import SearchMissing, require_search
from requestor.federation.voices import TRUSTING, VoicePlan, plan_voices

MOST_PROVIDERS = 1000

_AT = "federation.aggregation"
_OPTIMIZER_AT = "federation.server_optimizer"


def voice_plan(federation: FederationConfig, golem: GolemConfig) -> VoicePlan:
    """Return how many updates of a round may be bad, and how many items one voice may do.

    Raises:
        ValueError: `items_per_provider` leaves items that nobody may do.
    """
    return _plan(federation.aggregation, federation.clients, golem.providers)


def merger(federation: FederationConfig, golem: GolemConfig) -> Merger:
    """Return what merges the rounds of a run."""
    aggregation = federation.aggregation
    found = Merger(voices=aggregation.voices)
    if aggregation.rule in JUDGED:
        found = replace(found, judged=_made(JUDGED[aggregation.rule], aggregation))
    elif aggregation.rule != "auto":
        found = replace(found, rule=_rule(aggregation))
    elif voice_plan(federation, golem).faulty_voices > 0:
        found = replace(found, rule=DEFAULT_ROBUST.rule, before=DEFAULT_ROBUST.before)
    if aggregation.before:
        found = replace(found, before=tuple(map(_pre_aggregator, aggregation.before)))
    return replace(found, optimizer=_optimizer(federation))


def _plan(aggregation: AggregationConfig, clients: int, providers: int) -> VoicePlan:
    faulty, most = aggregation.faulty_providers, aggregation.items_per_provider
    if aggregation.rule == "mean" and faulty == "auto":
        if most == "auto":
            return TRUSTING
        faulty = 0
    return plan_voices(
        clients,
        providers,
        None if isinstance(faulty, str) else faulty,
        None if isinstance(most, str) else most,
    )


def _rule(aggregation: AggregationConfig) -> AggregationRule:
    rule: AggregationRule = _made(RULES[aggregation.rule], aggregation)
    return rule


def _pre_aggregator(entry: PreAggregatorConfig) -> PreAggregator:
    step: PreAggregator = _made(PRE_AGGREGATORS[entry.name], entry)
    return step


def _optimizer(federation: FederationConfig) -> ServerOptimizer:
    section = federation.server_optimizer
    made: ServerOptimizer = _made(OPTIMIZERS[section.name], section)
    if section.name == "sgd" and section.learning_rate is None:
        return OPTIMIZERS["sgd"](federation.server_learning_rate)  # type: ignore[no-any-return]
    return made


def _made(kind: type[Any], section: object) -> Any:
    given = {name: getattr(section, name) for name in parameters_of(kind)}
    return kind(**{name: value for name, value in given.items() if value is not None})


# --- what does not fit ---------------------------------------------------------------------------


def merging_contradictions(
    federation: FederationConfig, golem: GolemConfig, *, knows_episodes: bool = False
) -> Iterator[Contradiction]:
    """Yield what does not fit together in how updates are merged.

    knows_episodes: each round says of how many episodes its updates are.
    """
    found = [*_parameters(federation)]
    found += _radius(federation.aggregation, knows_episodes=knows_episodes)
    found += _judged(federation.aggregation)
    found += _optimizer_parameters(federation)
    yield from found
    if found:
        return
    try:
        voices = voice_plan(federation, golem)
    except ValueError as error:
        needed = -(-federation.clients // golem.providers)
        yield Contradiction(str(error), f"{_AT}.items_per_provider", f"use {needed}, or auto")
        return
    yield from _bearing(federation, golem, voices)


def _parameters(federation: FederationConfig) -> Iterator[Contradiction]:
    aggregation = federation.aggregation
    kinds = {**RULES, **JUDGED}
    own = set().union(*map(parameters_of, kinds.values()))
    known = () if aggregation.rule == "auto" else parameters_of(kinds[aggregation.rule])
    yield from _foreign(aggregation, own, known, aggregation.rule, _AT)
    for place, entry in enumerate(aggregation.before):
        known = parameters_of(PRE_AGGREGATORS[entry.name])
        at = f"{_AT}.before[{place}]"
        yield from _foreign(entry, {"size", "limit"}, known, entry.name, at)


def _foreign(
    section: object, own: set[str], known: tuple[str, ...], name: str, at: str
) -> Iterator[Contradiction]:
    for parameter in sorted(own - set(known)):
        if getattr(section, parameter) is not None:
            fix = f"it has {', '.join(known)}" if known else "it has none; leave it out"
            yield Contradiction(f"is no parameter of {name}", f"{at}.{parameter}", fix)


def _judged(aggregation: AggregationConfig) -> Iterator[Contradiction]:
    if aggregation.rule not in JUDGED:
        return
    if aggregation.before:
        yield Contradiction(
            f"{aggregation.rule} plays updates as they are", f"{_AT}.before", "leave it out"
        )
    if aggregation.voices == "pooled":
        yield Contradiction(
            f"{aggregation.rule} judges updates, not voices", f"{_AT}.voices", "use capped"
        )
    if aggregation.rule == "evolutionary":
        try:
            require_search(aggregation.search or "cma")
        except SearchMissing as error:
            what, _, fix = str(error).partition("; fix: ")
            yield Contradiction(what, f"{_AT}.search", fix)


def _radius(
    aggregation: AggregationConfig, *, knows_episodes: bool
) -> Iterator[Contradiction]:
    if aggregation.rule != "fedpg_br":
        return
    if aggregation.sigma is None:
        for parameter in ("episodes", "delta"):
            if getattr(aggregation, parameter) is not None:
                yield Contradiction(
                    "is of the published radius, which needs sigma",
                    f"{_AT}.{parameter}",
                    "give sigma too, or leave it out: the radius then follows the cohort",
                )
    elif aggregation.episodes is None and not knows_episodes:
        yield Contradiction(
            "the published radius needs the number of episodes behind an update",
            f"{_AT}.episodes",
            "give it, or leave sigma out: the radius then follows the cohort",
        )


def _optimizer_parameters(federation: FederationConfig) -> Iterator[Contradiction]:
    section = federation.server_optimizer
    own = set().union(*map(parameters_of, OPTIMIZERS.values()))
    known = parameters_of(OPTIMIZERS[section.name])
    yield from _foreign(section, own, known, section.name, _OPTIMIZER_AT)
    if federation.server_learning_rate != 1.0 and (
        section.name != "sgd" or section.learning_rate is not None
    ):
        yield Contradiction(
            "there are two learning rates of the server",
            "federation.server_learning_rate",
            f"leave it out, and set {_OPTIMIZER_AT}.learning_rate",
        )


def heard(federation: FederationConfig, merger: Merger, voices: VoicePlan) -> tuple[int, int]:
    """Return how many rows the merge of a round has at least, and how many of them may be bad."""
    updates = federation.quorum or federation.clients
    if merger.voices == "pooled":
        return -(-updates // voices.most_items), voices.faulty_voices
    return updates, voices.faulty_items


def _bearing(
    federation: FederationConfig, golem: GolemConfig, voices: VoicePlan
) -> Iterator[Contradiction]:
    made = merger(federation, golem)
    if federation.clients > MOST_UPDATES and voices.faulty_items:
        yield Contradiction(
            f"robust rules merge at most {MOST_UPDATES} updates",
            "federation.clients",
            f"use at most {MOST_UPDATES}, or federation.aggregation: mean",
        )
        return
    rows, faulty = heard(federation, made, voices)
    if made.bears(rows, faulty):
        return
    name = names_of(made)
    if not made.bears(MOST_UPDATES, faulty):
        yield Contradiction(
            f"{name} bears no bad updates, and {voices.faulty_voices} providers may lie",
            f"{_AT}.rule",
            "use trimmed_mean, or faulty_providers: 0",
        )
        return
    what = f"{faulty} of {rows} updates may be bad"
    if made.voices == "pooled":
        what = f"{faulty} of {rows} voices may lie"
    elif voices.faulty_voices:
        what += (
            f" (providers that may lie: {voices.faulty_voices}; items of each: {voices.most_items})"
        )
    least = made.least_updates(faulty)
    fixes = "; or ".join(_ways_out(federation, golem))
    yield Contradiction(
        f"{what}; {name} bears {faulty} among {least} and more",
        f"{_AT}.faulty_providers",
        fixes or "use another rule",
    )


def _ways_out(federation: FederationConfig, golem: GolemConfig) -> Iterator[str]:
    """Yield changes with which the rule bears what it must."""
    aggregation = federation.aggregation
    faulty = _plan(aggregation, federation.clients, golem.providers).faulty_voices
    for fewer in range(faulty - 1, -1, -1):
        fewer_liars = aggregation.model_copy(update={"faulty_providers": fewer})
        if _fits(federation.model_copy(update={"aggregation": fewer_liars}), golem):
            yield f"faulty_providers: {fewer}"
            break
    if federation.quorum is not None:
        for quorum in range(federation.quorum + 1, federation.clients + 1):
            if _fits(federation.model_copy(update={"quorum": quorum}), golem):
                yield f"federation.quorum: {quorum}"
                return
    for providers in range(golem.providers + 1, MOST_PROVIDERS + 1):
        clients = max(federation.clients, providers)
        changed = federation.model_copy(update={"clients": clients})
        if _fits(changed, golem.model_copy(update={"providers": providers})):
            also = f" with federation.clients: {clients}" if clients > federation.clients else ""
            yield f"golem.providers: {providers}{also}"
            break


def _fits(federation: FederationConfig, golem: GolemConfig) -> bool:
    try:
        voices = voice_plan(federation, golem)
    except ValueError:
        return False
    made = merger(federation, golem)
    return made.bears(*heard(federation, made, voices))
