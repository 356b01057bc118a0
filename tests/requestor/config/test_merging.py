"""How updates are merged, as configs say it, and what does not fit."""

from __future__ import annotations

import pytest
import yaml

from requestor.config import RunConfig, merger, parse_config, resolved_yaml, voice_plan
from requestor.errors import ConfigError
from requestor.federation.merging import searching
from requestor.federation.merging.catalogue import DEFAULT_ROBUST
from requestor.federation.merging.centre_rules import CenteredClipping, FedPgFilter, GeometricMedian
from requestor.federation.merging.coordinate_rules import TrimmedMean, WeightedMean
from requestor.federation.merging.judged import Evolutionary, PerformanceWeighted, TransferBest
from requestor.federation.merging.merger import Merger
from requestor.federation.merging.pre_aggregators import (
    AdaptiveRobustClipping,
    Bucketing,
    NearestNeighbourMixing,
    NormClipping,
)
from requestor.federation.merging.selection_rules import MultiKrum
from requestor.federation.merging.server_optimizers import Adam, Nesterov, Sgd
from requestor.federation.voices import TRUSTING, VoicePlan

MINIMAL = "env: {id: CartPole-v1}\nalgo: {name: ppo, n_steps: 256}\n"


def config(*overrides: str) -> RunConfig:
    return parse_config(MINIMAL, overrides)


def made(*overrides: str) -> Merger:
    parsed = config(*overrides)
    return merger(parsed.federation, parsed.golem)


def problem(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(*overrides)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_few_providers_are_trusted_and_merged_by_the_mean() -> None:
    assert made("golem.providers=4") == Merger(WeightedMean(), (), Sgd(1.0), "capped")
    assert voice_plan(config().federation, config().golem).faulty_items == 0


def test_from_five_providers_on_the_default_is_robust() -> None:
    five = config("golem.providers=5")
    assert merger(five.federation, five.golem) == DEFAULT_ROBUST
    # a quarter of four others lies; 8 items of 5 providers are 2 each at most
    assert voice_plan(five.federation, five.golem) == VoicePlan(1, 2, 2)


@pytest.mark.parametrize("clients", range(1, 30))
def test_the_default_always_bears_what_it_must(clients: int) -> None:
    for providers in range(1, 40):
        config(f"federation.clients={clients}", f"golem.providers={providers}")


@pytest.mark.parametrize("name", ["mean", "fedavg"])
def test_whoever_asks_for_the_mean_gets_it(name: str) -> None:
    overrides = ("golem.providers=20", "federation.clients=20", f"federation.aggregation={name}")
    parsed = config(*overrides)
    assert merger(parsed.federation, parsed.golem) == Merger()
    assert voice_plan(parsed.federation, parsed.golem) == TRUSTING


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trimmed_mean", Merger(TrimmedMean())),
        ("{rule: multi_krum, chosen: 2}", Merger(MultiKrum(2))),
        (
            "{rule: geometric_median, iterations: 8, smoothing: 0.1}",
            Merger(GeometricMedian(8, 0.1)),
        ),
        ("{rule: centered_clipping, radius: 10}", Merger(CenteredClipping(radius=10))),
        (
            "{rule: fedpg_br, sigma: 0.06, episodes: 16, alpha: 0.4}",
            Merger(FedPgFilter(0.06, 16, alpha=0.4)),
        ),
        ("{rule: trimmed_mean, voices: pooled}", Merger(TrimmedMean(), voices="pooled")),
        (
            "{rule: trimmed_mean, before: [nearest_neighbour_mixing, {bucketing: 3}, arc]}",
            Merger(
                TrimmedMean(), (NearestNeighbourMixing(), Bucketing(3), AdaptiveRobustClipping())
            ),
        ),
        (
            "{rule: trimmed_mean, before: [norm_clipping, {norm_clipping: {limit: 2}}, bucketing]}",
            Merger(TrimmedMean(), (NormClipping(), NormClipping(2), Bucketing())),
        ),
        (
            "{rule: performance, weighting: rank, trial_episodes: 3}",
            Merger(judged=PerformanceWeighted("rank", 1.0, 3)),
        ),
        ("transfer_best", Merger(judged=TransferBest())),
        (
            "{rule: evolutionary, search: differential_evolution, evaluations: 9}",
            Merger(judged=Evolutionary("differential_evolution", 9)),
        ),
        ("{rule: trimmed_mean, before: arc}", Merger(TrimmedMean(), (AdaptiveRobustClipping(),))),
    ],
)
def test_a_rule_is_a_name_or_a_mapping(text: str, expected: Merger) -> None:
    overrides = ("golem.providers=8", f"federation.aggregation={text}")
    assert made(*overrides) == expected
    again = parse_config(resolved_yaml(config(*overrides)))
    assert merger(again.federation, again.golem) == expected


def test_what_is_not_set_is_not_written() -> None:
    written = yaml.safe_load(resolved_yaml(config("federation.aggregation=krum")))["federation"]
    assert written["aggregation"] == {
        "rule": "krum",
        "faulty_providers": "auto",
        "items_per_provider": "auto",
        "voices": "capped",
        "before": [],
    }
    assert written["server_optimizer"] == {"name": "sgd"}


