"""Providers that run other programs than they are asked for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from requestor.mock_golem.fleet import FleetError, load_fleet, parse_fleet
from requestor.mock_golem.programs import install_programs


def test_another_program_runs_with_the_arguments_given_and_finds_the_real_one(
    tmp_path: Path,
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "adder").write_text("#!/bin/sh\necho real $1\n")
    (real / "adder").chmod(0o755)
    path = install_programs(
        tmp_path / "own",
        {"adder": "sh -c 'echo false $1; exec adder $1' -"},
        f"{real}:/usr/bin:/bin",
    )
    done = subprocess.run(
        ["/bin/sh", "-c", "adder 7"], capture_output=True, text=True, check=True, env={"PATH": path}
    )
    assert done.stdout == "false 7\nreal 7\n"


@pytest.mark.asyncio
async def test_containers_have_the_provider_s_own_programs_and_shared_folder(
    serve: Any, run_shell: Any, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    fleet = f"""
providers:
  - name: willow
    programs: {{greet: "/bin/echo good-bye"}}
    shared: {shared}
"""
    requestor = await serve(fleet)
    activity = await requestor.activity(deployed=True)
    script = 'greet you; echo told > "$MOCK_GOLEM_SHARED/word"'
    results = await requestor.execute(activity, [run_shell(script)])
    assert results[0]["stdout"] == "good-bye you\n", results
    assert (shared / "word").read_text() == "told\n"


def test_images_have_their_own_programs() -> None:
    text = "runtime: {kind: image}\nproviders: [{name: a, programs: {sh: ls}}]"
    with pytest.raises(FleetError, match=r"providers\[0\]\.programs"):
        parse_fleet(text)


def test_a_shared_folder_is_relative_to_the_fleet_file(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("providers: [{name: a, shared: liars}]")
    (provider,) = load_fleet(tmp_path / "fleet.yaml").providers
    assert provider.shared == Path(os.path.realpath(tmp_path / "liars"))
