"""Images of a fleet file: which one a demand asks for, what its container holds, the registry."""

import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yapapi.payload import vm

from requestor.mock_golem.exe_unit import bubblewrap_problem
from requestor.mock_golem.fleet import FleetError, load_fleet, parse_fleet
from requestor.mock_golem.images.description import ANY_IMAGE, Image, image_of
from requestor.mock_golem.images.registry import fleet_registry
from tests.requestor.mock_golem.conftest import MARKET, shell
from tests.requestor.mock_golem.images.registry_client import Client, descriptor, gvmi, sha3

BLENDER, OTHER = "9a" * 28, "0b" * 28
IMAGES = (Image(hash=BLENDER, tag="golem/blender:latest", volumes=("/golem/output",)),)
FLEET = f"""
runtime: {{isolation: process}}
images:
  - hash: "{BLENDER}"
    tag: golem/blender:latest
    volumes: [/golem/output, /golem/work]
    environment: {{WITHIN: blender}}
providers: [{{name: willow}}]
"""


def manifest(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


class TestWhichImage:
    def test_by_package(self) -> None:
        package = f"hash:sha3:{BLENDER}:http://127.0.0.1/x.gvmi"
        assert image_of({"golem.srv.comp.task_package": package}, IMAGES) is IMAGES[0]

    def test_by_manifest(self) -> None:
        text = manifest({"payload": [{"hash": f"sha3:{BLENDER}", "urls": []}]})
        assert image_of({"golem.srv.comp.payload": text}, IMAGES) is IMAGES[0]

    def test_one_that_is_not_listed_holds_what_this_machine_has(self) -> None:
        package = f"hash:sha3:{OTHER}:http://127.0.0.1/x.gvmi"
        assert image_of({"golem.srv.comp.task_package": package}, IMAGES) is ANY_IMAGE
        assert image_of({}, IMAGES) is ANY_IMAGE
        assert ANY_IMAGE.root is None and ANY_IMAGE.volumes == ("/golem/work",)

    @given(
        st.one_of(st.text(), st.integers(), st.binary().map(lambda b: base64.b64encode(b).decode()))
        | st.recursive(
            st.none() | st.text() | st.integers(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["payload"]), inner),
        ).map(manifest)
    )
    def test_a_hostile_demand_raises_nothing(self, value: Any) -> None:
        demand = {"golem.srv.comp.task_package": value, "golem.srv.comp.payload": value}
        assert image_of(demand, IMAGES) is ANY_IMAGE


class TestFleetFile:
    def test_the_root_is_relative_to_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "images" / "blender").mkdir(parents=True)
        file = tmp_path / "fleet.yaml"
        file.write_text(
            f"images: [{{hash: '{BLENDER}', root: images/blender}}]\nproviders: [{{name: oak}}]"
        )
        assert load_fleet(file).images[0].root == tmp_path / "images" / "blender"

    def test_a_root_that_is_not_there(self, tmp_path: Path) -> None:
        file = tmp_path / "fleet.yaml"
        file.write_text(f"images: [{{hash: '{BLENDER}', root: gone}}]\nproviders: [{{name: oak}}]")
        with pytest.raises(FleetError, match=r"/gone is not a folder @ images\[0\]\.root"):
            load_fleet(file)

    def test_the_registry_s_folder_is_relative_to_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        file = tmp_path / "fleet.yaml"
        file.write_text("registry: {store: images}\nproviders: [{name: oak}]")
        registry = load_fleet(file).registry
        assert registry is not None and registry.store == tmp_path / "images"
        file.write_text("registry: {store: made}\nproviders: [{name: oak}]")
        fleet_registry(load_fleet(file))
        assert (tmp_path / "made").is_dir()
        (tmp_path / "file").touch()
        file.write_text("registry: {store: file}\nproviders: [{name: oak}]")
        with pytest.raises(FleetError, match=r"/file is not a folder @ registry\.store"):
            load_fleet(file)
        file.write_text("registry: {folder: gone}\nproviders: [{name: oak}]")
        with pytest.raises(FleetError, match=r"unknown key `folder` @ registry\.folder"):
            load_fleet(file)

    @pytest.mark.parametrize(
        ("image", "complaint"),
        [
            ("{hash: abc}", r"images\[0\]\.hash"),
            (f"{{hash: '{BLENDER}', volumes: [golem]}}", "no absolute path"),
            (f"{{hash: '{BLENDER}', volumes: [/a/../b]}}", "no absolute path"),
            (f"{{hash: '{BLENDER}', working_dir: /}}", "no absolute path"),
            (f"{{hash: '{BLENDER}', tag: latest}}", r"images\[0\]\.tag"),
            (f"{{hash: '{BLENDER}', volume: [/a]}}", "did you mean `volumes`"),
        ],
    )
    def test_what_is_wrong_is_told(self, image: str, complaint: str) -> None:
        with pytest.raises(FleetError, match=complaint):
            parse_fleet(f"images: [{image}]\nproviders: [{{name: oak}}]")


