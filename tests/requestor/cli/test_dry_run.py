"""`run --dry-run`: what would fail in the first round is told, with its key and a way out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from requestor.errors import ConfigError

if TYPE_CHECKING:
    from tests.requestor.cli.conftest import Program

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize(
    ("config", "overrides", "said"),
    [
        (
            "fedpg_br.yaml",
            ["env.id=Pendulum-v1"],
            "fedpg_br takes actions from a list, and those of Pendulum-v1 are continuous "
            "@ algo.name (line 11); use ppo",
        ),
        (
            "byzpg.yaml",
            ["env.id=MountainCarContinuous-v0"],
            "byzpg takes actions from a list, and those of MountainCarContinuous-v0 are",
        ),
        (
            "cartpole_dqn.yaml",
            ["env.id=Pendulum-v1"],
            "dqn takes actions from a list, and those of Pendulum-v1 are continuous @ algo.name",
        ),
        (
            "pendulum_sac.yaml",
            ["env.id=Acrobot-v1"],
            "sac takes continuous actions, and Acrobot-v1 has 3 to choose from @ algo.name",
        ),
        (
            "cartpole.yaml",
            ["algo.use_sde=true"],
            "is for continuous actions, and CartPole-v1 has 2 to choose from @ algo.use_sde",
        ),
        (
            "cartpole.yaml",
            ["algo.policy=CnnPolicy"],
            "CnnPolicy needs other observations than the 4 numbers of CartPole-v1 @ algo.policy",
        ),
        (
            "fedpg_br.yaml",
            ["federation.aggregation=transfer_best"],
            "plays merged models, and fedpg_br merges directions @ federation.aggregation.rule",
        ),
        (
            "cartpole.yaml",
            ["federation.aggregation={rule: krum, faulty_providers: 4}"],
            "8 of 8 updates may be bad (providers that may lie: 4; items of each: 2); krum bears 8 "
            "among 19 and more @ federation.aggregation.faulty_providers",
        ),
    ],
)
def test_what_cannot_work_is_an_error_of_the_config(
    program: Program, config: str, overrides: list[str], said: str
) -> None:
    error = program("run", str(CONFIGS / config), *overrides, "--dry-run").exception
    assert isinstance(error, ConfigError)
    assert f"{config}: 1 problem" in str(error)
    (problem,) = error.problems
    assert problem.startswith(said)


def test_where_wrappers_may_change_the_actions_nothing_is_said(program: Program) -> None:
    wrapped = ["env.id=Pendulum-v1", "env.wrappers=[some_package:AFewTorques]"]
    assert program("run", str(CONFIGS / "cartpole_dqn.yaml"), *wrapped, "--dry-run").exit_code == 0


def test_krum_merges_the_estimates_of_fedpg_br_too(program: Program) -> None:
    krum = "federation.aggregation=krum"
    outcome = program("run", str(CONFIGS / "fedpg_br.yaml"), krum, "--dry-run")
    assert outcome.exit_code == 0
    assert "merge: krum, bears no lying provider" in outcome.stdout
