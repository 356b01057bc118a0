"""Every config that comes with DeRL can be loaded and sent."""

from pathlib import Path

import pytest

from provider_image.wire import InitialiseOrder, decode_order, encode_order
from requestor.config import environment_spec, learner_spec, load_config, state_rules

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_there_are_configs() -> None:
    assert {path.name for path in CONFIGS} >= {
        "byzantine.yaml",
        "cartpole.yaml",
        "cartpole_dqn.yaml",
        "pendulum_sac.yaml",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_loads_and_fits_into_an_order(path: Path) -> None:
    config = load_config(path)
    order = InitialiseOrder(
        run_id=config.name,
        seed=config.seed,
        environment=environment_spec(config),
        learner=learner_spec(config),
        rules=state_rules(config),
        output="model",
    )
    assert decode_order(encode_order(order)) == order
    assert config.golem.mode == "mock"
