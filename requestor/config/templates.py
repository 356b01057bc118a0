"""The commented config that `derl-request init` writes."""

from __future__ import annotations

import yaml

from requestor.config.algorithms import METHODS, SB3_ALGORITHMS, Continuous
from requestor.config.documents import Dumper
from requestor.errors import UsageError

_ALGORITHMS = {
    "ppo": """\
  n_steps: 256              # steps per environment and rollout
  batch_size: 256
  n_epochs: 10
  learning_rate: lin_1e-3   # falls linearly to 0 over the whole run; 1e-3 stays as it is
""",
    "a2c": """\
  n_steps: 8                # steps per environment and rollout
  learning_rate: 7e-4
""",
    "dqn": """\
  learning_rate: 1e-3
  batch_size: 64
  learning_starts: 500      # random steps before learning; per round if replay is reset
  train_freq: 4             # learn every 4 steps of every environment ...
  gradient_steps: 2         # ... by 2 updates
  target_update_interval: 250
  exploration_fraction: 0.3 # of the whole run
""",
    "sac": """\
  learning_rate: 1e-3
  learning_starts: 200      # random steps before learning; per round if replay is reset
""",
    "td3": """\
  learning_rate: 1e-3
  learning_starts: 200      # random steps before learning; per round if replay is reset
  noise_type: normal
  noise_std: 0.1
""",
    "ddpg": """\
  learning_rate: 1e-3
  learning_starts: 200      # random steps before learning; per round if replay is reset
  noise_type: normal
  noise_std: 0.1
""",
}

_TEMPLATE = """\
# Start it with: derl-request run THIS_FILE [key=value ...]
# Everything left out has a default; a run writes all of them to config.resolved.yaml.
seed: 0                     # same config and seed give the same weights, bit for bit

env:
  {env_line}
  # kwargs: {{}}              # arguments of gymnasium.make
  n_envs: {n_envs}                 # environments side by side in each client
  # wrappers: []            # names from gymnasium.wrappers, or module:Class
  # frame_stack: 0
  normalize: false          # true: running normalisation of observations and rewards

algo:
  name: {algo}                 # SB3's {upper} hyperparameters, by their names, may stand here
{hyperparameters}\
  # policy_kwargs: dict(net_arch=[64, 64], activation_fn=nn.Tanh)
{learner}
federation:
  rounds: 10
  clients: 8                # virtual workers, independent of how many providers there are
  local_steps: {local_steps}         # environment steps of each client in each round
  optimizer: reset          # of a client between rounds: reset, merged or kept
  replay: {replay:<17} # reset, or kept by the client (off-policy algorithms)
  # aggregation: auto       # the mean; with 5 providers and more a robust rule. Or krum, …
  # server_optimizer: sgd   # or momentum, nesterov, adagrad, adam, yogi; {{name: adam, tau: 0.01}}
  # compression: int8       # of updates: none, fp16, int8, int4, topk
  # drift: {{fedprox: 0.01}}  # holds clients near each other: none, {{fedprox: ...}}, scaffold
  # quorum: 6               # results that close a round; default all
  round_deadline_seconds: 600

golem:
  mode: mock                # testnet: real yagna, local; yagna: the network, through your daemon
  providers: 4
  # fleet: my_fleet.yaml    # mock, testnet: prices, paces and faults of the providers
  # subnet: public
  # payment_network: hoodi  # test GLM; polygon and mainnet cost real money
  # image: lock:auto        # mode yagna: the locked gvmi image that does it; or lock:sb3, a hash, …
  budget_glm: 1             # the run stops before it has spent more
  max_price: {{start_glm: 0.01, cpu_hour_glm: 0.5, hour_glm: 0.2}}   # and agreement_glm
  choose: steps_per_glm     # by prices and measured speed; or cheapest
  # allow: [my-provider]    # node ids, wallets or names; nobody else is rented
  # block: [slow-provider]  # these never
  # max_per_wallet: 1       # nodes of one wallet at a time; null: as many as there are
  # runtime: vm-nvidia      # GPUs
  # gpu: {{memory_gib: 16, model: []}}   # runtime vm-nvidia: what the card must be

# trust:                    # drawn work is done again here: always of the unknown, 3 % at least
#   audits: {{first: 1, least: 0.03}}   # 0 and 0: never; also when, on_fraud, refuse_bills
#   # also by: auto, requestor or providers; those are paid: 1 item in 10 at most (bought)

evaluation:                 # on this machine, in a jail, on seeds that training never sees
  episodes: 20
  final_episodes: 100
  # target_return: 475      # the run ends once the mean return reaches it
{gate}"""

_LEARNER = """\
  # learner: auto           # native (C++, little CPU time) where it fits, else sb3
"""
_GATE_ON_POLICY = """\
  gate: {rule: not_worse, confidence: 0.95}   # a worse merged model is rolled back
"""
_GATE_OFF_POLICY = """\
  # not_worse would roll back a model that is worse than its parent; off-policy learners often
  # play worse than the untrained network before they play better
  gate: {rule: none}
"""


def commented_template(env_id: str | None, algo: str) -> str:
    """A config in YAML with comments, ready to run for `env_id` with `algo`.

    None is an environment that `algo` can learn in.

    Raises UsageError for an algorithm that DeRL does not know.
    """
    name = algo.lower()
    if name in METHODS:
        raise UsageError(
            f"{name} has no template", fix=f"copy configs/{name}.yaml and change what differs"
        )
    if name not in SB3_ALGORITHMS:
        raise UsageError(
            f"unknown algorithm {algo!r}", fix=f"use one of {', '.join(SB3_ALGORITHMS)}"
        )
    on_policy = SB3_ALGORITHMS[name].is_on_policy
    if env_id is None:
        env_id = "Pendulum-v1" if issubclass(SB3_ALGORITHMS[name], Continuous) else "CartPole-v1"
    return _TEMPLATE.format(
        env_line=yaml.dump({"id": env_id}, Dumper=Dumper, width=10_000).strip(),
        algo=name,
        upper=name.upper(),
        hyperparameters=_ALGORITHMS[name],
        learner=_LEARNER if name == "ppo" else "",
        n_envs=8 if on_policy else 1,
        local_steps=2048 if on_policy else 1000,
        replay="reset" if on_policy else "kept",
        gate=_GATE_ON_POLICY if on_policy else _GATE_OFF_POLICY,
    )
