"""The machine of a router, in a Network: forwarding, TTL, path MTU found and forgotten, fragments, several links, routes.

    a ---- r1 ---- r2 ---- b        1500, then `mtu` in the middle, then 1500
"""

from __future__ import annotations

import pytest

from afinet import Host, Network, socket
from afinet.runner.boot import quad
from afinet.uapi.snmp import SNMP4_ICMP_LIST, SNMP4_IPSTATS_LIST
from tests.sim.test_network import call, echo_once

IP_MTU, IP_MTU_DISCOVER, IP_RECVERR, IP_PMTUDISC_DO, IP_PMTUDISC_DONT = 14, 10, 11, 2, 0
PAYLOAD = bytes(range(256)) * 400


def line(net: Network, mtu: int = 1500, loss: float = 0.0) -> tuple[Host, Host, Host, Host]:
    a, r1, r2, b = (net.host(name) for name in ("a", "r1", "r2", "b"))
    net.link(a, r1, delay="5ms")
    net.link(r1, r2, delay="5ms", mtu=mtu, loss=loss)
    net.link(r2, b, delay="5ms")
    return a, r1, r2, b


def count(host: Host, name: str) -> int:
    """A counter of /proc/net/snmp's Ip line."""
    return host.net.ip_statistics[SNMP4_IPSTATS_LIST.index(name)]


def test_tcp_finds_the_smallest_mtu_of_its_path_and_sends_no_fragment() -> None:
    with Network(seed=1) as net:
        a, r1, r2, b = line(net, mtu=700)
        b.spawn(echo_once)

        def ask() -> int:
            with socket.create_connection(("b", 7)) as s:
                s.sendall(PAYLOAD)
                s.shutdown(socket.SHUT_WR)
                with s.makefile("rb") as f:
                    assert f.read() == PAYLOAD
                return s.getsockopt(socket.IPPROTO_IP, IP_MTU)

        task = a.spawn(ask)
        net.run(until=task)
        assert task.result() == 700
        assert count(r1, "FragFails") > 0  # each of which told a
        assert [count(r, "FragCreates") for r in (r1, r2)] == [0, 0]
        assert count(r1, "ForwDatagrams") > 100 and count(b, "ReasmReqds") == 0


def test_what_was_found_is_forgotten_after_its_time() -> None:
    """net.ipv4.route.mtu_expires is ten minutes."""
    with Network(seed=1) as net:
        a, _, _, b = line(net, mtu=700)

        def mtu() -> int:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.connect((b.address, 9))
                return s.getsockopt(socket.IPPROTO_IP, IP_MTU)

        def probe() -> list[int]:
            seen = [mtu()]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
                s.connect((b.address, 9))
                s.send(bytes(1000))
                net.sleep("1s")
                with pytest.raises(OSError, match="Message too long"):
                    s.send(bytes(1000))
            seen.append(mtu())
            net.sleep("9min")
            seen.append(mtu())
            net.sleep("61s")
            seen.append(mtu())
            return seen

        task = a.spawn(probe)
        net.run(until=task)
        assert task.result() == [1500, 700, 700, 1500]


def test_a_router_cuts_what_may_be_cut_and_the_receiver_joins_it() -> None:
    with Network(seed=1) as net:
        a, r1, _, b = line(net, mtu=700)

        def receive() -> bytes:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind(("", 9))
                return s.recv(65536)

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
                s.sendto(PAYLOAD[:1472], ("b", 9))

        got = b.spawn(receive)
        a.spawn(send)
        net.run(until=got)
        assert got.result() == PAYLOAD[:1472]
        # 680 bytes of payload to a fragment, rounded down to a multiple of eight
        assert (count(r1, "FragOKs"), count(r1, "FragCreates"), count(b, "ReasmReqds"), count(b, "ReasmOKs")) == (1, 3, 3, 1)


