"""What `derl-request init` writes can be run as it is, for every algorithm."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from requestor.config import commented_template, load_config, parse_config
from requestor.config.algorithms import SB3_ALGORITHMS
from requestor.errors import UsageError


@pytest.mark.parametrize("algo", sorted(SB3_ALGORITHMS))
def test_a_template_loads_as_it_is(tmp_path: Path, algo: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(commented_template(None, algo.upper()))
    config = load_config(path)
    assert config.algo.name == algo
    assert config.env.id == ("Pendulum-v1" if algo in ("sac", "td3", "ddpg") else "CartPole-v1")


@pytest.mark.parametrize("algo", sorted(SB3_ALGORITHMS))
def test_what_is_commented_out_can_be_switched_on(algo: str) -> None:
    """Comments that show a key are true: with them in force the config is still valid."""
    lines = commented_template(None, algo).splitlines()
    shown = [line for line in lines if line.startswith("  # ") and ":" in line.split("#")[1]]
    kept = [line for line in shown if "fleet:" not in line]
    assert len(kept) == len(shown) - 1
    text = "\n".join(line.replace("  # ", "  ", 1) if line in kept else line for line in lines)
    config = parse_config(text)
    assert config.golem.image == "lock:auto"
    assert config.federation.quorum == 6
    assert config.algo.policy_kwargs.net_arch == [64, 64]


@given(st.text(min_size=1, max_size=60))
@example("0E0")
def test_any_environment_id_is_written_safely(env_id: str) -> None:
    assert parse_config(commented_template(env_id, "ppo")).env.id == env_id


@pytest.mark.parametrize("env_id", ["no", "1", "null", "a: b", "x # y", "- z", "m:C", "A/B-v5"])
def test_ids_that_look_like_something_else_stay_text(env_id: str) -> None:
    assert parse_config(commented_template(env_id, "ppo")).env.id == env_id


def test_an_unknown_algorithm_is_told() -> None:
    with pytest.raises(UsageError, match="unknown algorithm 'trpo'"):
        commented_template("CartPole-v1", "trpo")
