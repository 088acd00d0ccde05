"""net/core/neighbour.py: NUD states by packet and by time, queues, garbage collection. A fake protocol stands above it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.machine import Kernel
from afinet.kernel.sysctl import sysctl_read, sysctl_write
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.trace import TraceProbe
from afinet.net.core import dev as dev_core
from afinet.net.core import neighbour
from afinet.net.core.neighbour import (
    NEIGH_UPDATE_F_ADMIN,
    NEIGH_UPDATE_F_OVERRIDE,
    NEIGH_UPDATE_F_WEAK_OVERRIDE,
    Neighbour,
    NeighTable,
    neigh_add,
    neigh_confirm,
    neigh_create,
    neigh_delete,
    neigh_lookup,
    neigh_output,
    neigh_update,
)
from afinet.net.core.netdevice import NetDevice
from afinet.net.core.skbuff import SkBuff, alloc_skb, kfree_skb_reason
from afinet.uapi.errno import EINVAL, ENOENT, EPERM
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.neighbour import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
)
from afinet.wire import ethernet
from tests.net.core.devices import Sink, boot, drops, init_net, sink_device

S = NSEC_PER_SEC
MAC = 0x02BB00000001
OTHER_MAC = 0x02BB00000002


class Table(NeighTable):
    """A protocol that writes down what it is asked."""

    def __init__(self, kernel: Kernel) -> None:
        net = init_net(kernel)
        super().__init__(net, "test_cache", ETH_P_IP)
        self.solicited: list[tuple[int, int, bytes]] = []  # when, probes, the packet that waits
        self.reported: list[bytes] = []
        self.noarp_key = -1
        self.refuse_key = -1
        net.arp_tbl = self

    def constructor(self, n: Neighbour) -> int:
        if n.primary_key == self.refuse_key:
            return -EINVAL
        if n.primary_key == self.noarp_key:
            n.nud_state = NUD_NOARP
            n.ha = MAC
        if n.dev.arp_parms is not None:
            n.parms = n.dev.arp_parms
        return 0

    def solicit(self, n: Neighbour, skb: SkBuff | None) -> None:
        waiting = b"" if skb is None else skb.head[skb.data : skb.tail]
        self.solicited.append((self.kernel.now, n.probes, waiting))

    def error_report(self, n: Neighbour, skb: SkBuff) -> None:
        self.reported.append(skb.head[skb.data : skb.tail])
        kfree_skb_reason(self.net, skb, 2)


def setup() -> tuple[Kernel, Table, NetDevice, Sink]:
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    return kernel, Table(kernel), dev, sink


def out(n: Neighbour, payload: bytes) -> int:
    skb = alloc_skb(payload)
    skb.dev = n.dev
    skb.protocol = ETH_P_IP
    return neigh_output(n, skb)


def entry(tbl: Table, dev: NetDevice, key: int = 1) -> Neighbour:
    n = neigh_create(tbl, key, dev)
    assert n is not None
    return n


def after(kernel: Kernel, ns: int) -> None:
    """Let time pass, waking at each deadline."""
    end = kernel.now + ns
    while kernel.next_timer() <= end:
        kernel.run(kernel.next_timer())
    kernel.run(end)


def reachable(kernel: Kernel, tbl: Table, dev: NetDevice, key: int = 1) -> Neighbour:
    n = entry(tbl, dev, key)
    assert neigh_update(n, MAC, NUD_REACHABLE, NEIGH_UPDATE_F_OVERRIDE) == 0
    return n


# -- resolving


def test_the_first_packet_asks_at_once_and_goes_when_the_answer_comes():
    kernel, tbl, dev, sink = setup()
    n = entry(tbl, dev)
    assert n.nud_state == NUD_NONE
    assert out(n, b"one") == 0
    assert n.nud_state == NUD_INCOMPLETE
    assert tbl.solicited == [(kernel.now, 3, b"one")]  # ucast_solicit is skipped: nothing is known to ask
    assert out(n, b"two") == 0
    assert len(tbl.solicited) == 1 and sink.sent == []
    neigh_update(n, MAC, NUD_REACHABLE, NEIGH_UPDATE_F_OVERRIDE)
    header = ethernet.emit(MAC, dev.dev_addr, ETH_P_IP)
    assert sink.sent == [header + b"one", header + b"two"]
    out(n, b"three")
    assert sink.sent[2] == header + b"three"
    assert n.arp_queue_len_bytes == 0


def test_three_questions_a_second_apart_and_then_the_senders_are_told():
    kernel, tbl, dev, _ = setup()
    start = kernel.now
    n = entry(tbl, dev)
    out(n, b"one")
    out(n, b"two")
    after(kernel, 10 * S)
    assert [(when - start, probes) for when, probes, _ in tbl.solicited] == [(0, 3), (S, 4), (2 * S, 5)]
    assert tbl.reported == [b"one", b"two"]
    assert n.nud_state == NUD_FAILED and n.updated == start + 3 * S
    assert tbl.stats.res_failed == 1 and kernel.timers.pending == 0
    # the next packet begins anew
    out(n, b"three")
    assert n.nud_state == NUD_INCOMPLETE and len(tbl.solicited) == 4


def test_a_report_that_sends_to_the_same_neighbour_begins_anew_and_keeps_its_packet():
    class Resend(Table):
        def error_report(self, n: Neighbour, skb: SkBuff) -> None:
            super().error_report(n, skb)
            if len(self.reported) == 1:
                out(n, b"again")

    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    tbl = Resend(kernel)
    n = entry(tbl, dev)
    out(n, b"one")
    out(n, b"two")
    after(kernel, 3 * S)
    assert tbl.reported == [b"one", b"two"] and n.nud_state == NUD_INCOMPLETE
    neigh_update(n, MAC, NUD_REACHABLE, 0)
    assert [f[14:] for f in sink.sent] == [b"again"]


def test_without_probes_a_packet_fails_at_once():
    kernel, tbl, dev, _ = setup()
    tbl.parms.mcast_probes = 0
    n = entry(tbl, dev)
    assert out(n, b"x") == 0
    assert n.nud_state == NUD_FAILED and drops(tbl.net) == {"NEIGH_FAILED": 1}
    assert kernel.timers.pending == 0


def test_the_queue_is_bounded_and_the_oldest_go():
    kernel, tbl, dev, sink = setup()
    tbl.parms.queue_len_bytes = 3 * alloc_skb(b"0").truesize
    n = entry(tbl, dev)
    for i in range(5):
        out(n, b"%d" % i)
    assert drops(tbl.net) == {"NEIGH_QUEUEFULL": 2} and tbl.stats.unres_discards == 2
    neigh_update(n, MAC, NUD_STALE, 0)
    assert [f[14:] for f in sink.sent] == [b"2", b"3", b"4"]
    assert kernel.timers.pending == 1  # the first of them made the entry DELAY


def test_one_packet_larger_than_the_bound_is_still_taken():
    _, tbl, dev, _ = setup()
    tbl.parms.queue_len_bytes = 10
    n = entry(tbl, dev)
    out(n, b"x")
    out(n, b"y")
    assert n.arp_queue is not None and n.arp_queue.qlen == 1


# -- doubting


def test_reachable_becomes_stale_after_its_random_time():
    kernel, tbl, dev, _ = setup()
    assert 15 * S <= tbl.parms.reachable_time < 45 * S
    n = reachable(kernel, tbl, dev)
    after(kernel, tbl.parms.reachable_time)
    assert n.nud_state == NUD_REACHABLE
    after(kernel, S)
    assert n.nud_state == NUD_STALE and kernel.timers.pending == 0 and n.hh == b""


def test_a_packet_to_a_stale_neighbour_goes_and_starts_the_delay_then_unicast_probes():
    kernel, tbl, dev, sink = setup()
    n = entry(tbl, dev)
    neigh_update(n, MAC, NUD_STALE, 0)
    start = kernel.now
    out(n, b"x")
    assert len(sink.sent) == 1 and n.nud_state == NUD_DELAY
    after(kernel, 5 * S)
    assert n.nud_state == NUD_PROBE
    after(kernel, 10 * S)
    assert [(when - start, probes) for when, probes, _ in tbl.solicited] == [(5 * S, 0), (6 * S, 1), (7 * S, 2)]
    assert n.nud_state == NUD_FAILED and n.updated == start + 8 * S


def test_mcast_resolicit_asks_everyone_before_giving_up():
    kernel, tbl, dev, _ = setup()
    tbl.parms.mcast_reprobes = 2
    n = entry(tbl, dev)
    neigh_update(n, MAC, NUD_STALE, 0)
    out(n, b"x")
    after(kernel, 20 * S)
    assert [probes for _, probes, _ in tbl.solicited] == [0, 1, 2, 3, 4]


def test_confirmation_by_an_upper_layer_ends_the_delay():
    kernel, tbl, dev, _ = setup()
    n = entry(tbl, dev)
    neigh_update(n, MAC, NUD_STALE, 0)
    out(n, b"x")
    after(kernel, S)
    neigh_confirm(n)
    after(kernel, 4 * S)
    assert n.nud_state == NUD_REACHABLE and n.hh != b"" and tbl.solicited == []


def test_confirmation_keeps_a_neighbour_reachable():
    kernel, tbl, dev, _ = setup()
    n = reachable(kernel, tbl, dev)
    for _ in range(100):
        after(kernel, 10 * S)
        neigh_confirm(n)
    assert n.nud_state == NUD_REACHABLE and tbl.solicited == []


def test_a_neighbour_in_use_is_doubted_when_its_time_is_over():
    kernel, tbl, dev, _ = setup()
    n = reachable(kernel, tbl, dev)
    limit = tbl.parms.reachable_time
    after(kernel, limit - S)
    # a used entry: `used` is set by the slow path, as in Linux
    neighbour.neigh_event_send(n, None)
    after(kernel, 2 * S)
    assert n.nud_state == NUD_DELAY


def test_an_answer_to_a_probe_makes_it_reachable_again():
    kernel, tbl, dev, _ = setup()
    n = entry(tbl, dev)
    neigh_update(n, MAC, NUD_STALE, 0)
    out(n, b"x")
    after(kernel, 6 * S)
    assert n.nud_state == NUD_PROBE
    neigh_update(n, MAC, NUD_REACHABLE, 0)
    assert n.nud_state == NUD_REACHABLE
    after(kernel, 5 * S)
    assert n.nud_state == NUD_REACHABLE and len(tbl.solicited) == 2


def test_the_reachable_time_is_drawn_again_after_five_minutes():
    kernel, tbl, dev, _ = setup()
    before = tbl.parms.reachable_time
    kernel.run(kernel.now + 301 * S)
    n = reachable(kernel, tbl, dev)
    assert tbl.parms.reachable_time != before
    assert n.expires - kernel.now == tbl.parms.reachable_time


# -- neigh_update


def test_another_address_needs_the_override_flag():
    kernel, tbl, dev, sink = setup()
    n = reachable(kernel, tbl, dev)
    assert neigh_update(n, OTHER_MAC, NUD_REACHABLE, 0) == 0
    assert n.ha == MAC and n.nud_state == NUD_REACHABLE
    assert neigh_update(n, OTHER_MAC, NUD_REACHABLE, NEIGH_UPDATE_F_OVERRIDE) == 0
    assert n.ha == OTHER_MAC
    out(n, b"x")
    assert ethernet.parse(sink.sent[0], 0)[0] == OTHER_MAC


def test_a_weak_override_only_raises_doubt():
    kernel, tbl, dev, _ = setup()
    n = reachable(kernel, tbl, dev)
    neigh_update(n, OTHER_MAC, NUD_REACHABLE, NEIGH_UPDATE_F_WEAK_OVERRIDE)
    assert n.ha == MAC and n.nud_state == NUD_STALE and n.hh == b""


def test_stale_news_of_the_same_address_change_nothing():
    kernel, tbl, dev, _ = setup()
    n = reachable(kernel, tbl, dev)
    updated = n.updated
    kernel.run(kernel.now + S)
    neigh_update(n, MAC, NUD_STALE, NEIGH_UPDATE_F_OVERRIDE)
    assert n.nud_state == NUD_REACHABLE and n.updated == updated


def test_permanent_entries_only_change_by_hand():
    kernel, tbl, dev, _ = setup()
    assert neigh_add(tbl, 1, dev, MAC) == 0
    n = neigh_lookup(tbl, 1, dev)
    assert n is not None and n.nud_state == NUD_PERMANENT and kernel.timers.pending == 0
    assert neigh_update(n, OTHER_MAC, NUD_REACHABLE, NEIGH_UPDATE_F_OVERRIDE) == -EPERM
    assert n.ha == MAC
    assert neigh_update(n, OTHER_MAC, NUD_STALE, NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_ADMIN) == 0
    assert n.ha == OTHER_MAC and tbl.permanent == 0
    assert neigh_delete(tbl, 1, dev) == 0
    assert neigh_delete(tbl, 1, dev) == -ENOENT


def test_a_valid_state_needs_an_address():
    _, tbl, dev, _ = setup()
    n = entry(tbl, dev)
    assert neigh_update(n, -1, NUD_REACHABLE, NEIGH_UPDATE_F_ADMIN) == -EINVAL


def test_made_failed_by_hand_it_reports_what_waits():
    kernel, tbl, dev, _ = setup()
    n = entry(tbl, dev)
    out(n, b"x")
    neigh_update(n, -1, NUD_FAILED, NEIGH_UPDATE_F_ADMIN)
    assert tbl.reported == [b"x"] and kernel.timers.pending == 0


# -- the table


def test_an_entry_that_needs_no_question_sends_at_once():
    _, tbl, dev, sink = setup()
    tbl.noarp_key = 7
    n = entry(tbl, dev, 7)
    out(n, b"x")
    assert tbl.solicited == [] and sink.sent == [ethernet.emit(MAC, dev.dev_addr, ETH_P_IP) + b"x"]


def test_create_gives_the_entry_there_is_and_none_where_the_protocol_refuses():
    _, tbl, dev, _ = setup()
    tbl.refuse_key = 9
    assert entry(tbl, dev) is neigh_lookup(tbl, 1, dev) is neigh_create(tbl, 1, dev)
    assert neigh_create(tbl, 9, dev) is None
    assert neigh_lookup(tbl, 9, dev) is None


def test_entries_of_different_devices_are_different():
    _, tbl, dev, _ = setup()
    other, _ = sink_device(tbl.net, "sink1")
    assert entry(tbl, dev) is not entry(tbl, other)


def test_the_table_is_bounded_and_says_when_it_is_full():
    kernel, tbl, dev, _ = setup()
    made = 0
    for key in range(3000):
        n = neigh_create(tbl, key, dev)
        if n is not None:
            made += 1
            out(n, b"x")  # in timer: it cannot be collected
    assert made == 1024 == len(tbl.hash)
    assert tbl.stats.table_fulls == 3000 - 1024
    after(kernel, 4 * S)  # all have failed, so there is room
    assert neigh_create(tbl, 5000, dev) is not None
    assert len(tbl.hash) <= 513


def test_garbage_collection_forgets_what_nobody_uses_and_its_timer_ends():
    kernel, tbl, dev, _ = setup()
    for key in range(200):
        neigh_update(entry(tbl, dev, key), MAC, NUD_STALE, 0)
    neigh_add(tbl, 1000, dev, MAC)
    after(kernel, 30 * S)
    assert len(tbl.hash) == 201
    n = neigh_lookup(tbl, 5, dev)
    assert n is not None
    out(n, b"x")
    after(kernel, 40 * S)
    assert neigh_lookup(tbl, 1000, dev) is not None
    assert neigh_lookup(tbl, 7, dev) is None
    assert len(tbl.hash) < 128
    after(kernel, 600 * S)
    assert kernel.timers.pending == 0


def test_permanent_entries_do_not_fill_the_table():
    _, tbl, dev, _ = setup()
    for key in range(1500):
        assert neigh_add(tbl, key, dev, MAC) == 0
    assert neigh_create(tbl, 5000, dev) is not None


def test_a_device_that_closes_takes_its_neighbours_with_it_and_who_holds_one_finds_it_dead():
    kernel, tbl, dev, _ = setup()
    n = entry(tbl, dev)
    out(n, b"x")
    neigh_add(tbl, 2, dev, MAC)
    dev_core.dev_close(dev)
    assert tbl.hash == {} and n.dead and kernel.timers.pending == 0
    assert drops(tbl.net) == {"NEIGH_DEAD": 1}
    out(n, b"y")
    assert drops(tbl.net) == {"NEIGH_DEAD": 2}
    assert neigh_update(n, MAC, NUD_REACHABLE, 0) == -EINVAL


def test_a_device_without_headers_needs_no_addresses():
    _, tbl, dev, sink = setup()
    dev.hard_header_len = 0
    n = entry(tbl, dev)
    assert out(n, b"bare") == 0
    assert sink.sent == [b"bare"] and tbl.solicited == []


def test_the_tracepoint_tells_each_change_of_state():
    class Probe(TraceProbe):
        def __init__(self) -> None:
            self.states: list[object] = []

        def probe(self, kernel: Kernel, name: str, fields: dict[str, object]) -> None:
            self.states.append(fields["nud_state"])

    kernel, tbl, dev, _ = setup()
    probe = Probe()
    kernel.trace.register("neigh:neigh_update", probe)
    n = entry(tbl, dev)
    neigh_update(n, MAC, NUD_STALE, 0)
    out(n, b"x")
    after(kernel, 20 * S)
    assert probe.states == [NUD_STALE, NUD_PROBE, NUD_FAILED]


# -- sysctl


def sysctl_table() -> tuple[Kernel, Table, NetDevice]:
    kernel, tbl, dev, _ = setup()
    dev.arp_parms = neighbour.neigh_parms_alloc(tbl, dev)
    neighbour.neigh_sysctl_register(tbl.net, "net/ipv4/neigh", tbl.parms)
    neighbour.neigh_sysctl_register(tbl.net, "net/ipv4/neigh", dev.arp_parms)
    return kernel, tbl, dev


def test_the_files_have_linuxs_names_units_and_defaults():
    _, tbl, _ = sysctl_table()
    prefix = "net/ipv4/neigh/default/"
    shown = {k.removeprefix(prefix): v.read() for k, v in tbl.net.sysctl_table.items() if k.startswith(prefix)}
    # as a 6.18 machine prints them; without what IPv4 does not read (gc_interval,
    # anycast_delay) or netlink makes (managed entries' interval_probe_time_ms)
    text = """
        app_solicit 0 base_reachable_time 30 base_reachable_time_ms 30000 delay_first_probe_time 5
        gc_stale_time 60 gc_thresh1 128 gc_thresh2 512 gc_thresh3 1024 locktime 100
        mcast_resolicit 0 mcast_solicit 3 proxy_delay 80 proxy_qlen 64 retrans_time 100 retrans_time_ms 1000 ucast_solicit 3
        unres_qlen 101 unres_qlen_bytes 212992
    """
    assert shown == dict(zip(text.split()[::2], text.split()[1::2], strict=True))


def test_what_is_written_to_default_goes_to_devices_without_a_value_of_their_own():
    _, tbl, dev = sysctl_table()
    table = tbl.net.sysctl_table
    assert dev.arp_parms is not None
    assert sysctl_write(table, "net.ipv4.neigh.sink0.retrans_time_ms", "250") == 0
    assert dev.arp_parms.retrans_time == 250 * NSEC_PER_MSEC
    assert sysctl_read(table, "net/ipv4/neigh/sink0/retrans_time") == "25"
    assert sysctl_write(table, "net/ipv4/neigh/default/retrans_time", "300") == 0
    assert sysctl_write(table, "net/ipv4/neigh/default/mcast_solicit", "5") == 0
    assert tbl.parms.retrans_time == 3 * S and dev.arp_parms.retrans_time == 250 * NSEC_PER_MSEC
    assert dev.arp_parms.mcast_probes == 5
    for bad in ("", "-1", "x", "99999999999"):
        assert sysctl_write(table, "net/ipv4/neigh/sink0/mcast_solicit", bad) == -EINVAL, bad


def test_a_changed_reachable_time_counts_at_once():
    _, _, dev = sysctl_table()
    assert dev.arp_parms is not None
    table = init_net(dev.arp_parms.tbl.kernel).sysctl_table
    assert sysctl_write(table, "net/ipv4/neigh/sink0/base_reachable_time_ms", "100") == 0
    assert 50 * NSEC_PER_MSEC <= dev.arp_parms.reachable_time < 150 * NSEC_PER_MSEC


# -- any order of events


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.integers(0, 40_000)), max_size=60))
def test_any_order_of_events_keeps_the_books(events: list[tuple[int, int, int]]) -> None:
    kernel, tbl, dev, sink = setup()
    given_in = 0
    states = (NUD_REACHABLE, NUD_STALE, NUD_PERMANENT, NUD_FAILED, NUD_DELAY, NUD_PROBE)
    for what, key, number in events:
        n = neigh_create(tbl, key, dev)
        assert n is not None
        if what <= 2:
            out(n, b"x")
            given_in += 1
        elif what == 3:
            after(kernel, number * NSEC_PER_MSEC)
        elif what == 4:
            neigh_update(n, MAC + number % 2, states[number % 2], number % 4)
        elif what == 5:
            neigh_update(n, MAC, states[number % 6], NEIGH_UPDATE_F_ADMIN | NEIGH_UPDATE_F_OVERRIDE)
        elif what == 6:
            neigh_confirm(n)
        else:
            neigh_delete(tbl, key, dev)
    queued = sum(n.arp_queue.qlen for n in tbl.hash.values() if n.arp_queue is not None)
    dropped = sum(tbl.net.drop_reasons)
    assert len(sink.sent) + queued + dropped == given_in
    for n in tbl.hash.values():
        in_timer = n.nud_state & neighbour.NUD_IN_TIMER != 0
        assert (n.expires >= 0) == in_timer
        assert bool(n.hh) == (n.nud_state & neighbour.NUD_CONNECTED != 0)
    assert tbl.permanent == sum(n.nud_state & NUD_PERMANENT != 0 for n in tbl.hash.values())
    neighbour.neigh_table_clear(tbl)
    assert kernel.timers.pending == 0
