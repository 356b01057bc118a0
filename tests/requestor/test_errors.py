"""Exit codes and texts of the errors a user meets."""

import subprocess
import sys

import pytest

from requestor.errors import (
    BudgetReached,
    ConfigError,
    DerlError,
    Interrupted,
    PreflightError,
    RunFailed,
    UsageError,
    render,
)


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (UsageError, 2),
        (ConfigError, 3),
        (PreflightError, 4),
        (BudgetReached, 5),
        (RunFailed, 6),
        (Interrupted, 130),
    ],
)
def test_each_kind_has_its_exit_code(kind: type[DerlError], exit_code: int) -> None:
    assert kind("what").exit_code == exit_code
    assert kind("what", exit_code=9).exit_code == 9


def test_the_fix_stands_on_its_own_line() -> None:
    error = PreflightError("no key @ YAGNA_APPKEY", fix="run `yagna app-key create derl`")
    assert render(error) == ("error: no key @ YAGNA_APPKEY\nfix: run `yagna app-key create derl`")
    assert render(RunFailed("no provider came")) == "error: no provider came"


def test_a_config_error_lists_every_problem() -> None:
    error = ConfigError("x.yaml: 2 errors", problems=("a @ b", "c @ d"))
    assert render(error) == "error: x.yaml: 2 errors\n  - a @ b\n  - c @ d"


def test_the_package_itself_imports_nothing() -> None:
    script = (
        "import sys; before = set(sys.modules); import requestor; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["requestor"]
