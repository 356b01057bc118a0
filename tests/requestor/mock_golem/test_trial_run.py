"""What is said of a program that cannot start others here."""

import pytest

from requestor.mock_golem.trial_run import trial_run_problem

SHELL = ("/bin/sh", "-c")


def test_one_that_works() -> None:
    assert trial_run_problem([*SHELL, 'exec "$@"', "sh"], 60.0) is None


def test_one_that_fails_is_quoted() -> None:
    problem = trial_run_problem([*SHELL, "echo no namespaces >&2; exit 3"], 60.0)
    assert problem == "a trial run of `sh` failed with code 3: no namespaces"


def test_one_that_hangs_is_not_waited_for() -> None:
    problem = trial_run_problem([*SHELL, "exec sleep 1000"], 0.1)
    assert problem == "`sh` did not finish a trial run within 0.1 s"


def test_one_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        trial_run_problem(["/no/such/program"], 60.0)
