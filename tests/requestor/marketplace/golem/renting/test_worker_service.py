"""What the worker reports is a stranger's text; a lease ends in good time, whoever is waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yapapi.rest.activity import BatchError, CommandExecutionError

from requestor.marketplace.golem.daemon.failure_words import describe_failure
from requestor.marketplace.golem.renting.lease import GolemLease, Released
from requestor.marketplace.golem.renting.worker_service import (
    MAX_REPORT_CHARACTERS,
    claimed_digests,
    exit_code,
)
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import Job, LeaseInfo, LeaseLost, LeaseOver, OutputFile

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime

DIGEST = "0123456789abcdef" * 4
REPORT = json.dumps({"order_sha256": DIGEST, "files": {"result.safetensors": DIGEST}})
INFO = LeaseInfo("lease", "willow", "0xa", "agreement", Prices(Decimal(1)))


def printed(*texts: Any) -> list[SimpleNamespace]:
    """The events of a script whose commands printed `texts`."""
    return [SimpleNamespace(stdout=text) for text in texts]


# --- the report ------------------------------------------------------------------------------


def test_the_report_is_found_among_silent_commands() -> None:
    events = printed(None, "", "warming up\n", REPORT + "\n", None)
    assert claimed_digests(events) == {"result.safetensors": DIGEST}


@pytest.mark.parametrize(
    "stdout",
    [
        None,
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"files": null}',
        '{"files": ["a"]}',
        '{"files": {"a": 5}}',
        '{"files": {"a": null}}',
        json.dumps({"files": {"a": DIGEST[:-1]}}),
        json.dumps({"files": {"a": DIGEST + "\n"}}),
        json.dumps({"files": {"a": DIGEST.upper()}}),
        json.dumps({"files": {"a": DIGEST, "b": "x"}}),
        REPORT + REPORT,
        REPORT.encode(),
        list(REPORT.encode()),
        '{"files": ' + "[" * 5000,
        '{"files": ' + "9" * 5000 + "}",
        " " * MAX_REPORT_CHARACTERS + REPORT,
        {"files": {"a": DIGEST}},
    ],
)
def test_any_other_report_loses_the_lease(stdout: Any) -> None:
    with pytest.raises(LeaseLost, match="the worker's report is missing or malformed"):
        claimed_digests(printed(stdout))


@given(st.lists(st.none() | st.text() | st.binary() | st.text().map(lambda t: "{" + t)))
def test_hostile_output_does_no_harm(texts: list[Any]) -> None:
    with pytest.raises(LeaseLost):
        claimed_digests(printed(*texts))


@given(st.dictionaries(st.text(), st.text("0123456789abcdef", min_size=64, max_size=64)))
def test_every_well_formed_report_is_read(files: dict[str, str]) -> None:
    assert claimed_digests(printed(json.dumps({"files": files}))) == files


# --- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("ExeScript command exited with code 3", 3),
        ("exited with code -9", -9),
        ("exited with code 3\x1b", 3),
        ("exited with code " + "9" * 5000, None),
        ("exited", None),
        (None, None),
    ],
)
def test_the_exit_code_is_read_from_the_message(message: str | None, expected: int | None) -> None:
    assert exit_code(CommandExecutionError("run", message)) == expected


def test_other_errors_have_no_exit_code() -> None:
    assert exit_code(BatchError("exited with code 3")) is None


def test_a_failure_is_told_by_the_last_line_of_what_the_worker_said() -> None:
    error = CommandExecutionError("run", "exited with code 3", "warming up\nno such env: X\n")
    assert describe_failure(error) == "command failed: no such env: X"


def test_a_failure_told_in_bytes_that_are_no_text_is_told_somehow() -> None:
    said: Any = [27, 93, 255]
    assert describe_failure(CommandExecutionError("run", "exited with code 3", said)) == (
        "command failed: [27, 93, 255]"
    )


@pytest.mark.parametrize("stderr", [None, "", " \n\t\n"])
def test_a_failure_without_words_is_told_by_its_message(stderr: str | None) -> None:
    text = describe_failure(CommandExecutionError("run", "exited with code 4", stderr))
    assert text.startswith("command failed: ")
    assert "exited with code 4" in text


@given(st.none() | st.text(), st.none() | st.text())
def test_a_description_is_one_short_printable_line(message: str | None, stderr: str | None) -> None:
    for error in (CommandExecutionError("run", message, stderr), ValueError(message)):
        text = describe_failure(error)
        assert text
        assert text.isprintable()
        assert len(text) <= 300


# --- the lease -------------------------------------------------------------------------------


class Releases:
    """A lease and what its pool hears of it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bool]] = []
        self.lease = GolemLease(INFO, lambda _, reason, avoid: self.heard.append((reason, avoid)))


