"""Virtual networks: TCP connections of the requestor into activities, packets between these."""

import asyncio
import json
import os
import socket
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem import tunnels
from requestor.mock_golem.exe_unit import Membership, bubblewrap_problem
from requestor.mock_golem.exe_unit.sandbox import devices_problem
from requestor.mock_golem.virtual_network import Network, VirtualNetworks
from tests.requestor.mock_golem.conftest import MARKET, shell

NET = "/net-api/v1/net"
ECHO = """
import socket, threading
server = socket.create_server((%r, %d), backlog=64)
def serve(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.close()
def serve_all():
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()
import os
if os.fork() == 0:
    os.setsid()
    [os.close(descriptor) for descriptor in (0, 1, 2)]
    serve_all()
"""
ISOLATIONS = ["process", "bubblewrap"]


@pytest.fixture(params=ISOLATIONS)
def isolation(request: pytest.FixtureRequest) -> str:
    """Both isolations, where the machine has both."""
    wanted: str = request.param
    problem = bubblewrap_problem() if wanted == "bubblewrap" else None
    if problem is not None:
        pytest.skip(problem)
    return wanted


async def network(requestor: Any, *names: str) -> tuple[str, dict[str, str]]:
    """Make a network of started activities, one per provider; returns its id and theirs."""
    body = {"ip": "192.168.0.0", "mask": "255.255.255.0"}
    network_id: str = (await requestor.ok("POST", NET, body))["id"]
    activities = {}
    for number, name in enumerate(names, start=2):
        draft = await requestor.draft(provider=name)
        agreement = await requestor.sign(draft["proposalId"])
        await requestor.ok("POST", f"{MARKET}/agreements/{agreement}/wait", timeout=60)
        address = f"192.168.0.{number}"
        node = {"id": draft["issuerId"], "ip": address}
        await requestor.ok("POST", f"{NET}/{network_id}/nodes", node)
        activity = await requestor.activity(agreement)
        net = {"id": network_id, **body, "nodeIp": address, "nodes": {}}
        results = await requestor.execute(activity, [{"deploy": {"net": [net]}}, {"start": {}}])
        assert results[-1]["result"] == "Ok", results
        activities[name] = activity
    return network_id, activities


async def listen(requestor: Any, activity: str, port: int, address: str = "") -> None:
    """Start an echo server in an activity."""
    python = {
        "entry_point": "/usr/bin/env",
        "args": ["python3", "-c", ECHO % (address, port)],
        "capture": {"stderr": {"stream": {}}},
    }
    (result,) = await requestor.execute(activity, [{"run": python}])
    assert result["result"] == "Ok", result