@pytest.mark.asyncio
class TestRegistry:
    async def test_yapapi_s_own_vm_repo_resolves_by_hash_and_tag(self, serve: Any) -> None:
        url = (await serve(FLEET)).address.url
        expected = f"hash:sha3:{BLENDER}:{url}/download/{BLENDER}.gvmi"
        by_hash = await vm.repo(repository_url=url, image_hash=BLENDER)
        assert await by_hash.resolve_url() == expected
        by_tag = await vm.repo(repository_url=url, image_tag="golem/blender:latest")
        assert await by_tag.resolve_url() == expected

    async def test_it_knows_the_fleet_s_images_only(self, serve: Any) -> None:
        url = (await serve(FLEET)).address.url
        with pytest.raises(Exception, match="404 no image with hash"):
            await (await vm.repo(repository_url=url, image_hash=OTHER)).resolve_url()
        with pytest.raises(Exception, match="404 no image with tag"):
            await (await vm.repo(repository_url=url, image_tag="golem/none:1")).resolve_url()

    async def test_without_images_it_knows_any(self, serve: Any) -> None:
        url = (await serve()).address.url
        resolved = await (await vm.repo(repository_url=url, image_hash=OTHER)).resolve_url()
        assert resolved.startswith(f"hash:sha3:{OTHER}:")
        one = await (await vm.repo(repository_url=url, image_tag="a/b:1")).resolve_url()
        other = await (await vm.repo(repository_url=url, image_tag="a/b:2")).resolve_url()
        assert one != other and len(one.split(":")[2]) == 56

    async def test_answers_need_no_key_and_bad_questions_are_refused(self, serve: Any) -> None:
        url = (await serve()).address.url
        cases = {
            "/v1/image/info": 400,
            f"/v1/image/info?hash={OTHER}&tag=a/b:1": 400,
            "/v1/image/info?hash=..%2F..": 404,
            "/v1/image/info?hash=" + "9" * 4000: 404,
            "/v1/image/info?tag=latest": 404,
            f"/image.{OTHER}.link": 200,
            "/image.zz.link": 404,
        }
        async with aiohttp.ClientSession() as session:
            for path, status in cases.items():
                async with session.get(url + path) as response:
                    assert response.status == status, path
                    assert len(await response.read()) < 200

    async def test_golem_core_s_question(self, serve: Any) -> None:
        requestor = await serve(FLEET)
        status, text = await requestor.call("GET", f"/image.{BLENDER}.link")
        assert (status, text) == (200, f"{requestor.address.url}/download/{BLENDER}.gvmi")