@pytest.mark.parametrize(
    ("overrides", "optimizer"),
    [
        (["federation.server_learning_rate=0.5"], Sgd(0.5)),
        (["federation.server_optimizer=nesterov"], Nesterov(0.7, 0.9)),
        (["federation.server_optimizer={name: sgd, learning_rate: 0.25}"], Sgd(0.25)),
        (
            ["federation.server_optimizer={name: adam, learning_rate: 0.1, beta1: 0, tau: 1}"],
            Adam(0.1, 0.0, 0.99, 1),
        ),
    ],
)
def test_the_server_s_optimizer(overrides: list[str], optimizer: object) -> None:
    assert made(*overrides).optimizer == optimizer


def test_items_and_liars_can_be_said() -> None:
    parsed = config(
        "golem.providers=6",
        "federation.clients=12",
        "federation.aggregation={faulty_providers: 1, items_per_provider: 4}",
    )
    assert voice_plan(parsed.federation, parsed.golem) == VoicePlan(1, 4, 4)


EIGHT = ("golem.providers=8",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        # 3 of 8: Bulyan takes 4 * 3 + 3 = 15, and with one liar fewer 11, with two 7
        (
            (*EIGHT, "federation.aggregation={rule: bulyan, faulty_providers: 3}"),
            "3 of 8 updates may be bad (providers that may lie: 3; items of each: 1); bulyan bears "
            "3 among 15 and more @ federation.aggregation.faulty_providers (override); "
            "faulty_providers: 1; or golem.providers: 15 with federation.clients: 15",
        ),
        # 8 in buckets of 3 are 3 buckets, 2 * 2 + 1 = 5 are needed: 13 to 15 updates
        (
            (
                *EIGHT,
                "federation.aggregation={rule: trimmed_mean, faulty_providers: 2, "
                "before: [{bucketing: 3}]}",
            ),
            "2 of 8 updates may be bad (providers that may lie: 2; items of each: 1); bucketing + "
            "trimmed_mean bears 2 among 13 and more @ federation.aggregation.faulty_providers "
            "(override); faulty_providers: 1; or golem.providers: 13 with federation.clients: 13",
        ),
        (
            (*EIGHT, "federation.aggregation={voices: pooled, faulty_providers: 4}"),
            "4 of 8 voices may lie; trimmed_mean bears 4 among 9 and more @ "
            "federation.aggregation.faulty_providers (override); faulty_providers: 3; or "
            "golem.providers: 9 with federation.clients: 9",
        ),
        (
            (*EIGHT, "federation.quorum=2"),
            "1 of 2 updates may be bad (providers that may lie: 1; items of each: 1); trimmed_mean "
            "bears 1 among 3 and more @ federation.aggregation.faulty_providers; "
            "faulty_providers: 0; or federation.quorum: 3",
        ),
        (
            (*EIGHT, "federation.aggregation={rule: mean, faulty_providers: 2}"),
            "mean bears no bad updates, and 2 providers may lie @ federation.aggregation.rule "
            "(override); use trimmed_mean, or faulty_providers: 0",
        ),
        (
            ("golem.providers=5", "federation.aggregation.items_per_provider=1"),
            "5 providers with at most 1 items each do 5 of 8 @ "
            "federation.aggregation.items_per_provider (override); use 2, or auto",
        ),
        (
            ("federation.clients=5000", *EIGHT),
            "robust rules merge at most 4096 updates @ federation.clients (override); use at most "
            "4096, or federation.aggregation: mean",
        ),
        (
            ("federation.aggregation={rule: krum, radius: 2}",),
            "is no parameter of krum @ federation.aggregation.radius (override); it has none; "
            "leave it out",
        ),
        (
            (*EIGHT, "federation.aggregation={rule: trimmed_mean, before: [{arc: 2}]}"),
            "is no parameter of arc @ federation.aggregation.before[0].size (override); it has "
            "none; leave it out",
        ),
        (
            (*EIGHT, "federation.aggregation={rule: fedpg_br, sigma: 1}"),
            "the published radius needs the number of episodes behind an update @ "
            "federation.aggregation.episodes (override); give it, or leave sigma out: the radius "
            "then follows the cohort",
        ),
        (
            ("federation.server_optimizer={name: adam, beta: 0.5}",),
            "is no parameter of adam @ federation.server_optimizer.beta (override); it has "
            "learning_rate, beta1, beta2, tau",
        ),
        (
            ("federation.server_optimizer=yogi", "federation.server_learning_rate=2"),
            "there are two learning rates of the server @ federation.server_learning_rate "
            "(override); leave it out, and set federation.server_optimizer.learning_rate",
        ),
        (
            ("federation.aggregation={rule: transfer_best, before: arc}",),
            "transfer_best plays updates as they are @ federation.aggregation.before (override); "
            "leave it out",
        ),
        (
            ("federation.aggregation={rule: performance, voices: pooled}",),
            "performance judges updates, not voices @ federation.aggregation.voices (override); "
            "use capped",
        ),
        (("federation.aggregation={rul: krum}",), "did you mean 'rule'?"),
        (("federation.aggregation=krun",), "did you mean 'krum'?"),
        (("federation.aggregation={before: [bucketin]}",), "did you mean 'bucketing'?"),
        (("federation.aggregation.faulty_providers=-1",), "must be auto, or a whole number of at"),
        (("federation.server_optimizer=adagrat",), "did you mean 'adagrad'?"),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(
    overrides: tuple[str, ...], message: str
) -> None:
    assert message in problem(*overrides)


def test_a_search_whose_library_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(searching, "import_module", absent)
    assert problem("federation.aggregation=evolutionary") == (
        "the merge's search cma needs cma @ federation.aggregation.search (override); "
        "pip install derl[merging]"
    )
