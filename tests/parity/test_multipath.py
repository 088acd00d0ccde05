"""Multipath as the running kernel does it. Its hash has a random key, so not the choices are compared but what they depend on:
which fields of a flow move it to another next hop, how many flows each gets, which next hops get none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parity.test_route_get import BASE, Afinet, Linux, usable

_ = usable
HOPS = "nexthop via 10.0.0.9 dev e0 weight {} nexthop via 192.168.7.9 dev e1 weight {}"
# Without a source: one that is a next hop's own would choose that next hop.
FLOW = {"daddr": "20.0.0.1", "ipproto": "udp", "sport": "1000", "dport": "2000"}
RECEIVED = {**FLOW, "from": "30.0.0.1", "iif": "e2"}
# What is varied, and how.
SWEEPS = {
    "daddr": [f"20.0.{i}.{i + 3}" for i in range(48)],
    "from": [f"30.0.{i}.{i + 3}" for i in range(48)],
    "sport": [str(1000 + i) for i in range(48)],
    "dport": [str(2000 + i) for i in range(48)],
}
POLICIES: list[tuple[int, int]] = [(0, 7), (1, 7), (2, 7), (3, 7), (3, 0x01), (3, 0x02), (3, 0x10), (3, 0x20), (3, 0x30), (3, 0x3F)]


@pytest.fixture
def sides(usable: None) -> Iterator[tuple[Linux, Afinet]]:
    linux, ours = Linux(), Afinet()
    try:
        yield linux, ours
    finally:
        linux.close()
        ours.close()


def both(sides: tuple[Linux, Afinet], commands: list[str]) -> None:
    linux, ours = sides
    for command in commands:
        if command.startswith("sysctl"):
            _, name, value = command.split()
            linux.sysctl(name, value)
            ours.sysctl(name, value)
        else:
            assert (command, ours.do(command)) == (command, linux.do(command))


def query(flow: dict[str, str]) -> str:
    return " ".join([flow["daddr"], *(f"{key} {value}" for key, value in flow.items() if key != "daddr")])


def devices(side: Linux | Afinet, flows: list[dict[str, str]]) -> list[object]:
    queries = [query(flow) for flow in flows]
    answers = side.get_all(queries) if isinstance(side, Linux) else [side.get(q) for q in queries]
    return [answer.get("dev") or answer["error"] for answer in answers]


def moved_by(side: Linux | Afinet, flow: dict[str, str]) -> list[str]:
    """The fields whose change moves flows to another next hop."""
    out = []
    for field, values in SWEEPS.items():
        if field == "from" and "iif" not in flow:
            continue  # a source must be ours
        if len(set(devices(side, [{**flow, field: value} for value in values]))) > 1:
            out.append(field)
    return out


@pytest.mark.parametrize("policy, fields", POLICIES)
def test_the_fields_that_count_are_the_kernels(sides: tuple[Linux, Afinet], policy: int, fields: int) -> None:
    both(
        sides,
        [
            *BASE,
            "sysctl net.ipv4.ip_forward 1",
            f"sysctl net.ipv4.fib_multipath_hash_policy {policy}",
            f"sysctl net.ipv4.fib_multipath_hash_fields {fields}",
            f"route add 20.0.0.0/8 {HOPS.format(1, 1)}",
            f"route add 30.0.0.0/8 {HOPS.format(1, 1)}",
        ],
    )
    linux, ours = sides
    for flow in (FLOW, RECEIVED):
        expected = moved_by(linux, flow)
        assert moved_by(ours, flow) == expected
        if policy == 1:
            assert "sport" in expected and "dport" in expected


@pytest.mark.parametrize("policy", [0, 1, 3])
def test_both_directions_of_a_flow_take_the_same_next_hop(sides: tuple[Linux, Afinet], policy: int) -> None:
    both(
        sides,
        [
            *BASE,
            "sysctl net.ipv4.ip_forward 1",
            f"sysctl net.ipv4.fib_multipath_hash_policy {policy}",
            "sysctl net.ipv4.fib_multipath_hash_fields 0x37",
            f"route add 20.0.0.0/8 {HOPS.format(1, 1)}",
            f"route add 30.0.0.0/8 {HOPS.format(1, 1)}",
        ],
    )
    there = [{**RECEIVED, "daddr": f"20.0.0.{i}", "sport": str(5000 + i)} for i in range(40)]
    back = [{**f, "daddr": f["from"], "from": f["daddr"], "sport": f["dport"], "dport": f["sport"]} for f in there]
    for side in sides:
        assert devices(side, there) == devices(side, back)


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 7), (200, 56)])
def test_flows_are_shared_by_weight(sides: tuple[Linux, Afinet], weights: tuple[int, int]) -> None:
    both(sides, [*BASE, f"route add 20.0.0.0/8 {HOPS.format(*weights)}"])
    flows = [{"daddr": f"20.{i}.{j}.1"} for i in range(40) for j in range(25)]
    share = 1000 * weights[0] / sum(weights)
    for side in sides:
        taken = devices(side, flows).count("e0")
        assert abs(taken - share) < 80, side  # five standard deviations


@pytest.mark.parametrize(
    "commands",
    [
        ["link set e1 down"],
        ["link set q1 down"],
        ["link set q1 down", "sysctl net.ipv4.conf.e1.ignore_routes_with_linkdown 1"],
        ["sysctl net.ipv4.conf.e1.ignore_routes_with_linkdown 1", "link set q1 down"],
        ["link set q1 down", "sysctl net.ipv4.conf.all.ignore_routes_with_linkdown 1"],
        ["sysctl net.ipv4.conf.e1.ignore_routes_with_linkdown 1", "link set q1 down", "link set q1 up"],
        ["sysctl net.ipv4.conf.e1.ignore_routes_with_linkdown 1", "link set q0 down", "link set q1 down"],
        ["link set e0 down", "link set e1 down", "link set e1 up"],
        ["addr del 10.0.0.1/24 dev e0"],
    ],
)
def test_next_hops_that_are_dead_or_without_carrier_get_what_they_get_in_linux(
    sides: tuple[Linux, Afinet], commands: list[str]
) -> None:
    both(sides, [*BASE, f"route add 20.0.0.0/8 {HOPS.format(1, 1)}"])
    both(sides, commands)
    flows = [{"daddr": f"20.0.0.{i}"} for i in range(1, 40)]
    linux, ours = sides
    assert ours.show("main") == linux.show("main")
    assert set(devices(ours, flows)) == set(devices(linux, flows))


def test_a_seed_of_ones_own_makes_the_choice_repeatable(sides: tuple[Linux, Afinet]) -> None:
    both(sides, [*BASE, f"route add 20.0.0.0/8 {HOPS.format(1, 1)}"])
    flows = [{"daddr": f"20.0.0.{i}"} for i in range(1, 60)]
    for side in sides:
        first = devices(side, flows)
        chosen = []
        for seed in ("12345", "777", "12345", "0"):
            side.sysctl("net.ipv4.fib_multipath_hash_seed", seed)
            chosen.append(devices(side, flows))
        assert chosen[0] == chosen[2] and chosen[0] != chosen[1] and chosen[3] == first