@pytest.mark.asyncio
class TestRegistryWithFiles:
    FLEET = "registry: {store: %s}\nproviders: [{name: willow}]"

    async def test_it_is_the_daemon_s_own(self, serve: Any, tmp_path: Path) -> None:
        image = gvmi(5000)
        (tmp_path / "derl.gvmi").write_bytes(image)
        (tmp_path / "tags.json").write_text(json.dumps({"me/derl:v1": sha3(image)}))
        url = (await serve(self.FLEET % tmp_path)).address.url
        expected = f"hash:sha3:{sha3(image)}:{url}/download/{sha3(image)}.gvmi"
        by_tag = await vm.repo(repository_url=url, image_tag="me/derl:v1")
        assert await by_tag.resolve_url() == expected
        by_hash = await vm.repo(repository_url=url, image_hash=sha3(image))
        assert await by_hash.resolve_url() == expected
        with pytest.raises(Exception, match="404 no image with hash"):
            await (await vm.repo(repository_url=url, image_hash=OTHER)).resolve_url()
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{url}/download/{sha3(image)}.gvmi") as response,
        ):
            assert response.content_length == len(image) and await response.read() == image

    async def test_it_takes_images_without_a_key_and_logs_no_token(
        self, serve: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "store").mkdir()
        log = tmp_path / "wire.jsonl"
        requestor = await serve(self.FLEET % (tmp_path / "store"), wire_log=log)
        image, token = gvmi(2500), "t0ken-of-mine"
        raw = descriptor(image)
        login = {"username": "me", "password": token}
        assert (await requestor.call("POST", "/auth/pat/login", login))[0] == 200
        async with aiohttp.ClientSession() as session:
            registry = Client(requestor.address.url, session)
            assert (await registry.begin(raw))[0] == 200
            for number in range(3):
                assert (await registry.chunk(image, number))[0] == 200
            assert (await registry.attach(raw, "v1", token=token))[0] == 200
            assert (await registry.info(tag="me/derl:v1"))[1]["sha3"] == sha3(image)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert {line["body"] for line in lines if line["method"] == "POST"} == {"(not logged)"}
        assert token not in log.read_text()


@pytest.mark.asyncio
async def test_a_container_is_as_its_image_says(serve: Any) -> None:
    requestor = await serve(FLEET)
    package = f"hash:sha3:{BLENDER}:http://127.0.0.1/x.gvmi"
    properties = {"golem.srv.comp.task_package": package}
    agreement = await requestor.agreement(properties=properties)
    shown = await requestor.ok("GET", f"{MARKET}/agreements/{agreement}")
    assert shown["demand"]["properties"]["golem.srv.comp.task_package"] == package
    activity = await requestor.activity(agreement)
    deployed, _, ran = await requestor.execute(
        activity, [{"deploy": {}}, {"start": {}}, shell("echo $WITHIN")]
    )
    volumes = [volume["path"] for volume in json.loads(deployed["stdout"])["vols"]]
    assert volumes == ["/golem/output", "/golem/work"]
    assert ran["stdout"] == "blender\n"


@pytest.mark.skipif(bubblewrap_problem() is not None, reason=str(bubblewrap_problem()))
@pytest.mark.asyncio
async def test_programs_of_an_image_with_a_root(serve: Any, tmp_path: Path) -> None:
    program = tmp_path / "root" / "golem" / "entrypoints" / "run.sh"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho from the image\n")
    program.chmod(0o755)
    requestor = await serve(
        f"images: [{{hash: '{BLENDER}', root: {tmp_path / 'root'}}}]\nproviders: [{{name: willow}}]"
    )
    properties = {"golem.srv.comp.task_package": f"hash:sha3:{BLENDER}:http://127.0.0.1/x"}
    activity = await requestor.activity(await requestor.agreement(properties=properties), True)
    run = {"entry_point": "/golem/entrypoints/run.sh", "capture": {"stdout": {"stream": {}}}}
    (result,) = await requestor.execute(activity, [{"run": run}])
    assert result["stdout"] == "from the image\n", result
