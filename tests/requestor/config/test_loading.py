"""Reading whole configs: every problem at once, hints, fleets, the written-back form."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from requestor.config import RunConfig, load_config, parse_config, resolved_yaml
from requestor.config.algorithms import SB3_ALGORITHMS
from requestor.errors import ConfigError

MINIMAL = "env: {id: CartPole-v1}\nalgo: {name: ppo}\ngolem: {mode: yagna, image: i, budget_glm: 1}"


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, overrides, source="x.yaml")
    assert str(caught.value).startswith(f"x.yaml: {len(caught.value.problems)} problem")
    return list(caught.value.problems)


def written(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_minimal_config_has_sb3_defaults_and_a_name() -> None:
    config = parse_config(MINIMAL)
    assert config.name == "ppo-CartPole-v1"
    assert config.seed == 0
    assert config.algo.name == "ppo"
    assert config.algo.learning_rate.start == 3e-4
    assert config.federation.clients == 8


@pytest.mark.parametrize(
    ("environment", "name"),
    [("ALE/Pong-v5", "ppo-ALE-Pong-v5"), ("my_module:MyEnv", "ppo-my_module-MyEnv")],
)
def test_a_default_name_can_be_a_folder_name(environment: str, name: str) -> None:
    assert parse_config(MINIMAL, [f"env.id={environment}"]).name == name
    assert parse_config(MINIMAL, ["name=mine"]).name == "mine"
    assert "@ name" in problems(MINIMAL, "name=../up")[0]


def test_every_problem_is_told_at_once_with_its_place() -> None:
    found = problems(
        "env: {id: A, n_envs: 0}\n"
        "algo:\n  name: ppo\n  n_step: 4\n  batch_size: '64'\n"
        "federation: {clients: true}\n",
        "seed",
        "golem.budget=3",
        "evaluation.gate.confidence=1.5",
    )
    assert found == [
        "override 'seed' must be key=value, like federation.rounds=3",
        "must be at least 1, is 0 @ env.n_envs (line 1)",
        "must be a whole number, is '64' @ algo.batch_size (line 5)",
        "unknown key 'n_step' @ algo.n_step (line 4); did you mean 'n_steps'?",
        "must be a whole number, is true @ federation.clients (line 6)",
        "unknown key 'budget' @ golem.budget (override); did you mean 'budget_glm'?",
        "must be below 1.0, is 1.5 @ evaluation.gate.confidence (override)",
    ]


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("algo.gama=1", "did you mean 'gamma'?"),
        ("env.normalise=true", "did you mean 'normalize'?"),
        ("env.normalize={norm_obs: true, clip: 1}", "known are observations, rewards"),
        ("golem.max_price.hour=1", "did you mean 'hour_glm'?"),
        ("env.wrappers=[{name: A, kwarg: 1}]", "did you mean 'kwargs'?"),
        ("algo.policy_kwargs={net_arc: [1]}", "did you mean 'net_arch'?"),
        ("rounds=3", "did you mean federation.rounds?"),
        ("n_envs=3", "did you mean env.n_envs?"),
        ("payment_network=hoodi", "did you mean golem.payment_network?"),
        ("federation.zzz=3", "known are rounds, clients"),
        ("algo.n_timesteps=1e5", "set federation.rounds and federation.local_steps instead"),
        ("algo.device=cuda", "processor"),
        ("algo.seed=1", "set seed at the top level"),
        ("algo.n_envs=8", "set env.n_envs instead"),
        ("algo.replay_buffer_class=HerReplayBuffer", "code cannot be sent"),
        ("algo.policy=mlppolicy", "did you mean 'MlpPolicy'?"),
        ("algo.name=pppo", "did you mean 'ppo'?"),
        ("federation.optimizer=merge", "did you mean 'merged'?"),
        ("golem.payment_network=hody", "did you mean 'hoodi'?"),
    ],
)
def test_mistakes_get_the_nearest_right_thing(override: str, hint: str) -> None:
    found = problems(MINIMAL, override)
    assert len(found) == 1
    assert hint in found[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["is missing @ env", "is missing @ algo"]),
        ("env: 3\nalgo: {name: ppo}", ["must be a section with keys, is 3 @ env (line 1)"]),
        (
            "env: {id: A}\nalgo: {n_steps: 3}",
            [
                "name is missing; must be one of ppo, a2c, dqn, sac, td3, ddpg, fedpg_br, byzpg "
                "@ algo (line 2)"
            ],
        ),
        ("env: {id: 3}\nalgo: {name: ppo}", ["must be text, is 3 @ env.id (line 1)"]),
    ],
)
def test_configs_with_holes(text: str, found: list[str]) -> None:
    assert problems(text) == found


def test_code_in_a_config_is_refused_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    for override in (
        f'algo.policy_kwargs="dict(net_arch={code})"',
        f'env.kwargs="{code}"',
        f'env.normalize="{code}"',
    ):
        assert "is not allowed" in problems(MINIMAL, override)[0]
    assert not trap.exists()


def test_zoo_spellings_are_understood() -> None:
    config = parse_config(
        """
