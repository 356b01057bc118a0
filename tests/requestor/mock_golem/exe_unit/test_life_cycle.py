"""States, order of commands, what a command sees, and error texts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from requestor.mock_golem.exe_unit import ExeScriptError, ExeUnitGone
from requestor.mock_golem.exe_unit.script import parse_script

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import MakeActivity


def run(entry_point: str, *args: str) -> dict[str, Any]:
    capture: dict[str, Any] = {"stdout": {"stream": {}}, "stderr": {"stream": {}}}
    return {"run": {"entry_point": entry_point, "args": list(args), "capture": capture}}


@pytest.mark.asyncio
async def test_states_follow_deploy_and_start(make_activity: MakeActivity) -> None:
    activity = await make_activity()
    assert activity.unit.state == "Initialized"
    (deployed,) = await activity.execute({"deploy": {}})
    assert activity.unit.state == "Deployed"
    (started,) = await activity.execute({"start": {"args": []}})
    assert activity.unit.state == "Ready"
    deployment = json.loads(deployed["stdout"])
    assert deployment["valid"] == {"Ok": ""}
    assert deployment["startMode"] == "blocking"
    assert [volume["path"] for volume in deployment["vols"]] == ["/golem/work"]
    assert started["result"] == "Ok" and started["isBatchFinished"] is True
    await activity.unit.terminate("done", "by a test")
    assert (activity.unit.state, activity.unit.reason) == ("Terminated", "done")
    assert activity.unit.error_message == "by a test"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "command",
    [
        {"start": {"args": []}},
        run("/bin/true"),
        {"transfer": {"from": "container:/golem/work/a", "to": "container:/golem/work/b"}},
    ],
)
async def test_commands_before_deploy_are_refused(
    make_activity: MakeActivity, command: dict[str, Any]
) -> None:
    activity = await make_activity()
    (result,) = await activity.execute(command)
    assert result["result"] == "Error"
    assert result["message"] == (
        "Local service error: State error: Invalid state: StatePair(Initialized, None)"
    )


@pytest.mark.asyncio
async def test_deploying_twice_is_refused(make_activity: MakeActivity) -> None:
    activity = await make_activity()
    results = await activity.execute({"deploy": {}}, {"deploy": {}})
    assert results[1]["message"].endswith("Invalid state: StatePair(Deployed, None)")


@pytest.mark.asyncio
async def test_a_batch_stops_at_its_first_error(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    results = await activity.execute(
        run("/bin/sh", "-c", "echo out; echo err >&2; exit 7"), run("/bin/true")
    )
    assert len(results) == 1
    assert results[0]["result"] == "Error"
    assert results[0]["isBatchFinished"] is True
    assert results[0]["message"] == "ExeScript command exited with code 7"
    assert (results[0]["stdout"], results[0]["stderr"]) == ("out\n", "err\n")
    assert (await activity.shell("true"))["result"] == "Ok"


@pytest.mark.asyncio
async def test_death_by_a_signal_is_an_exit_code_above_128(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    result = await activity.shell("kill -9 $$")
    assert result["message"] == "ExeScript command exited with code 137"


@pytest.mark.asyncio
@pytest.mark.parametrize("entry_point", ["sh", "/no/such/program", "/etc/passwd", "./none"])
async def test_programs_that_cannot_be_started(
    make_activity: MakeActivity, entry_point: str
) -> None:
    activity = await (await make_activity()).ready()
    (result,) = await activity.execute(run(entry_point))
    assert result["result"] == "Error"
    assert result["message"].startswith("Runtime error: ")
    assert "(os error " in result["message"]


@pytest.mark.asyncio
async def test_nothing_is_inherited(
    make_activity: MakeActivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    activity = await (await make_activity(environment={"GREETING": "hello"})).ready()
    result = await activity.shell("env; ls -A; ls /proc/self/fd")
    assert "SECRET_OF_THE_HOST" not in result["stdout"]
    assert "GREETING=hello" in result["stdout"]
    lines = result["stdout"].splitlines()
    # The volume is empty; open are stdin, stdout, stderr and the folder that `ls` reads.
    assert lines[-4:] == ["0", "1", "2", "3"]
    assert all("=" in line for line in lines[:-4])


@pytest.mark.asyncio
async def test_stdin_is_empty(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    assert (await activity.shell("cat; echo end"))["stdout"] == "end\n"


@pytest.mark.asyncio
async def test_files_in_a_volume_stay_between_commands(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    await activity.shell("echo kept > file")
    assert (await activity.shell("cat file"))["stdout"] == "kept\n"


@pytest.mark.asyncio
async def test_activities_do_not_share_volumes(make_activity: MakeActivity) -> None:
    first = await (await make_activity()).ready()
    second = await (await make_activity()).ready()
    await first.shell("echo mine > file")
    assert (await second.shell("ls -A"))["stdout"] is None


@pytest.mark.asyncio
async def test_deploy_may_add_volumes_and_environment(make_activity: MakeActivity) -> None:
    activity = await make_activity()
    results = await activity.execute(
        {"deploy": {"volumes": {"/data/in": {"host": {}}}, "env": {"COLOUR": "blue"}}},
        {"start": {}},
        {"transfer": {"from": activity.publish(b"x"), "to": "container:/data/in/a"}},
        run("/bin/sh", "-c", "echo $COLOUR"),
    )
    assert [result["result"] for result in results] == ["Ok"] * 4
    assert results[3]["stdout"] == "blue\n"
    (wrong,) = await (await make_activity()).execute({"deploy": {"volumes": ["/a/../.."]}})
    assert "'/a/../..' is no absolute path" in wrong["message"]


@pytest.mark.asyncio
async def test_terminate_command_ends_processes_and_allows_a_new_deploy(
    make_activity: MakeActivity,
) -> None:
    activity = await (await make_activity()).ready()
    await activity.shell("echo old > file; sleep 1000 > /dev/null 2>&1 &")
    (result,) = await activity.execute({"terminate": {}})
    assert result["result"] == "Ok"
    assert activity.unit.state == "Initialized"
    assert activity.processes() == []
    await activity.ready()
    assert (await activity.shell("ls -A"))["stdout"] is None


@pytest.mark.asyncio
async def test_a_second_batch_finds_the_unit_busy(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    first = activity.begin(run("/bin/sh", "-c", "until [ -e go ]; do :; done; echo went"))
    (refused,) = await activity.execute(run("/bin/true"))
    assert refused["message"] == (
        "Local service error: State error: Busy: StatePair(Ready, Some(Ready))"
    )
    (folder,) = activity.folder.glob("activities/0/volumes/0")
    (folder / "go").touch()
    (result,) = await activity.finish(first)
    assert result["stdout"] == "went\n"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ([{"fly": {}}], "unknown variant `fly`, expected one of `sign`, `deploy`"),
        ([{"run": {"args": []}}], "command 0: `run`: missing field `entry_point`"),
        ([{"run": {"entry_point": "/bin/sh", "args": [1]}}], "args must be a list of texts"),
        (
            [{"deploy": {}}, {"transfer": {"from": "x"}}],
            "command 1: `transfer`: missing field `to`",
        ),
        ([{"deploy": {}, "start": {}}], "exactly one key"),
        (["deploy"], "exactly one key"),
        ([{"deploy": []}], "`deploy` must be an object"),
        ({"deploy": {}}, "expected a sequence"),
        ([{"run": {"entry_point": "/a", "capture": {"stdout": {"all": {}}}}}], "capture of stdout"),
        (
            [{"run": {"entry_point": "/a", "capture": {"stderr": {"atEnd": {"head": -1}}}}}],
            "capture head of stderr must be a number of bytes",
        ),
        ([{"run": {"entry_point": "/a\0"}}], "null characters"),
    ],
)
def test_malformed_scripts_are_refused(script: Any, complaint: str) -> None:
    with pytest.raises(ExeScriptError, match=re.escape(complaint)):
        parse_script(script)


@pytest.mark.asyncio
async def test_a_malformed_script_is_refused_whole(make_activity: MakeActivity) -> None:
    activity = await make_activity()
    with pytest.raises(ExeScriptError):
        activity.begin({"deploy": {}}, {"fly": {}})
    assert activity.unit.state == "Initialized"


@pytest.mark.asyncio
async def test_signing_is_refused(make_activity: MakeActivity) -> None:
    (result,) = await (await make_activity()).execute({"sign": {}})
    assert result["result"] == "Error" and "cannot sign" in result["message"]


@pytest.mark.asyncio
async def test_an_empty_script_is_finished_at_once(make_activity: MakeActivity) -> None:
    activity = await make_activity()
    batch_id = activity.begin()
    assert await activity.unit.results(batch_id, 1000.0) == []


@pytest.mark.asyncio
async def test_nothing_can_be_executed_after_the_end(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    done = activity.begin(run("/bin/true"))
    await activity.finish(done)
    await activity.unit.terminate()
    with pytest.raises(ExeUnitGone, match="endpoint address not found"):
        activity.begin(run("/bin/true"))
    assert (await activity.unit.results(done, 0.0))[0]["result"] == "Ok"
