"""What goes wrong with images, said with its remedy."""

from __future__ import annotations


class ImageToolError(Exception):
    """An error that a user can meet. `fix` says what to do; `exit_code` is the program's."""

    exit_code = 1

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.fix = fix


class BadImage(ImageToolError):
    """An image is not what it should be (exit code 3)."""

    exit_code = 3


class MachineUnfit(ImageToolError):
    """This machine lacks a program, a right, space or a network (exit code 4)."""

    exit_code = 4


class NotToBeHad(ImageToolError):
    """A locked package is nowhere to be had any more (exit code 5)."""

    exit_code = 5


class RegistryRefused(ImageToolError):
    """The registry refused, or answered with something else (exit code 6)."""

    exit_code = 6