env:
  id: A-v1
  n_envs: 8
  normalize: "{'norm_obs': True, 'norm_reward': False}"
  wrappers:
    - gymnasium.wrappers.TimeAwareObservation
    - rl_zoo3.wrappers.FrameSkip: {skip: 2}
    - {name: "mine:Wrapper"}
algo:
  name: PPO
  n_steps: !!float 256
  learning_rate: lin_3e-4
  clip_range: lin_0.2
  policy_kwargs: "dict(net_arch=[dict(pi=[64], vf=[32])], activation_fn=nn.ReLU)"
golem: {mode: yagna, image: i, budget_glm: 1}
"""
    )
    assert config.env.normalize is not None
    assert config.env.normalize.observations
    assert not config.env.normalize.rewards
    assert [(w.name, w.kwargs) for w in config.env.wrappers] == [
        ("TimeAwareObservation", {}),
        ("rl_zoo3.wrappers:FrameSkip", {"skip": 2}),
        ("mine:Wrapper", {}),
    ]
    assert config.algo.name == "ppo"
    assert config.algo.n_steps == 256
    assert config.algo.learning_rate.end == 0.0
    assert config.algo.policy_kwargs.net_arch == {"pi": [64], "vf": [32]}
    assert config.algo.policy_kwargs.activation_fn == "relu"


@pytest.mark.parametrize("value", ["[64, 0]", "[64.5]", "3", "{pi: [1]}", "{pi: [1], qf: [1]}"])
def test_net_arch_has_layers_or_the_heads_of_the_policy(value: str) -> None:
    found = problems(MINIMAL, f"algo.policy_kwargs.net_arch={value}")
    assert "must be a list of layer sizes or {pi: [...], vf: [...]}" in found[0]


def test_fleets_are_relative_to_the_config_and_in_overrides_to_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    beside = written(tmp_path / "configs", "", "f.yaml")
    here = written(tmp_path / "elsewhere", "", "g.yaml")
    text = "env: {id: A}\nalgo: {name: ppo}\ngolem: {fleet: f.yaml}"
    path = written(tmp_path / "configs", text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_config(path).golem.fleet == beside.resolve()
    assert load_config(path, ["golem.fleet=g.yaml"]).golem.fleet == here.resolve()
    with pytest.raises(ConfigError, match=r"no such file: .*h.yaml @ golem.fleet \(override\)"):
        load_config(path, ["golem.fleet=h.yaml"])


def test_the_files_of_a_manifest_are_relative_to_the_config_and_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "here.json").touch()
    manifest = tmp_path / "sub" / "m.json"
    manifest.touch()
    path = tmp_path / "sub" / "x.yaml"
    text = "env: {id: A}\nalgo: {name: ppo}\ngolem: {manifest: m.json}"
    path.write_text(text)

    def read(*overrides: str) -> Path:
        found = load_config(path, overrides).golem.manifest
        assert found is not None
        return found.path

    assert read() == manifest.resolve()
    assert read("golem.manifest=here.json") == (tmp_path / "here.json").resolve()
    with pytest.raises(ConfigError, match=r"no such file: .*gone.json @ golem.manifest"):
        read("golem.manifest=gone.json")


def test_without_a_fleet_the_one_that_comes_with_derl_is_taken(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "env: {id: A}\nalgo: {name: ppo}"))
    assert config.golem.fleet is not None
    assert config.golem.fleet.is_absolute()
    assert config.golem.fleet.name == "four.yaml"


def test_toml_and_yaml_give_the_same_config(tmp_path: Path) -> None:
    toml = """
