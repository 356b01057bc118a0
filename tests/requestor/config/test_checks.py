"""What has to fit together between sections."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from requestor.config import RunConfig, parse_config
from requestor.errors import ConfigError

PPO = {"name": "ppo", "n_steps": 256}
SAC = {"name": "sac"}
HASH = "5" * 56


def problem(**sections: Any) -> str:
    """The one thing wrong with a config of these sections."""
    data = {"env": {"id": "A-v1"}, "algo": {"name": "ppo"}, **sections}
    with pytest.raises(ConfigError) as caught:
        parse_config(repr(data))
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_local_steps_must_be_whole_rollouts_and_the_nearest_are_named() -> None:
    assert problem(env={"id": "A-v1", "n_envs": 4}, algo=PPO, federation={"local_steps": 3000}) == (
        "must be a multiple of algo.n_steps * env.n_envs = 1024, is 3000 "
        "@ federation.local_steps (line 1); use 2048 or 3072"
    )
    assert problem(algo=PPO, federation={"local_steps": 100}).endswith("; use 256")


def test_off_policy_local_steps_must_be_whole_training_steps() -> None:
    text = problem(algo={"name": "dqn", "train_freq": 4}, federation={"local_steps": 1001})
    assert "must be a multiple of algo.train_freq * env.n_envs = 4, is 1001" in text


def test_training_by_episodes_needs_one_environment() -> None:
    sac = {"name": "sac", "train_freq": [1, "episode"]}
    assert "algo.train_freq" in problem(env={"id": "A-v1", "n_envs": 2}, algo=sac)
    accepted = {"env": {"id": "A-v1"}, "algo": sac, "federation": {"local_steps": 777}}
    assert RunConfig.model_validate(accepted).federation.local_steps == 777


@pytest.mark.parametrize(
    ("compression", "message"),
    [
        ({"codec": "int8", "fraction": 0.1}, "int8 keeps all numbers @ federation.compression.fra"),
        ({"codec": "fp16", "rounding": "stochastic"}, "fp16 rounds to nearest @ federation.compr"),
        ("int7", "must be one of fp16, int8, int4, topk, is 'int7' @ federation.compression.codec"),
        ({"codec": "topk", "fraction": 2}, "must be at most 1.0, is 2 @ federation.compression.f"),
    ],
)
def test_a_codec_takes_what_it_knows(compression: object, message: str) -> None:
    assert problem(federation={"compression": compression}).startswith(message)


@pytest.mark.parametrize(
    ("drift", "message"),
    [
        ({"name": "scaffold", "proximal": 0.1}, "scaffold has no proximal term @ federation.drift"),
        ({"fedprox": 0}, "must be above 0.0, is 0 @ federation.drift.proximal"),
        ({"fedprox": None}, "fedprox needs the weight of its term @ federation.drift.proximal"),
        ("fedavg", "must be one of fedprox, scaffold, is 'fedavg' @ federation.drift.name"),
    ],
)
def test_a_term_against_drift_takes_what_it_knows(drift: object, message: str) -> None:
    text = f"env: {{id: A-v1}}\nalgo: {{name: ppo}}\nfederation: {{drift: {json.dumps(drift)}}}"
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert caught.value.problems[0].startswith(message)


def test_topk_needs_a_fraction() -> None:
    compression = "{codec: topk, fraction: null}"
    text = f"env: {{id: A-v1}}\nalgo: {{name: ppo}}\nfederation: {{compression: {compression}}}"
    with pytest.raises(ConfigError, match="topk needs the fraction of numbers that it keeps @ fed"):
        parse_config(text)


@pytest.mark.parametrize(
    ("replay", "fits"), [("reset", 2047), ("kept", 10 * 2048 - 1)], ids=["reset", "kept"]
)
def test_learning_must_start_before_the_steps_are_over(replay: str, fits: int) -> None:
    federation = {"replay": replay}
    text = problem(algo={**SAC, "learning_starts": fits + 1}, federation=federation)
    assert f"use less than {fits + 1}" in text
    RunConfig.model_validate(
        {
            "env": {"id": "A-v1"},
            "algo": {**SAC, "learning_starts": fits},
            "federation": federation,
        }
    )


def test_on_policy_algorithms_have_no_replay_to_keep() -> None:
    text = problem(federation={"replay": "kept"})
    assert text == "ppo has no replay buffer to keep @ federation.replay (line 1); use reset"


def test_a_quorum_is_at_most_all_clients() -> None:
    text = problem(federation={"clients": 4, "quorum": 5})
    assert "asks for 5 results of 4 clients" in text


def test_one_sample_cannot_be_normalised() -> None:
    assert "algo.batch_size" in problem(algo={"name": "ppo", "batch_size": 1})
    assert "algo.n_steps" in problem(algo={"name": "ppo", "n_steps": 1})
    RunConfig.model_validate(
        {
            "env": {"id": "A-v1"},
            "algo": {"name": "ppo", "batch_size": 1, "normalize_advantage": False},
        }
    )


YAGNA = {"mode": "yagna", "image": "me/derl:1", "budget_glm": 2}


def test_the_network_needs_an_image_and_a_budget() -> None:
    assert "golem.image" in problem(golem={"mode": "yagna", "budget_glm": 1})
    assert "golem.budget_glm" in problem(golem={"mode": "yagna", "image": "me/derl:1"})
    RunConfig.model_validate({"env": {"id": "A-v1"}, "algo": {"name": "ppo"}, "golem": YAGNA})


@pytest.mark.parametrize("network", ["polygon", "mainnet"])
def test_real_money_needs_the_hash_of_the_image(network: str) -> None:
    golem = {**YAGNA, "payment_network": network}
    assert "give its 56 hex digits" in problem(golem=golem)
    for image in (HASH, f"hash:sha3:{HASH}:http://registry.invalid/image"):
        RunConfig.model_validate(
            {
                "env": {"id": "A-v1"},
                "algo": {"name": "ppo"},
                "golem": {**golem, "image": image},
            }
        )


def test_all_contradictions_are_told_at_once() -> None:
    data = {
        "env": {"id": "A-v1"},
        "algo": {"name": "ppo"},
        "federation": {"local_steps": 1, "replay": "kept", "quorum": 9},
        "golem": {"mode": "yagna"},
    }
    with pytest.raises(ConfigError) as caught:
        parse_config(repr(data))
    paths = [text.partition(" @ ")[2].partition(" ")[0] for text in caught.value.problems]
    assert paths == [
        "federation.local_steps",
        "federation.replay",
        "federation.quorum",
        "golem.image",
        "golem.budget_glm",
    ]


def test_a_config_made_in_code_is_checked_too() -> None:
    with pytest.raises(ValidationError):
        RunConfig.model_validate(
            {"env": {"id": "A-v1"}, "algo": {"name": "ppo"}, "federation": {"quorum": 9}}
        )


def test_a_gpu_needs_the_runtime_that_has_one() -> None:
    text = problem(golem={"gpu": {"memory_gib": 16}})
    assert text == "runtime vm has no GPU @ golem.gpu (line 1); use golem.runtime: vm-nvidia"
    golem = {"runtime": "vm-nvidia", "gpu": {"memory_gib": 16, "model": "A30"}}
    data = {"env": {"id": "A-v1"}, "algo": {"name": "ppo"}, "golem": golem}
    gpu = RunConfig.model_validate(data).golem.gpu
    assert gpu is not None
    assert gpu.model == ("A30",)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"path": "m", "signature": "s"}, "a signature and its certificate go together"),
        (
            {"path": "m", "signature": "s", "certificate": "c", "node_descriptor": "n"},
            "a node descriptor stands for a signature",
        ),
    ],
)
def test_what_vouches_for_a_manifest_fits_together(manifest: Any, words: str) -> None:
    assert words in problem(golem={"manifest": manifest})


def test_a_manifest_stands_for_an_image() -> None:
    golem = {"mode": "yagna", "manifest": "m.json", "budget_glm": 1}
    data = {"env": {"id": "A-v1"}, "algo": {"name": "ppo"}, "golem": golem}
    assert RunConfig.model_validate(data).golem.image is None


def test_node_ids_need_no_quotes() -> None:
    who = "0x00a2f034232b7b571a886a485d425cacbf76f916"
    config = parse_config(
        f"{{env: {{id: A-v1}}, algo: {{name: ppo}}, golem: {{allow: [{who}, oak], block: {who}}}}}"
    )
    assert config.golem.allow == (who, "oak")
    assert config.golem.block == (who,)


def test_a_number_is_nobodys_name() -> None:
    assert "must be text, is 7" in problem(golem={"allow": [7]})
