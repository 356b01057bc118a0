"""The errors a user can meet, each with its exit code, and the one place that renders them.

A message says what is wrong and where; `fix` says what to do about it. Code below the command line
raises these; only `requestor.cli` prints them.
"""

from __future__ import annotations

from typing import ClassVar


class DerlError(Exception):
    """Base of every error that is meant for the user's eyes.

    message: what is wrong and where, without a full stop at its end.
    fix: what the user can do, as an imperative; None where nothing can be said.
    exit_code: overrides the class's exit code.
    """

    default_exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, fix: str | None = None, exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.exit_code = self.default_exit_code if exit_code is None else exit_code


class UsageError(DerlError):
    """The command line is wrong."""

    default_exit_code = 2


class ConfigError(DerlError):
    """A config cannot be used; `problems` holds one line for each thing wrong with it."""

    default_exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        problems: tuple[str, ...] = (),
        fix: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(message + lines, fix=fix, exit_code=exit_code)
        self.problems = problems


class PreflightError(DerlError):
    """The surroundings are not fit: daemon, key, funds, offers, disk, installed programs."""

    default_exit_code = 4


class BudgetReached(DerlError):
    """The run stopped because the next step might cost more than is left."""

    default_exit_code = 5


class RunFailed(DerlError):
    """The run cannot go on; what it has reached is kept."""

    default_exit_code = 6


class Interrupted(DerlError):
    """The user or the system asked the run to stop."""

    default_exit_code = 130


def render(error: DerlError) -> str:
    """The text to show: `error: ...`, and `fix: ...` on a line of its own where there is one."""
    text = f"error: {error.message}"
    return text if error.fix is None else f"{text}\nfix: {error.fix}"