def free_port() -> int:
    """A port of this machine that is free; without isolation guests share them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def fleet(isolation: str, *names: str) -> str:
    listed = ", ".join(f"{{name: {name}}}" for name in names)
    return f"runtime: {{isolation: {isolation}}}\nproviders: [{listed}]"


async def echoed(client: aiohttp.ClientWebSocketResponse, data: bytes) -> bytes:
    """Send, and collect as many bytes as were sent."""

    async def send() -> None:
        for start in range(0, len(data), 1 << 16):
            await client.send_bytes(data[start : start + (1 << 16)])

    sending = asyncio.create_task(send())
    got = bytearray()
    while len(got) < len(data):
        got += await client.receive_bytes(timeout=60)
    await sending
    return bytes(got)


@pytest.mark.asyncio
class TestTunnels:
    async def test_carry_bytes_both_ways_and_several_at_once(
        self, serve: Any, isolation: str
    ) -> None:
        requestor = await serve(fleet(isolation, "willow"))
        network_id, activities = await network(requestor, "willow")
        port = free_port()
        await listen(requestor, activities["willow"], port)
        url = f"{requestor.address.url}{NET}/{network_id}/tcp/192.168.0.2/{port}"
        data = bytes(range(256)) * 8192  # 2 MiB: more than all buffers on the way hold
        async with (
            requestor.session.ws_connect(url) as one,
            requestor.session.ws_connect(url) as other,
        ):
            assert await echoed(one, data) == data
            assert await echoed(other, b"second") == b"second"
            await one.send_str("text is bytes too")
            assert await one.receive_bytes(timeout=60) == b"text is bytes too"

    async def test_end_when_the_activity_ends(self, serve: Any, isolation: str) -> None:
        requestor = await serve(fleet(isolation, "willow"))
        network_id, activities = await network(requestor, "willow")
        port = free_port()
        await listen(requestor, activities["willow"], port)
        url = f"{requestor.address.url}{NET}/{network_id}/tcp/192.168.0.2/{port}"
        async with requestor.session.ws_connect(url) as client:
            assert await echoed(client, b"there") == b"there"
            await requestor.ok("DELETE", f"/activity-api/v1/activity/{activities['willow']}")
            assert (await client.receive(timeout=60)).type is aiohttp.WSMsgType.CLOSE
        assert await requestor.call("GET", url.removeprefix(requestor.address.url)) == (504, None)

    async def test_end_with_their_network(self, serve: Any) -> None:
        requestor = await serve(fleet("process", "willow"))
        network_id, activities = await network(requestor, "willow")
        port = free_port()
        await listen(requestor, activities["willow"], port)
        url = f"{requestor.address.url}{NET}/{network_id}/tcp/192.168.0.2/{port}"
        async with requestor.session.ws_connect(url) as client:
            assert await echoed(client, b"there") == b"there"
            await requestor.ok("DELETE", f"{NET}/{network_id}")
            assert (await client.receive(timeout=60)).type is aiohttp.WSMsgType.CLOSE

    async def test_leave_no_descriptors_behind(self, serve: Any, isolation: str) -> None:
        requestor = await serve(fleet(isolation, "willow"))

        async def rent_and_connect() -> int:
            network_id, activities = await network(requestor, "willow")
            await listen(requestor, activities["willow"], port := free_port())
            url = f"{requestor.address.url}{NET}/{network_id}/tcp/192.168.0.2/{port}"
            async with requestor.session.ws_connect(url) as client:
                assert await echoed(client, b"x") == b"x"
            activity = requestor.daemon.books.activities[activities["willow"]]
            await requestor.terminate(activity.agreement_id)
            await requestor.invoices(activity.agreement_id)
            await requestor.ok("DELETE", f"{NET}/{network_id}")
            return len(os.listdir("/proc/self/fd"))

        after_one = await rent_and_connect()
        counts = [await rent_and_connect() for _ in range(3)]
        assert counts[-1] <= after_one, (after_one, counts)

    async def test_that_cannot_be(self, serve: Any, isolation: str) -> None:
        requestor = await serve(fleet(isolation, "willow"))
        network_id, activities = await network(requestor, "willow")
        start = f"{NET}/{network_id}/tcp"
        refused = {"message": "Connection error: Connection refused"}
        assert await requestor.call("GET", f"{start}/192.168.0.2/{free_port()}") == (400, refused)
        assert await requestor.call("GET", f"{start}/192.168.0.99/80") == (504, None)
        outside = {"message": "Network not found for IP address: 10.0.0.1"}
        assert await requestor.call("GET", f"{start}/10.0.0.1/80") == (400, outside)
        for path in ("192.168.0.2/0", "192.168.0.2/65536", "192.168.0.2/999999", "192.168.0.2/x"):
            assert (await requestor.call("GET", f"{start}/{path}"))[0] == 404
        for path in ("not-an-ip/80", "%2e%2e/80"):
            assert (await requestor.call("GET", f"{start}/{path}"))[0] in (400, 404)
        gone = {"message": "Network not found"}
        assert await requestor.call("GET", f"{NET}/{'0' * 32}/tcp/192.168.0.2/80") == (404, gone)
        await listen(requestor, activities["willow"], port := free_port())
        status, _ = await requestor.call("GET", f"{start}/192.168.0.2/{port}")
        assert status == 400, "a plain GET is no websocket"

    async def test_need_the_key_which_may_stand_in_the_query(self, serve: Any) -> None:
        requestor = await serve(fleet("process", "willow"))
        network_id, activities = await network(requestor, "willow")
        await listen(requestor, activities["willow"], port := free_port())
        url = f"{requestor.address.url}{NET}/{network_id}/tcp/192.168.0.2/{port}"
        async with aiohttp.ClientSession() as stranger:
            for query in ("", "?authToken=wrong"):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                    await stranger.ws_connect(url + query)
                assert refusal.value.status == 401
            key = f"?authToken={requestor.address.app_key}"
            async with stranger.ws_connect(url + key) as client:
                assert await echoed(client, b"let in") == b"let in"

    async def test_are_not_endlessly_many(
        self, serve: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tunnels, "MOST_TUNNELS", 1)
        requestor = await serve(fleet("process", "willow"))
        network_id, activities = await network(requestor, "willow")
        await listen(requestor, activities["willow"], port := free_port())
        path = f"{NET}/{network_id}/tcp/192.168.0.2/{port}"
        async with requestor.session.ws_connect(requestor.address.url + path) as client:
            assert await echoed(client, b"one") == b"one"
            status, answer = await requestor.call("GET", path)
            assert (status, answer) == (500, {"message": "more than 1 connections"})

    async def test_a_frame_that_is_too_big_ends_one(self, serve: Any) -> None:
        requestor = await serve(fleet("process", "willow"))
        network_id, activities = await network(requestor, "willow")
        await listen(requestor, activities["willow"], port := free_port())
        url = f"{requestor.address.url}{NET}/{network_id}/tcp/192.168.0.2/{port}"
        async with requestor.session.ws_connect(url) as client:
            await client.send_bytes(bytes(1 << 20))
            message = await client.receive(timeout=60)
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert message.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG

    async def test_stopping_the_daemon_ends_them(self, serve: Any) -> None:
        requestor = await serve(fleet("process", "willow"))
        network_id, activities = await network(requestor, "willow")
        await listen(requestor, activities["willow"], port := free_port())
        url = f"{requestor.address.url}{NET}/{network_id}/tcp/192.168.0.2/{port}"
        async with requestor.session.ws_connect(url) as client:
            assert await echoed(client, b"there") == b"there"
            await requestor.daemon.stop()
            ended = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
            assert (await client.receive(timeout=60)).type in ended


@pytest.mark.skipif(bubblewrap_problem() is not None, reason=str(bubblewrap_problem()))
@pytest.mark.asyncio
class TestGuests:
    async def test_low_ports_are_theirs_but_no_other_right(self, serve: Any) -> None:
        requestor = await serve(fleet("bubblewrap", "willow"))
        network_id, activities = await network(requestor, "willow")
        await listen(requestor, activities["willow"], 80)
        url = f"{requestor.address.url}{NET}/{network_id}/tcp/192.168.0.2/80"
        async with requestor.session.ws_connect(url) as client:
            assert await echoed(client, b"x") == b"x"
        script = "grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status; ip link add type dummy"
        (result,) = await requestor.execute(activities["willow"], [shell(script)])
        assert result["stdout"].split()[1::2] == ["0" * 13 + "400"] * 2 + ["0" * 16]
        assert "peration not permitted" in result["stderr"]

    @pytest.mark.skipif(
        devices_problem("bubblewrap") is not None, reason=str(devices_problem("bubblewrap"))
    )
    async def test_reach_each_other_but_only_within_a_network(self, serve: Any) -> None:
        requestor = await serve(fleet("bubblewrap", "willow", "alder", "rowan"))
        network_id, activities = await network(requestor, "willow", "alder")
        _, strangers = await network(requestor, "rowan")
        await listen(requestor, activities["alder"], 4001, "192.168.0.3")
        ask = (
            "import socket; s = socket.create_connection(('192.168.0.3', 4001), timeout=3); "
            "s.sendall(b'x' * 50000); s.shutdown(1)\n"
            "got = 0\nwhile data := s.recv(65536): got += len(data)\nprint(got)"
        )
        python = {
            "entry_point": "/usr/bin/env",
            "args": ["python3", "-c", ask],
            "capture": {"stdout": {"stream": {}}, "stderr": {"stream": {}}},
        }
        (reached,) = await requestor.execute(activities["willow"], [{"run": python}])
        assert reached["stdout"] == "50000\n", reached
        (missed,) = await requestor.execute(strangers["rowan"], [{"run": python}])
        assert missed["result"] == "Error" and "timed out" in missed["stderr"], missed
        await requestor.ok("DELETE", f"{NET}/{network_id}")
        (cut,) = await requestor.execute(activities["willow"], [{"run": python}])
        assert cut["result"] == "Error" and "timed out" in cut["stderr"], cut


@pytest.mark.asyncio
async def test_a_hostile_deployment_is_refused(serve: Any) -> None:
    requestor = await serve(fleet("process", "willow"))
    activity = await requestor.activity()
    good = {"id": "n", "ip": "192.168.0.0", "mask": "255.255.255.0", "nodeIp": "192.168.0.2"}
    hostile: tuple[Any, ...] = (
        5,
        ["x"],
        [{}],
        [{**good, "nodeIp": "evil"}],
        [{**good, "nodeIp": 7}],
        [{**good, "mask": "255.0.255.0"}],
        [{**good, "ip": "::1/64"}],
        [good] * 100,
    )
    for net in hostile:
        body = {"text": json.dumps([{"deploy": {"net": net}}])}
        path = f"/activity-api/v1/activity/{activity}/exec"
        status, answer = await requestor.call("POST", path, body)
        assert status == 400 and "deploy" in answer["message"], (net, answer)


class TestPackets:
    @staticmethod
    def packet(source: str, target: str, body: bytes = b"") -> bytes:
        addresses = IPv4Address(source).packed + IPv4Address(target).packed
        return b"\x45" + bytes(11) + addresses + body

    @staticmethod
    def members() -> tuple[VirtualNetworks, Any, list[bytes]]:
        """Networks with two members of one; what the second gets."""
        virtual = VirtualNetworks()
        one = Network("n", IPv4Network("10.0.0.0/24"), "10.0.0.1")
        one.nodes = {"10.0.0.2": "0xa", "10.0.0.3": "0xb"}
        virtual.networks["n"] = one
        got: list[bytes] = []
        virtual.attach(Membership("n", "10.0.0.3", "255.255.255.0"), got.append)
        send = virtual.attach(Membership("n", "10.0.0.2", "255.255.255.0"), lambda packet: None)
        return virtual, send, got

    def test_reach_their_target_whole(self) -> None:
        _, send, got = self.members()
        whole = self.packet("10.0.0.2", "10.0.0.3", b"body")
        send(whole)
        assert got == [whole]

    def test_with_a_false_source_or_a_strange_target_are_dropped(self) -> None:
        _, send, got = self.members()
        for packet in (
            self.packet("10.0.0.9", "10.0.0.3"),
            self.packet("10.0.0.2", "10.0.0.4"),
            b"\x65" + self.packet("10.0.0.2", "10.0.0.3")[1:],
            self.packet("10.0.0.2", "10.0.0.3")[:19],
            b"",
        ):
            send(packet)
        assert got == []

    def test_reach_nobody_without_the_network_the_node_or_the_member(self) -> None:
        for change in ("network", "node", "member"):
            virtual, send, got = self.members()
            if change == "network":
                virtual.networks.clear()
            elif change == "node":
                del virtual.networks["n"].nodes["10.0.0.3"]
            else:
                virtual.detach(Membership("n", "10.0.0.3", "255.255.255.0"), got.append)
            send(self.packet("10.0.0.2", "10.0.0.3"))
            assert got == []

    def test_a_late_farewell_does_not_throw_out_a_successor(self) -> None:
        virtual, send, got = self.members()
        virtual.detach(Membership("n", "10.0.0.3", "255.255.255.0"), lambda packet: None)
        send(self.packet("10.0.0.2", "10.0.0.3"))
        assert len(got) == 1

    @given(st.binary(max_size=64))
    def test_of_any_bytes_do_no_harm(self, packet: bytes) -> None:
        _, send, got = self.members()
        send(packet)
        assert all(one == packet for one in got)
