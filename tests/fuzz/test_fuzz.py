"""A short run of every target of tests/fuzz, and that a run sees what is broken."""

from __future__ import annotations

import random
from typing import Any

import pytest

from afinet.net.core import dev as dev_core
from afinet.net.core.netdevice import NetDevice, PacketType
from afinet.net.core.skbuff import SkBuff, consume_skb
from afinet.uapi.if_ether import ETH_P_ALL
from tests.fuzz import mutate
from tests.fuzz.targets import TARGETS, Episode, FuzzFailure, run_episode
from tests.net.ipv4.iphost import check_header, packet

INPUTS = 2000


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_raises_and_nothing_is_left(name: str) -> None:
    assert run_episode(TARGETS[name], 7, 0, INPUTS) == INPUTS


def test_the_mutations_meet_connections_in_every_state() -> None:
    seen: set[int] = set()
    episode = Episode(TARGETS["tcp"], "states")
    for _ in range(4000):
        episode.run(episode.inputs + 1)
        for machine in episode.machines:
            assert machine.kernel.inet_hashinfo is not None
            for sk in machine.kernel.inet_hashinfo.ehash.values():
                seen.add(sk.sk_state)
    # ESTABLISHED to CLOSING; the listeners are in another table, and CLOSE is in none.
    assert seen >= {1, 2, 3, 4, 5, 6, 8, 9, 11, 12}
    assert episode.close() == []


def test_an_episode_is_a_function_of_its_seed() -> None:
    traces = []
    for _ in range(2):
        episode = Episode(TARGETS["tap"], "same")
        episode.run(1500)
        traces.append([(m.net.drop_reasons, m.net.net_statistics, m.io.sent) for m in episode.machines])
        assert episode.close() == []
    assert traces[0] == traces[1]


class Broken(PacketType):
    """A handler that keeps a packet, or raises."""

    def __init__(self, kernel: Any, raises: bool) -> None:
        super().__init__(ETH_P_ALL)
        self.raises = raises
        dev_core.dev_add_pack(kernel, self)

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        if self.raises:
            raise ValueError("no such packet")
        consume_skb(skb)
        return 0


def test_what_raises_is_reported_with_the_way_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Episode, inputs: int) -> None:
        Broken(self.machines[0].kernel, True)
        run(self, inputs)

    run = Episode.run
    monkeypatch.setattr(Episode, "run", broken)
    with pytest.raises(FuzzFailure, match=r"(?s)no such packet.*replay: .* udp --seed 3 --episode 5 --inputs 100"):
        run_episode(TARGETS["udp"], 3, 5, 100)


def test_what_is_left_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets(self: Episode, inputs: int) -> None:
        run(self, inputs)
        self.machines[1].kernel.softirq_count += 1

    run = Episode.run
    monkeypatch.setattr(Episode, "run", forgets)
    with pytest.raises(FuzzFailure):
        run_episode(TARGETS["udp"], 3, 5, 100)


def test_a_packet_in_pieces_covers_the_whole_mostly() -> None:
    chance = random.Random(1)
    whole = packet(bytes(range(256)) * 8)
    complete = 0
    for _ in range(200):
        covered = bytearray(len(whole) - 20)
        for piece in mutate.fragments(chance, whole):
            check_header(piece)
            at = (int.from_bytes(piece[6:8], "big") & 0x1FFF) * 8
            covered[at : at + len(piece) - 20] = b"\1" * len(covered[at : at + len(piece) - 20])
        complete += 0 not in covered
    assert 20 < complete < 200