def test_a_lost_fragment_ends_its_datagram_after_thirty_seconds_and_the_senders_machine_is_told() -> None:
    with Network(seed=3) as net:
        a, _, _, b = line(net)

        def listen() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind(("", 9))
                net.sleep("100s")

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                s.connect((b.address, 9))
                net.capture(lose_the_last)
                s.send(PAYLOAD[:4000])
                s.settimeout(60)
                with pytest.raises(TimeoutError):
                    s.recv(100)

        def lose_the_last(host: Host, device: str, when: int, outbound: bool, frame: bytes) -> None:
            """Cut the last link when r2 sends the third fragment."""
            if host.name == "r2" and outbound and device == "eth1" and len(frame) > 1000:
                seen.append(frame)
                if len(seen) == 3:
                    net.links[2].cut(towards="b")

        seen: list[bytes] = []
        b.spawn(listen)
        task = a.spawn(send)
        net.run_for("20s")
        assert count(b, "ReasmReqds") == 2 and b.net.ipv4.fqdir is not None and b.net.ipv4.fqdir.mem > 0
        net.links[2].mend()
        net.run_for("30s")
        assert (count(b, "ReasmFails"), count(b, "ReasmTimeout"), b.net.ipv4.fqdir.mem) == (1, 1, 0)
        # "Fragment reassembly time exceeded" reaches the sender's machine, which tells its program nothing (icmp_unreach).
        assert a.net.icmp_statistics[SNMP4_ICMP_LIST.index("InMsgs")] == 1
        net.run(until=task)
        task.result()


def test_a_packet_in_a_loop_dies_and_its_sender_is_told_by_whom() -> None:
    """traceroute: each router answers for the packet that dies there."""
    with Network(seed=1) as net:
        a, r1, r2, b = line(net)

        def trace() -> list[str]:
            hops = []
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            for ttl in (1, 2, 3):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                    s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                    s.sendto(b"", (b.address, 33434 + ttl))
                    packet, (source, _) = raw.recvfrom(200)
                    hops.append(f"{source} {packet[20]}.{packet[21]}")
            return hops

        task = a.spawn(trace)
        net.run(until=task)
        quads = [quad(net.links[i].address_of(host)) for i, host in enumerate((r1, r2, b))]
        assert task.result() == [f"{quads[0]} 11.0", f"{quads[1]} 11.0", f"{quads[2]} 3.3"]
        assert count(r1, "InHdrErrors") == 1


def test_routes_that_point_at_each_other_do_not_forward_for_ever() -> None:
    with Network(seed=1) as net:
        a, r1, r2, _ = line(net)
        net.run_for("1ms")
        r1.add_route("20.0.0.0/8", via=quad(net.links[1].address_of(r2)))
        r2.add_route("20.0.0.0/8", via=quad(net.links[1].address_of(r1)))

        def send() -> int:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                s.connect(("20.0.0.1", 9))
                s.send(b"round and round")
                s.settimeout(10)
                try:
                    s.recv(10)
                except OSError as e:
                    return e.errno or 0
            return 0

        task = a.spawn(send)
        net.run(until=task)
        assert task.result() == 113
        # 63 times, and the error about it once
        assert count(r1, "ForwDatagrams") + count(r2, "ForwDatagrams") == 64


def test_a_hosts_own_links_and_routes_decide_and_a_cut_link_is_not_routed_around() -> None:
    """Two ways from a to b: the route by the shorter, static as in Linux, and the other only if somebody says so."""
    with Network(seed=1) as net:
        a, r, b = net.host("a"), net.host("r"), net.host("b")
        direct = net.link(a, b, delay="1ms")
        net.link(a, r, delay="1ms")
        net.link(r, b, delay="1ms")
        here, there = (quad(net.links[i].address_of(host)) for i, host in ((1, a), (2, b)))

        def serve() -> None:
            for _ in range(2):
                echo_once()

        b.spawn(serve)
        first = a.spawn(call, "b", b"direct")
        net.run(until=first)
        assert first.result() == b"direct" and count(r, "ForwDatagrams") == 0
        for host, i, goal in ((a, 1, there), (b, 2, here)):
            host.add_route(f"{goal}/32", via=quad(net.links[i].address_of(r)))
        with direct.cut():
            second = a.spawn(call, there, b"around")
            net.run(until=second)
        assert second.result() == b"around" and count(r, "ForwDatagrams") > 0


def test_ip_forward_off_stops_the_middle_and_on_again_mends_it() -> None:
    with Network(seed=1) as net:
        a, r1, _, b = line(net)
        b.spawn(echo_once)
        net.run_for("1ms")
        r1.sysctl("net.ipv4.ip_forward", 0)
        task = a.spawn(call, "b", b"hello")
        net.run_for("10s")
        assert not task.done and count(r1, "ForwDatagrams") == 0
        r1.sysctl("net.ipv4.ip_forward", 1)
        net.run(until=task)
        assert task.result() == b"hello"
