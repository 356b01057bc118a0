"""What goes wrong before or in a run: the right exit code, what, where and the fix; no traceback.

Each message is held to by its content, as a stranger would need it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from requestor.mock_golem.gftp import write_launcher

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Finished, Workbench

ROOT = Path(__file__).parents[2]
MAIN_FLEET = ROOT / "configs" / "fleets" / "four.yaml"
YAGNA = (
    "golem.mode=yagna",
    "golem.budget_glm=1",
    "golem.image=hash:sha3:" + "0" * 56 + ":http://127.0.0.1/image.gvmi",
)


def assert_says(done: Finished, code: int, *parts: str) -> None:
    assert done.code == code, done.text
    errors = " ".join(done.err.split())
    for part in parts:
        assert part in errors, (part, errors)
    assert "Traceback" not in done.text


def assert_left_nothing(bench: Workbench) -> None:
    """A run that could not begin is not listed among the runs."""
    assert list(bench.runs.glob("*/*")) == []
    bench.assert_no_process_left()


def test_an_unknown_key_with_the_nearest_name(bench: Workbench) -> None:
    done = bench.derl("run", bench.config, "federation.round=3", "algo.n_step=4", "seed=abc")
    assert_says(
        done,
        3,
        "tiny.yaml: 3 problems",
        "unknown key 'round' @ federation.round (override); did you mean 'rounds'?",
        "unknown key 'n_step' @ algo.n_step (override); did you mean 'n_steps'?",
        "must be a whole number, is 'abc' @ seed (override)",
    )
    assert not bench.runs.exists()


def test_an_unknown_environment(bench: Workbench) -> None:
    done = bench.derl("run", bench.config, "env.id=CartPoll-v1")
    assert_says(
        done,
        4,
        "environment CartPoll-v1 is not registered with Gymnasium",
        "near names: CartPole-v1",
        "fix: correct env and algo in the config",
    )
    assert_left_nothing(bench)


@pytest.mark.parametrize("command", ["status", "resume", "evaluate"])
def test_an_unknown_run(bench: Workbench, reference: object, command: str) -> None:
    done = bench.derl(command, "ppo/CartPole-v1_77")
    assert_says(done, 2, "there is no run 'ppo/CartPole-v1_77' in ", "`derl-request ls` lists")


def test_no_run_at_all(bench: Workbench) -> None:
    assert_says(bench.derl("status"), 2, "there are no runs in ", "fix: start one with")


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("absent.yaml", None, ("absent.yaml: no such file", "fix: name a config, or write one")),
        (
            "broken.yaml",
            "env: {id: CartPole-v1\nalgo: [",
            ("broken.yaml: not valid YAML", "line 2"),
        ),
        ("empty.yaml", "", ("empty.yaml",)),
        ("list.yaml", "[1, 2]", ("list.yaml",)),
        ("nothing.yaml", "seed: 1", ("env", "algo")),
    ],
)
def test_a_config_that_is_none(
    bench: Workbench, name: str, text: str | None, parts: tuple[str, ...]
) -> None:
    if text is not None:
        bench.write(name, text)
    assert_says(bench.derl("run", name), 3, *parts)
    assert not bench.runs.exists()


def test_a_fleet_file_with_mistakes(bench: Workbench) -> None:
    fleet = bench.write(
        "fleet.yaml", "providers: [{name: a, faults: [{kind: dies_in_comand}], prise: {}}]"
    )
    done = bench.derl("run", bench.config, f"golem.fleet={fleet}")
    assert_says(
        done,
        4,
        "fleet.yaml: unknown fault kind `dies_in_comand` @ providers[0].faults[0]",
        "did you mean `dies_in_command`?",
        "unknown key `prise` @ providers[0].prise: did you mean `price`?",
        "fix: check golem.fleet with `mock-golem fleet check FILE`",
    )
    assert_left_nothing(bench)


def test_a_fleet_file_that_is_not_there(bench: Workbench) -> None:
    done = bench.derl("run", bench.config, "golem.fleet=nowhere.yaml")
    assert_says(done, 3, "no such file", "nowhere.yaml @ golem.fleet (override)")


@pytest.fixture
def gftp(bench: Workbench) -> dict[str, str]:
    """An environment with a `gftp` on PATH and a key, but no daemon."""
    write_launcher(bench.folder, bench.folder / "gftp-store")
    return {
        "PATH": f"{bench.folder}:{bench.environment()['PATH']}",
        "YAGNA_APPKEY": "of-no-daemon",
        "YAGNA_API_URL": "http://127.0.0.1:1",
    }


def test_no_gftp(bench: Workbench) -> None:
    done = bench.derl("run", bench.config, *YAGNA, PATH="/nowhere")
    assert_says(done, 4, "there is no `gftp` on PATH", "fix: install yagna", "golem.mode=mock")
    assert_left_nothing(bench)


def test_no_daemon(bench: Workbench, gftp: dict[str, str]) -> None:
    done = bench.derl("run", bench.config, *YAGNA, **gftp)
    assert_says(
        done,
        4,
        "no yagna daemon answers at http://127.0.0.1:1",
        "fix: start one with `yagna service run`, set YAGNA_API_URL, or use golem.mode=mock",
    )
    assert_left_nothing(bench)


def test_no_key(bench: Workbench, gftp: dict[str, str]) -> None:
    done = bench.derl("run", bench.config, *YAGNA, **{**gftp, "YAGNA_APPKEY": ""})
    assert_says(done, 4, "YAGNA_APPKEY is not set", "fix: `yagna app-key create requestor`")
    assert_left_nothing(bench)


@pytest.fixture
def daemon_url(bench: Workbench) -> Iterator[str]:
    command = [sys.executable, "-m", "requestor.mock_golem", "serve", "--json"]
    with subprocess.Popen(
        [*command, "--stop-on-stdin-eof", "--fleet", str(MAIN_FLEET), "--app-key", "the-right-key"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["url"])
        process.stdin.close()
        process.wait(30)


def test_what_a_daemon_refuses(bench: Workbench, gftp: dict[str, str], daemon_url: str) -> None:
    """A wrong key, a network without an account."""
    here = {**gftp, "YAGNA_API_URL": daemon_url}
    wrong = bench.start("run", bench.config, *YAGNA, **{**here, "YAGNA_APPKEY": "a-wrong-key"})
    key = {**here, "YAGNA_APPKEY": "the-right-key"}
    network = "golem.payment_network=polygon"
    other = bench.start("run", bench.config, *YAGNA, network, "--yes", **key)
    assert_says(
        bench.finish(wrong),
        4,
        "the daemon refuses the key in YAGNA_APPKEY (Invalid application key)",
        "fix: `yagna app-key list`",
    )
    assert_says(
        bench.finish(other),
        4,
        "the daemon has no account for erc20-polygon-glm (it has: erc20-hoodi-tglm)",
        "fix: `yagna payment init --sender --driver erc20 --network polygon`",
    )
    assert list(bench.runs.glob("*/*")) == []


def test_real_money_needs_a_yes(bench: Workbench) -> None:
    done = bench.derl("run", bench.config, *YAGNA, "golem.payment_network=mainnet")
    assert_says(
        done,
        4,
        "this run may spend up to 1 GLM of real money on mainnet",
        "fix: confirm with --yes",
    )
    assert not bench.runs.exists()


def test_an_allocation_refused(bench: Workbench) -> None:
    """The run can be resumed once there are funds."""
    fleet = bench.write(
        "fleet.yaml", "providers: [{name: a}]\ndaemon_faults: [{kind: allocation_refused}]"
    )
    done = bench.derl("run", bench.config, f"golem.fleet={fleet}")
    assert_says(
        done,
        4,
        "the daemon refuses to set 1.00000 GLM aside for the run",
        "Insufficient funds",
        "fix: lower golem.budget_glm or fund the account",
    )
    assert bench.run.books["allocations"] == []
    bench.assert_no_process_left()


def test_price_ceilings_that_nobody_meets(bench: Workbench) -> None:
    done = bench.derl(
        "run",
        bench.config,
        "golem.max_price.cpu_hour_glm=0.001",
        "golem.startup_timeout_seconds=2",
    )
    assert_says(
        done,
        6,
        "no provider was at work for 2 s",
        "4 offers seen; refused: above the price ceilings (4)",
        "fix: raise golem.max_price",
        "`derl-request resume ppo/CartPole-v1_1` then goes on",
    )
    assert bench.run.events("run_finished")[-1]["outcome"] == "failed"
    books = bench.run.books
    assert books["agreements"] == []
    assert [a for a in books["allocations"] if a["state"] == "open"] == []
    bench.assert_no_process_left()


@pytest.mark.slow
def test_a_key_that_is_revoked_in_mid_run(bench: Workbench) -> None:
    fleet = bench.write(
        "fleet.yaml", "providers: [{name: a}]\ndaemon_faults: [{kind: wrong_key, after: 60}]"
    )
    done = bench.derl("run", bench.config, f"golem.fleet={fleet}", "federation.rounds=20")
    assert_says(
        done,
        6,
        "401 Invalid application key",
        "YAGNA_APPKEY; `derl-request resume ppo/CartPole-v1_1` then cleans up and goes on",
    )
    assert (bench.run.path / "best_model.zip").exists()
    assert bench.run.checkpoint["round"] > 0
    bench.assert_no_process_left()


def test_what_cannot_change_on_resume(bench: Workbench, reference: object) -> None:
    folder = bench.runs / "ppo" / "CartPole-v1_1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"run_id": "0"}')
    done = bench.derl("resume", "last", "algo.gamma=0.5")
    assert_says(done, 2, "algo.gamma can't change in the middle of a run", "fix: start a new run")


@pytest.mark.parametrize(
    "override", ["golem.payment_network=polygon", "golem.mode=yagna", "golem.payment_driver=x"]
)
def test_where_bills_are_paid_stays_while_something_is_owed(
    bench: Workbench, override: str
) -> None:
    folder = bench.runs / "ppo" / "CartPole-v1_1"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"run_id": "0"}')
    intended = {"kind": "allocation_intended", "amount_glm": "1", "node_id": "0x1"}
    (folder / "ledger.jsonl").write_text(json.dumps(intended) + "\n")
    done = bench.derl("resume", "last", override)
    key = override.partition("=")[0]
    assert_says(done, 2, f"{key} can't change while the run still owes", "derl-request sweep")
