"""`algo.learner`: what may stand there, and what a model that was made says of it later."""

from __future__ import annotations

import pytest

from provider_image.wire import (
    EvaluateOrder,
    FileRef,
    ModelMetadata,
    WireError,
    encode_order,
    settled,
)
from requestor.config import (
    RunConfig,
    commented_template,
    environment_spec,
    learner_spec,
    parse_config,
    resolved_yaml,
)
from requestor.config.algorithms import SB3_ALGORITHMS
from requestor.errors import ConfigError


def config(algo: str, *overrides: str) -> RunConfig:
    return parse_config(commented_template(None, algo), overrides)


def made_by(learner: str, algorithm: str = "ppo") -> ModelMetadata:
    return ModelMetadata(
        algorithm=algorithm,  # type: ignore[arg-type]
        learner=learner,  # type: ignore[arg-type]
        environment_id="E",
        observation_space="",
        action_space="",
    )


@pytest.mark.parametrize("algo", sorted(SB3_ALGORITHMS))
def test_it_is_left_open_unless_the_config_says_so(algo: str) -> None:
    assert learner_spec(config(algo)).learner == "auto"
    spec = learner_spec(config(algo, "algo.learner=sb3"))
    assert spec.learner == "sb3"
    assert "learner" not in spec.hyperparameters


def test_only_ppo_can_be_native() -> None:
    assert learner_spec(config("ppo", "algo.learner=native")).learner == "native"
    with pytest.raises(ConfigError) as refused:
        config("dqn", "algo.learner=native")
    assert "must be one of auto, sb3, is 'native'" in refused.value.problems[0]
    with pytest.raises(ConfigError) as refused:
        config("ppo", "algo.learner=nativ")
    assert "did you mean 'native'?" in refused.value.problems[0]


def test_the_template_names_it_and_a_resolved_config_has_it() -> None:
    assert "# learner: auto " in commented_template("CartPole-v1", "ppo")
    assert "learner" not in commented_template("CartPole-v1", "dqn").replace("learners", "")
    run = config("ppo", "algo.learner=native")
    assert parse_config(resolved_yaml(run)) == run


def test_what_is_open_is_settled_by_the_model() -> None:
    spec = learner_spec(config("ppo"))
    assert settled(spec, made_by("native")).learner == "native"
    assert settled(spec, made_by("sb3")).learner == "sb3"
    asked = learner_spec(config("ppo", "algo.learner=sb3"))
    assert settled(asked, made_by("native")) == asked


def test_an_order_for_a_model_says_what_executes_it() -> None:
    run = config("ppo")

    def order(learner: str) -> EvaluateOrder:
        return EvaluateOrder(
            environment=environment_spec(run),
            learner=settled(learner_spec(run), made_by(learner)),
            model=FileRef("m", "0" * 64, 0),
            seeds=(1,),
            output="o",
        )

    assert b'"learner":"native"' in encode_order(order("native"))
    with pytest.raises(ValueError, match=r"learner\.learner is auto, which may only stand where"):
        EvaluateOrder(
            environment=environment_spec(run),
            learner=learner_spec(run),
            model=FileRef("m", "0" * 64, 0),
            seeds=(1,),
            output="o",
        )
    data = encode_order(order("native")).replace(b'"learner":"native"', b'"learner":"auto"')
    from provider_image.wire import decode_order

    with pytest.raises(WireError, match=r"learner\.learner is auto"):
        decode_order(data)