[env]
id = "CartPole-v1"
[algo]
name = "ppo"
learning_rate = "lin_3e-4"
[golem]
mode = "yagna"
image = "i"
budget_glm = 1
"""
    assert load_config(written(tmp_path, toml, "x.toml")) == parse_config(
        MINIMAL, ["algo.learning_rate=lin_3e-4"]
    )


AMOUNTS = st.decimals(min_value=0, max_value=10**9, places=18) | st.decimals(0, 100, places=2)
WHOLE = st.integers(1, 10**6)
RATES: st.SearchStrategy[Any] = st.floats(1e-9, 1e3) | st.builds(
    lambda start, end: {"start": start, "end": end}, st.floats(1e-9, 1.0), st.floats(0.0, 1.0)
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(SB3_ALGORITHMS)))
    on_policy = SB3_ALGORITHMS[name].is_on_policy
    steps = draw(st.integers(1, 50))
    algo: dict[str, Any] = {"name": name, "learning_rate": draw(RATES)}
    algo |= {"n_steps": steps} if on_policy else {"train_freq": steps, "learning_starts": 0}
    if name == "ppo":
        algo["normalize_advantage"] = False
    return {
        "seed": draw(st.integers(0, 2**31 - 2)),
        "env": {
            "id": draw(st.text(min_size=1, max_size=20)),
            "kwargs": draw(st.dictionaries(st.text(max_size=5), st.floats(-1, 1), max_size=2)),
            "normalize": draw(st.booleans()),
        },
        "algo": algo,
        "federation": {
            "local_steps": steps * draw(st.integers(1, 1000)),
            "rounds": draw(WHOLE),
            "quorum": draw(st.none() | st.integers(1, 8)),
            "compression": draw(st.sampled_from([None, "none", "fp16", "int4", "topk"])),
            "drift": draw(st.sampled_from([None, "none", "scaffold", {"fedprox": 0.5}])),
            "server_learning_rate": draw(st.floats(1e-6, 1e6)),
        },
        "golem": {
            "mode": "yagna",
            "image": draw(st.text(min_size=1, max_size=20)),
            "budget_glm": draw(AMOUNTS.filter(bool)),
            "max_price": {"hour_glm": draw(AMOUNTS)},
        },
    }


@given(configs())
@example(
    {
        "env": {"id": "1e5"},
        "algo": {"name": "ppo"},
        "golem": {"mode": "yagna", "image": "0E0", "budget_glm": 1},
    }
)
def test_the_resolved_config_reads_back_as_the_same(data: dict[str, Any]) -> None:
    config = RunConfig.model_validate(data)
    again = parse_config(resolved_yaml(config))
    assert again == config
    assert resolved_yaml(again) == resolved_yaml(config)


def test_the_resolved_config_is_plain_yaml_with_every_default() -> None:
    data = yaml.safe_load(resolved_yaml(parse_config(MINIMAL, ["golem.budget_glm=0.5"])))
    assert data["golem"]["budget_glm"] == 0.5
    assert data["algo"]["n_steps"] == 2048
    assert data["evaluation"]["gate"]["rule"] == "not_worse"


def test_amounts_are_exact() -> None:
    config = parse_config(MINIMAL, ["golem.budget_glm='0.123456789012345678'"])
    assert config.golem.budget_glm == Decimal("0.123456789012345678")
    assert parse_config(resolved_yaml(config)).golem.budget_glm == config.golem.budget_glm