def job(path: Path, *, max_bytes: int = 100, deadline_seconds: float = 60.0) -> Job:
    """A job with one output."""
    return Job(b"{}", {}, {}, {"result": OutputFile(path, max_bytes)}, deadline_seconds)


async def serve(lease: GolemLease, work: Callable[[Job], Awaitable[Mapping[str, str]]]) -> None:
    """Do the orders of a lease as the service does."""
    try:
        while True:
            request = await lease.next_request()
            request.answer.set_result(await work(request.job))
    except Released as released:
        lease.close(str(released))


def test_orders_are_answered_until_the_release(
    run_in_virtual_time: RunInVirtualTime, tmp_path: Path
) -> None:
    async def main() -> None:
        office = Releases()

        async def work(_: Job) -> Mapping[str, str]:
            await asyncio.sleep(5)
            return {"result": DIGEST}

        service = asyncio.create_task(serve(office.lease, work))
        for _ in range(2):
            assert await office.lease.execute(job(tmp_path / "out")) == {"result": DIGEST}
        assert asyncio.get_running_loop().time() == pytest.approx(10)
        office.lease.release("enough", avoid=True)
        office.lease.release("again", avoid=False)
        await service
        assert office.heard == [("enough", True)]
        with pytest.raises(LeaseOver, match="enough"):
            await office.lease.execute(job(tmp_path / "out"))

    run_in_virtual_time(main())


def test_closing_fails_every_order_that_waits(
    run_in_virtual_time: RunInVirtualTime, tmp_path: Path
) -> None:
    async def main() -> None:
        lease = Releases().lease
        orders = [asyncio.create_task(lease.execute(job(tmp_path / str(i)))) for i in range(3)]
        await asyncio.sleep(0)
        await lease.next_request()
        lease.close("the provider vanished")
        for outcome in await asyncio.gather(*orders, return_exceptions=True):
            assert isinstance(outcome, LeaseLost)
            assert str(outcome) == "the provider vanished"

    run_in_virtual_time(main())


def test_a_result_that_grows_too_large_is_noticed_while_it_comes_in(
    run_in_virtual_time: RunInVirtualTime, tmp_path: Path
) -> None:
    async def main() -> None:
        path = tmp_path / "out"

        async def pour() -> None:
            with path.open("wb") as file:
                while True:
                    file.write(bytes(40))
                    file.flush()
                    await asyncio.sleep(1)

        with pytest.raises(LeaseLost, match="result is larger than the 100 bytes it may have"):
            await Releases().lease.watch(pour(), job(path))
        assert 2 <= asyncio.get_running_loop().time() <= 2.5
        assert path.stat().st_size == 120
        await asyncio.sleep(10)
        assert path.stat().st_size == 120

    run_in_virtual_time(main())


def test_an_order_that_takes_too_long_loses_the_lease(
    run_in_virtual_time: RunInVirtualTime, tmp_path: Path
) -> None:
    async def main() -> None:
        with pytest.raises(LeaseLost, match=r"no result within 7\.5 s"):
            await Releases().lease.watch(
                asyncio.Event().wait(), job(tmp_path / "out", deadline_seconds=7.5)
            )
        assert asyncio.get_running_loop().time() == pytest.approx(7.5)

    run_in_virtual_time(main())


def test_a_release_calls_off_the_running_order(
    run_in_virtual_time: RunInVirtualTime, tmp_path: Path
) -> None:
    async def main() -> None:
        lease = Releases().lease
        loop = asyncio.get_running_loop()
        loop.call_later(3.0, lambda: lease.release("too slow", avoid=True))
        with pytest.raises(Released, match="too slow"):
            await lease.watch(asyncio.Event().wait(), job(tmp_path / "out"))
        assert loop.time() == pytest.approx(3)

    run_in_virtual_time(main())


def test_results_and_failures_of_a_script_pass_through(
    run_in_virtual_time: RunInVirtualTime, tmp_path: Path
) -> None:
    async def main() -> None:
        async def result() -> str:
            await asyncio.sleep(1)
            return "done"

        async def failure() -> str:
            raise BatchError("stopped")

        lease = Releases().lease
        assert await lease.watch(result(), job(tmp_path / "out")) == "done"
        with pytest.raises(BatchError):
            await lease.watch(failure(), job(tmp_path / "out"))

    run_in_virtual_time(main())
