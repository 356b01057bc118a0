"""`derl-request study` and `attacks`, as far as they say what is wrong and what there is."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from requestor.cli.main import cli
from requestor.errors import UsageError


def test_the_attacks_are_listed() -> None:
    said = CliRunner().invoke(cli, ["attacks"]).output
    assert "sign_flip" in said
    assert "arXiv 2502.08123" in said


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--attacks", "sing_flip"], "sign_flip"),
        (["--variants", "nothing"], "no variant"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(words: list[str], fault: str) -> None:
    done = CliRunner().invoke(cli, ["study", "byzantine", *words])
    assert isinstance(done.exception, UsageError)
    assert fault in str(done.exception)
