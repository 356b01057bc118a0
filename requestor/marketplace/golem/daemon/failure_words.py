"""What went wrong in a call or a command through yapapi, in one line for people."""

from __future__ import annotations

from yapapi.rest.activity import BatchTimeoutError, CommandExecutionError

from requestor.marketplace.golem.daemon.words import message_of


def describe_failure(error: BaseException) -> str:
    """Return one short printable line for an error, stranger's text included."""
    if isinstance(error, CommandExecutionError):
        # what is no UTF-8 text comes as a list of numbers
        detail = str(error.stderr or error.message or error)
        text = f"command failed: {detail.strip().splitlines()[-1] if detail.strip() else error}"
    elif isinstance(error, BatchTimeoutError):
        text = "no answer in time"
    elif (status := getattr(error, "status", None)) is not None:
        said = message_of(str(getattr(error, "body", "")))
        text = f"the daemon answered {status}: {said}"
        if "GSB error" in said:  # yagna's bus does not reach the provider
            text = f"the provider is gone: {text}"
    else:
        text = str(error).strip() or type(error).__name__
    line = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(line.split())[:300] or type(error).__name__
