"""Network, Host and Link: building, names, addresses, routes, running, faults, determinism."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

import afinet
from afinet import DeadlockError, Network, UsageError, socket


@pytest.fixture
def net() -> Iterator[Network]:
    with Network(seed=7, trace=True) as network:
        yield network


def pair(net: Network, **link: object) -> tuple[afinet.Host, afinet.Host]:
    a, b = net.host("a"), net.host("b")
    net.link(a, b, **link)  # type: ignore[arg-type]
    return a, b


def echo_once(port: int = 7) -> bytes:
    with socket.create_server(("", port)) as listener:
        conn, _ = listener.accept()
        with conn:
            data = b""
            while chunk := conn.recv(65536):
                data += chunk
            conn.sendall(data)
    return data


def call(host: str, payload: bytes, port: int = 7) -> bytes:
    with socket.create_connection((host, port)) as sock:
        sock.sendall(payload)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as f:
            return f.read()


# -- building ------------------------------------------------------------------------------------------------------------------


def test_links_number_their_addresses_in_the_order_they_are_made(net: Network) -> None:
    a, b, c = net.host("a"), net.host("b"), net.host("c")
    net.link(a, b)
    net.link(b, c)
    net.link(a, c, subnet="192.168.7.0/24")
    assert (a.addresses, b.addresses) == (["10.0.0.1", "192.168.7.1"], ["10.0.0.2", "10.0.0.5"])
    assert c.addresses == ["10.0.0.6", "192.168.7.2"]
    assert [dev.name for dev in a.devices] == ["lo", "eth0", "eth1"]
    assert a.address == "10.0.0.1"


@pytest.mark.parametrize(
    ("mistake", "remedy"),
    [
        (lambda n: n.link("a", "nobody"), "there is no host 'nobody' in this network (there are: a, b)"),
        (lambda n: n.link("a", "a"), "'a' is given twice"),
        (lambda n: n.link("a", "b", delay="soon"), "delay='soon' is not a time: write it like '20ms'"),
        (lambda n: n.link("a", "b", mtu=10), "between 68 and 65535"),
        (lambda n: n.link("a", "b", subnet="10.0.0.0/31"), "no room for two hosts"),
        (lambda n: n.host("a"), "there is a host 'a' already"),
        (lambda n: n.host("A"), "there is a host 'A' already"),
        (lambda n: n.host("what a name"), "letters, digits and hyphens"),
        (lambda n: n.host("localhost"), "give this one another name"),
        (lambda n: n.run(until="later"), "until='later' is not a time"),
        (lambda n: n.hosts["a"].spawn(42), "give it a function"),
        (lambda n: n.hosts["a"].sysctl("net.ipv4.tcp_sak"), "did you mean 'net.ipv4.tcp_sack'?"),
        (lambda n: n.hosts["a"].sysctl("net.ipv4.tcp_sack", "perhaps"), "takes no 'perhaps'"),
        (lambda n: n.hosts["a"].device("eth9"), "it has lo"),
        (lambda n: n.hosts["a"].address, "has no address"),
        (lambda n: n.sleep(1), "net.run_for()"),
        (lambda n: Network().trace_hash, "Network(trace=True)"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_remedy(net: Network, mistake: object, remedy: str) -> None:
    net.host("a")
    net.host("b")
    with pytest.raises(UsageError) as e:
        mistake(net)  # type: ignore[operator]
    assert remedy in str(e.value) and "\n" not in str(e.value)


def test_hosts_of_another_network_are_refused(net: Network) -> None:
    with Network() as other, pytest.raises(UsageError, match="another network"):
        net.link(net.host("a"), other.host("b"))


def test_sysctls_are_read_and_written_under_their_linux_names(net: Network) -> None:
    a = net.host("a")
    assert a.sysctl("net.ipv4.ip_forward") == "0"
    assert a.sysctl("net/ipv4/ip_forward", 1) == "1"
    assert a.sysctl("net.ipv4.tcp_rmem", [4096, 65536, 1 << 20]).split() == ["4096", "65536", str(1 << 20)]


# -- running -------------------------------------------------------------------------------------------------------------------


def test_a_call_and_its_answer_take_what_the_link_takes(net: Network) -> None:
    a, b = pair(net, delay="20ms")
    server = b.spawn(echo_once)
    client = a.spawn(call, "b", b"hello")
    assert net.run(until=client)
    assert client.result() == b"hello"
    net.run()
    assert server.result() == b"hello"
    # ARP, handshake, request and FIN together, answer: three round trips of 40 ms
    assert net.now == pytest.approx(0.12, abs=0.005)


def test_a_megabyte_survives_loss_reordering_and_duplication(net: Network) -> None:
    a, b = pair(net, delay="5ms", jitter="2ms", loss="3%", duplicate="1%", reorder="2%", corrupt="1%", rate="50mbit")
    payload = bytes(range(256)) * 4000
    server = b.spawn(echo_once)
    client = a.spawn(call, "b", payload)
    net.run(until=[client, server])
    assert client.result() == payload and server.result() == payload


def test_the_rate_of_a_link_limits_what_passes(net: Network) -> None:
    a, b = pair(net, delay="1ms", rate="8mbit")
    b.spawn(echo_once)
    client = a.spawn(call, "b", b"x" * 1_000_000)
    net.run(until=client)
    # a megabyte each way at a megabyte a second, plus headers
    assert 2.0 < net.now < 2.4


def test_same_seed_same_trace_and_another_seed_another() -> None:
    def one(seed: int) -> tuple[str, float]:
        with Network(seed=seed, trace=True) as net:
            a, b = pair(net, delay="10ms", jitter="1ms", loss="2%", rate="20mbit")
            b.spawn(echo_once)
            client = a.spawn(call, "b", b"y" * 300_000)
            net.run(until=client)
            client.result()
            net.run()
            return net.trace_hash, net.now

    assert one(1) == one(1)
    assert one(1)[0] != one(2)[0]


def test_hosts_that_are_no_neighbours_reach_each_other_through_routers(net: Network) -> None:
    hosts = [net.host(f"h{i}") for i in range(5)]
    for left, right in itertools.pairwise(hosts):
        net.link(left, right, delay="1ms")
    hosts[4].spawn(echo_once)
    client = hosts[0].spawn(call, "h4", b"far away")
    net.run(until=client)
    assert client.result() == b"far away"
    assert hosts[2].sysctl("net.ipv4.ip_forward") == "1" and hosts[0].sysctl("net.ipv4.ip_forward") == "0"


def test_a_host_that_is_no_router_forwards_nothing(net: Network) -> None:
    a, middle, b = net.host("a"), net.host("m", router=False), net.host("b")
    net.link(a, middle)
    net.link(middle, b)
    client = a.spawn(call, "b", b"")
    net.run(until=client)
    with pytest.raises(OSError, match="unreachable"):
        client.result()


def test_the_shortest_path_is_taken_in_a_ring(net: Network) -> None:
    ring = [net.host(f"r{i}") for i in range(6)]
    for i in range(6):
        net.link(ring[i], ring[(i + 1) % 6], delay="10ms")
    ring[2].spawn(echo_once)
    client = ring[0].spawn(call, "r2", b"x")
    net.run(until=client)
    assert client.result() == b"x"
    assert ring[4].devices[1].stats.rx_packets == 0


def test_names_resolve_to_the_nearest_address(net: Network) -> None:
    a, b, c = net.host("a"), net.host("b"), net.host("c")
    net.link(b, c)
    net.link(a, b)
    task = a.spawn(lambda: (socket.gethostbyname("b"), socket.gethostbyname("c"), socket.gethostbyaddr("10.0.0.1")[0]))
    net.run()
    assert task.result() == ("10.0.0.6", "10.0.0.2", "b")


def test_run_until_a_time_stops_there(net: Network) -> None:
    a = net.host("a")
    task = a.spawn(net.sleep, "2s")
    assert net.run(until="1.5s")
    assert net.now == 1.5 and not task.done
    assert not net.run_for("100ms", until=task)
    assert net.run_for(5, until=task)
    assert net.now == 2.0


def test_a_deadlock_names_the_task_and_its_call(net: Network) -> None:
    a = net.host("a")

    def wait_for_nobody() -> None:
        with socket.create_server(("", 80)) as s:
            s.accept()

    task = a.spawn(wait_for_nobody)
    with pytest.raises(DeadlockError, match=r"wait_for_nobody on a: accept\(\), descriptor 1048579"):
        net.run(until=task)


def test_spawn_works_as_a_decorator_and_the_task_has_the_functions_name(net: Network) -> None:
    a = net.host("a")

    @a.spawn
    def seven() -> int:
        return 7

    @a.spawn(name="renamed")
    def eight() -> int:
        return 8

    net.run()
    assert (seven.result(), eight.result(), seven.name, eight.name) == (7, 8, "seven", "renamed")


def test_a_coroutine_function_needs_a_bootstrapped_process(net: Network) -> None:
    async def program() -> None: ...

    with pytest.raises(NotImplementedError, match="afinet run"):
        net.host("a").spawn(program)


def test_the_end_of_a_program_closes_its_sockets(net: Network) -> None:
    a, b = pair(net, delay="1ms")

    def leave_open() -> None:
        s = socket.socket()
        s.bind(("", 80))
        s.listen()
        keep.append(s)

    keep: list[socket.socket] = []
    b.spawn(leave_open)
    net.run()
    client = a.spawn(call, "b", b"", 80)
    net.run(until=client)
    with pytest.raises(ConnectionRefusedError):
        client.result()


def test_killed_programs_leave_no_timer_and_no_sock_behind(net: Network) -> None:
    a, b = pair(net, delay="1ms")
    b.spawn(echo_once)

    def talk() -> None:
        with socket.create_connection(("b", 7)) as s:
            s.recv(1)

    a.spawn(talk)
    net.run(until="1s")
    net.close()
    assert not net.runner.tasks
    with pytest.raises(UsageError, match="closed"):
        net.run()


# -- faults --------------------------------------------------------------------------------------------------------------------


def ticks(net: Network, host: afinet.Host, other: str) -> list[float]:
    """Datagrams every 100 ms from `host` to `other`; when they arrive."""
    seen: list[float] = []

    def receive() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("", 9))
            while True:
                s.recv(100)
                seen.append(round(net.now, 3))

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for _ in range(10):
                net.sleep("100ms")
                s.sendto(b"tick", (other, 9))

    net.hosts[other].spawn(receive)
    host.spawn(send)
    return seen


def test_a_cut_link_loses_what_is_sent_until_it_is_mended(net: Network) -> None:
    a, _ = pair(net, delay="1ms")
    seen = ticks(net, a, "b")
    net.run_for("350ms")
    with net.links[0].cut(towards="b"):
        net.run_for("300ms")
    net.run_for("1s")
    assert len(seen) == 7 and not any(0.35 < t < 0.65 for t in seen)
    assert net.links[0].to_b.lost == 3


def test_a_link_changed_while_it_runs_is_another_link(net: Network) -> None:
    a, _ = pair(net, delay="1ms")
    link = net.links[0]
    seen = ticks(net, a, "b")
    net.run_for("550ms")
    with link.change(delay="50ms"):
        net.run_for("300ms")
    link.change(loss=1)
    net.run_for("1s")
    assert seen[:5] == [0.103, 0.201, 0.301, 0.401, 0.501]  # the first waits for ARP
    assert seen[5:] == [0.65, 0.75, 0.85]
    with pytest.raises(UsageError, match="a link has no 'colour'"):
        link.change(colour=1)


def test_captures_see_both_ends_and_end_when_closed(net: Network) -> None:
    a, b = pair(net, delay="1ms")
    seen: list[tuple[str, str, bool]] = []
    b.spawn(echo_once)
    with net.capture(lambda host, dev, when, out, frame: seen.append((host.name, dev, out))):
        client = a.spawn(call, "b", b"x")
        net.run(until=client)
    n = len(seen)
    net.run_for("1s")
    assert len(seen) == n
    assert {("a", "eth0", True), ("a", "eth0", False), ("b", "eth0", True), ("b", "eth0", False)} <= set(seen)
