"""Activities over REST: batches, streams, and how they end."""

import asyncio
import json
import os
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio
ACTIVITY = "/activity-api/v1/activity"


async def test_a_batch_runs_to_its_first_error(serve: Any, run_shell: Any) -> None:
    requestor = await serve()
    activity = await requestor.activity(deployed=True)
    results = await requestor.execute(
        activity, [run_shell("echo one"), run_shell("echo two >&2; exit 5"), run_shell("echo no")]
    )
    assert [one["result"] for one in results] == ["Ok", "Error"]
    assert results[0]["stdout"] == "one\n"
    assert results[1]["stderr"] == "two\n"
    assert results[1]["message"] == "ExeScript command exited with code 5"
    assert results[1]["isBatchFinished"]


async def test_results_are_cumulative_and_never_come_early_with_nothing_new(
    serve: Any, run_shell: Any
) -> None:
    requestor = await serve()
    activity = await requestor.activity(deployed=True)
    batch = await requestor.send(activity, [run_shell("echo 1"), run_shell("sleep 0.5; echo 2")])
    path = f"{ACTIVITY}/{activity}/exec/{batch}"
    first = await requestor.ok("GET", path, timeout=5)
    assert [one["index"] for one in first] == [0]
    loop = asyncio.get_running_loop()
    began = loop.time()
    second = await requestor.ok("GET", path, timeout=0.1)
    assert loop.time() - began >= 0.1
    assert second == first
    third = await requestor.ok("GET", path, timeout=5)
    assert [one["stdout"] for one in third] == ["1\n", "2\n"]


async def test_the_stream_of_a_batch(serve: Any, run_shell: Any) -> None:
    requestor = await serve()
    activity = await requestor.activity(deployed=True)
    batch = await requestor.send(activity, [run_shell("echo hello; exit 3")])
    url = f"{requestor.address.url}{ACTIVITY}/{activity}/exec/{batch}"
    kinds: list[Any] = []
    async with requestor.session.get(url, headers={"Accept": "text/event-stream"}) as response:
        assert response.content_type == "text/event-stream"
        async for line in response.content:
            if line.startswith(b"data: "):
                kinds.append(json.loads(line[6:])["kind"])
            if kinds and "finished" in kinds[-1]:
                break
    assert list(kinds[0]) == ["started"]
    assert {"stdout": "hello\n"} in kinds
    assert kinds[-1]["finished"]["return_code"] == 3


async def test_the_accept_header_matters_for_results_only(serve: Any) -> None:
    requestor = await serve()
    activity = await requestor.activity()
    stream = {"Accept": "text/event-stream"}
    status, state = await requestor.call("GET", f"{ACTIVITY}/{activity}/state", headers=stream)
    assert (status, state) == (200, {"state": ["Initialized", None]})


async def test_destroying_an_activity_ends_its_processes(serve: Any, run_shell: Any) -> None:
    requestor = await serve()
    activity = await requestor.activity(deployed=True)
    results = await requestor.execute(activity, [run_shell("sleep 1000 & echo $!")])
    pid = int(results[0]["stdout"])
    os.kill(pid, 0)
    await requestor.ok("DELETE", f"{ACTIVITY}/{activity}")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_usage_grows_and_stays(serve: Any, run_shell: Any) -> None:
    requestor = await serve()
    activity = await requestor.activity(deployed=True)
    busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    await requestor.execute(activity, [run_shell(busy)])
    cpu, duration = (await requestor.ok("GET", f"{ACTIVITY}/{activity}/usage"))["currentUsage"]
    assert 0 < cpu <= duration, "one process uses one core at most"
    await requestor.ok("DELETE", f"{ACTIVITY}/{activity}")
    first = await requestor.ok("GET", f"{ACTIVITY}/{activity}/usage")
    second = await requestor.ok("GET", f"{ACTIVITY}/{activity}/usage")
    assert first["currentUsage"] == second["currentUsage"]
    assert first["currentUsage"][1] >= duration


async def test_an_activity_that_takes_too_much_memory_is_killed(serve: Any, run_shell: Any) -> None:
    fleet = "runtime: {isolation: process}\nproviders: [{name: willow, memory_gib: 0.05}]"
    requestor = await serve(fleet)
    # below what demands ask for by default
    activity = await requestor.activity(
        await requestor.agreement(constraints="(golem.runtime.name=vm)"), deployed=True
    )
    hungry = "exec python -S -c \"held = b'x' * (200 << 20); import time; time.sleep(60)\""
    batch = await requestor.send(activity, [run_shell(hungry)])
    status, answer = await requestor.call("GET", f"{ACTIVITY}/{activity}/exec/{batch}", timeout=60)
    assert (status, answer) == (500, {"message": "GSB error: Service receiver was cancelled"})

    async def terminated() -> bool:
        state = await requestor.ok("GET", f"{ACTIVITY}/{activity}/state")
        return bool(state["state"] == ["Terminated", None] and state["reason"] == "OutOfMemory")

    await requestor.until(terminated)
    status, answer = await requestor.call("GET", f"{ACTIVITY}/{activity}/exec/{batch}")
    assert status == 500
    assert "GSB error" in answer["message"] and "endpoint address not found" in answer["message"]


async def test_commands_see_only_their_own_environment(
    serve: Any, run_shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    fleet = "runtime: {isolation: process, environment: {GREETING: hello}}\n"
    requestor = await serve(fleet + "providers: [{name: willow}]")
    activity = await requestor.activity(deployed=True)
    results = await requestor.execute(activity, [run_shell("env; ls")])
    assert "GREETING=hello" in results[0]["stdout"]
    assert "SECRET_OF_THE_HOST" not in results[0]["stdout"]


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "{}",
        "[1]",
        '[{"run": {}, "deploy": {}}]',
        '[{"run": {"args": []}}]',
        "[" * 100_000,
    ],
)
async def test_bad_scripts(serve: Any, text: str) -> None:
    requestor = await serve()
    activity = await requestor.activity()
    status, answer = await requestor.call("POST", f"{ACTIVITY}/{activity}/exec", {"text": text})
    assert status == 400
    assert answer["message"].startswith("Bad request: Error(")


async def test_bad_creates(serve: Any) -> None:
    requestor = await serve()
    assert (await requestor.call("POST", ACTIVITY, 7))[0] == 400
    assert (await requestor.call("POST", ACTIVITY, "f" * 64))[0] == 404
    status, answer = await requestor.call("GET", f"{ACTIVITY}/{'f' * 32}/state")
    assert status == 500 and answer["message"].startswith("DAO error: Not found")
