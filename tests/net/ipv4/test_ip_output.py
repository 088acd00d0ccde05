"""ip_output.c: what packets look like when they leave."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.wait import Kiocb
from afinet.net.core.flow import Flowi4
from afinet.net.core.skbuff import CHECKSUM_PARTIAL, SKB_GSO_TCPV4, alloc_skb, skb_push, skb_set_owner_w
from afinet.net.core.sock import Proto, sk_wmem_alloc_get, sock_init_data
from afinet.net.ipv4 import devinet, ip_options, ip_output, route
from afinet.net.ipv4.fib_frontend import ip_route_add
from afinet.net.ipv4.inet_sock import INET_FLAGS_MC_LOOP, INET_FLAGS_RECVERR, InetSock, inet_assign_bit
from afinet.net.socket import MsgHdr
from afinet.uapi.errno import EAGAIN, EHOSTUNREACH, EIOCBQUEUED, EMSGSIZE, ENOBUFS
from afinet.uapi.in_ import IP_PMTUDISC_DO, IP_PMTUDISC_DONT, IP_PMTUDISC_PROBE, IP_PMTUDISC_WANT, IPPROTO_TCP
from afinet.uapi.socket import AF_INET, MSG_DONTWAIT, MSG_PROBE
from afinet.wire import tcp
from afinet.wire.checksum import csum_partial, csum_tcpudp_magic
from tests.net.ipv4.iphost import FAR, ME, PEER, PROTO, Host, addr, icmp_packet, packet, parse_icmp


def make_sock(h: Host, protocol: int = PROTO, pmtudisc: int = IP_PMTUDISC_WANT) -> InetSock:
    sk = InetSock(h.net, AF_INET, Proto(h.kernel, "TEST"))
    sock_init_data(None, sk)
    sk.sk_protocol = protocol
    sk.pmtudisc = pmtudisc
    return sk


def connect(sk: InetSock, daddr: int = PEER) -> None:
    sk.inet_daddr = daddr
    err, rt = route.ip_route_output_flow(sk.sk_net, Flowi4(daddr, proto=sk.sk_protocol), None)
    assert err == 0
    assert rt is not None
    sk.inet_saddr = ME if daddr == PEER else addr("192.0.2.1")


def xmit(sk: InetSock, payload: bytes = b"segment") -> int:
    skb = alloc_skb(payload)
    skb_set_owner_w(skb, sk)
    return ip_output.ip_queue_xmit(sk, skb, None)


def fields(data: bytes) -> tuple[int, int, int, int, int]:
    """(id, frag_off in bytes, DF, MF, ttl)."""
    off = int.from_bytes(data[6:8], "big")
    return int.from_bytes(data[4:6], "big"), (off & 0x1FFF) << 3, off >> 14 & 1, off >> 13 & 1, data[8]


# -- connected socks -----------------------------------------------------------------------------------------------------------


def test_a_segment_leaves_with_the_socks_values() -> None:
    h = Host()
    sk = make_sock(h)
    connect(sk)
    sk.tos = 0x2A
    sk.uc_ttl = 9
    sk.inet_id = 100
    assert xmit(sk) == 0
    (out,) = h.sent()
    assert out[20:] == b"segment"
    assert out[1] == 0x2A
    assert out[9] == PROTO
    assert out[12:20] == ME.to_bytes(4, "big") + PEER.to_bytes(4, "big")
    assert fields(out) == (101, 0, 1, 0, 9)
    assert sk_wmem_alloc_get(sk) == 0
    stats = h.ip_stats()
    assert stats["OutRequests"] == 1
    assert stats["OutTransmits"] == 1
    assert stats["OutOctets"] == 27


def test_tcp_counts_its_identifications_from_the_present_one() -> None:
    h = Host()
    sk = make_sock(h, IPPROTO_TCP)
    connect(sk)
    sk.inet_id = 0xFFFF
    xmit(sk)
    xmit(sk)
    assert [fields(p)[0] for p in h.sent()] == [0xFFFF, 0]


def test_the_route_is_looked_up_once_and_again_when_it_no_longer_holds() -> None:
    h = Host()
    sk = make_sock(h)
    connect(sk)
    xmit(sk)
    rt = sk.sk_dst_cache
    assert rt is not None
    xmit(sk)
    assert sk.sk_dst_cache is rt
    route.rt_cache_flush(h.net)
    xmit(sk)
    assert sk.sk_dst_cache is not rt
    assert len(h.sent()) == 3


def test_without_a_route_the_segment_is_dropped() -> None:
    h = Host()
    sk = make_sock(h)
    sk.inet_daddr = addr("8.8.8.8")
    assert xmit(sk) == -EHOSTUNREACH
    assert h.drops() == {"IP_OUTNOROUTES": 1}
    assert h.ip_stats() == {"OutNoRoutes": 1}
    assert sk_wmem_alloc_get(sk) == 0


@pytest.mark.parametrize(
    "pmtudisc, df", [(IP_PMTUDISC_DONT, 0), (IP_PMTUDISC_WANT, 1), (IP_PMTUDISC_DO, 1), (IP_PMTUDISC_PROBE, 0)]
)
def test_df_follows_ip_mtu_discover(pmtudisc: int, df: int) -> None:
    h = Host()
    sk = make_sock(h, pmtudisc=pmtudisc)
    connect(sk)
    xmit(sk)
    (out,) = h.sent()
    assert fields(out)[2] == df


def test_a_segment_over_the_mtu_with_df_tells_its_own_host() -> None:
    h = Host()
    sk = make_sock(h)
    connect(sk)
    assert xmit(sk, b"x" * 1600) == -EMSGSIZE
    h.kernel.run(h.kernel.now)
    assert h.sent() == []
    assert h.drops() == {"PKT_TOO_BIG": 1}
    assert h.ip_stats()["FragFails"] == 1
    # the ICMP error went to our own protocol, by loopback
    assert h.taker.errors == [(3, 4, 1500)]


def test_without_df_it_is_fragmented() -> None:
    h = Host()
    sk = make_sock(h, pmtudisc=IP_PMTUDISC_DONT)
    connect(sk)
    payload = bytes(i & 0xFF for i in range(4000))
    assert xmit(sk, payload) == 0
    out = h.sent()
    assert [(len(p), fields(p)[1], fields(p)[3]) for p in out] == [(1500, 0, 1), (1500, 1480, 1), (1060, 2960, 0)]
    assert b"".join(p[20:] for p in out) == payload
    assert len({fields(p)[0] for p in out}) == 1
    stats = h.ip_stats()
    assert stats["FragOKs"] == 1
    assert stats["FragCreates"] == 3
    assert stats["OutTransmits"] == 3
    assert stats["OutRequests"] == 1
    assert sk_wmem_alloc_get(sk) == 0


def test_options_without_the_copy_bit_are_in_the_first_fragment_only() -> None:
    h = Host()
    sk = make_sock(h, pmtudisc=IP_PMTUDISC_DONT)
    connect(sk)
    err, sk.inet_opt = ip_options.ip_options_get(h.net, bytes([7, 7, 4]) + bytes(4) + bytes([148, 4, 0, 0]))
    assert err == 0
    assert xmit(sk, b"x" * 2000) == 0
    first, second = h.sent()
    assert first[20:32] == bytes([7, 7, 8]) + ME.to_bytes(4, "big") + bytes([148, 4, 0, 0, 0])
    assert second[20:32] == b"\x01" * 7 + bytes([148, 4, 0, 0, 0])
    assert len(first) + len(second) == 2000 + 64


def test_a_strict_source_route_needs_its_first_hop_on_the_link() -> None:
    h = Host()
    assert ip_route_add(h.net, addr("8.0.0.0"), 8, PEER) == 0
    sk = make_sock(h)
    sk.inet_daddr = addr("9.9.9.9")
    sk.inet_saddr = ME
    err, sk.inet_opt = ip_options.ip_options_get(h.net, bytes([137, 7, 4, 8, 8, 8, 8]))
    assert err == 0
    assert xmit(sk) == -EHOSTUNREACH
    err, sk.inet_opt = ip_options.ip_options_get(h.net, bytes([137, 7, 4]) + PEER.to_bytes(4, "big"))
    sk.sk_dst_cache = None
    assert xmit(sk) == 0
    (out,) = h.sent()
    assert out[16:20] == PEER.to_bytes(4, "big")
    assert out[23:27] == bytes([9, 9, 9, 9])


def test_neighbours_of_one_route_are_told_apart() -> None:
    h = Host()
    a, b = make_sock(h), make_sock(h)
    connect(a, PEER)
    connect(b, PEER)
    b.inet_daddr = PEER + 1
    for _ in range(2):
        xmit(a)
        xmit(b)
    assert [p[19] for p in h.sent()] == [2, 3, 2, 3]


def test_segments_of_a_super_packet_that_exceed_the_mtu_are_fragmented() -> None:
    h = Host()
    sk = make_sock(h, IPPROTO_TCP, IP_PMTUDISC_DONT)
    connect(sk)
    skb = alloc_skb(tcp.emit(1, 2, 1000, 0, 0x18, 100, 0, 0, b""))
    skb.frags = [b"a" * 2000 + b"b" * 1000]
    skb.data_len = 3000
    skb.len += 3000
    skb.gso_size = 2000
    skb.gso_segs = 2
    skb.gso_type = SKB_GSO_TCPV4
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_offset = 16
    skb_set_owner_w(skb, sk)
    assert ip_output.ip_queue_xmit(sk, skb, None) == 0
    out = h.sent()
    assert [len(p) for p in out] == [1500, 560, 1040]
    assert out[2][24:28] == (3000).to_bytes(4, "big")  # sequence number of the second segment
    whole = b"".join(p[20:] for p in out[:2])
    assert whole[20:] == b"a" * 2000
    assert csum_tcpudp_magic(ME, PEER, len(whole), IPPROTO_TCP, csum_partial(whole, 0, len(whole), 0)) == 0
    assert sk_wmem_alloc_get(sk) == 0


# -- without a sock's help -----------------------------------------------------------------------------------------------------


def test_a_reply_has_df_and_no_identification() -> None:
    h = Host()
    h.receive(packet(b"12345678"))
    (skb,) = h.taker.got
    segment = (80).to_bytes(2, "big") + (1234).to_bytes(2, "big") + bytes(16)
    ip_output.ip_send_unicast_reply(h.net, None, skb, None, PEER, ME, segment, tos=4)
    (out,) = h.sent()
    assert out[20:] == segment
    assert out[9] == PROTO
    assert fields(out) == (0, 0, 1, 0, 64)
    assert out[1] == 4


def test_a_reply_from_an_address_that_is_not_ours_needs_the_flag() -> None:
    h = Host()
    h.receive(packet(b"12345678"))
    (skb,) = h.taker.got
    ip_output.ip_send_unicast_reply(h.net, None, skb, None, PEER, FAR, bytes(20))
    assert h.sent() == []
    ip_output.ip_send_unicast_reply(h.net, None, skb, None, PEER, FAR, bytes(20), ip_output.IP_REPLY_ARG_NOSRCCHECK)
    assert len(h.sent()) == 1


def test_a_syn_ack_has_no_identification() -> None:
    h = Host()
    sk = make_sock(h, IPPROTO_TCP)
    rt = route.ip_route_output_flow(h.net, Flowi4(PEER), None)[1]
    skb = alloc_skb(b"s" * 40)
    skb.dst = rt
    assert ip_output.ip_build_and_send_pkt(skb, sk, ME, PEER, None, 0) == 0
    (out,) = h.sent()
    assert fields(out) == (0, 0, 1, 0, 64)


def test_identifications_of_unconnected_packets_advance_by_one_within_a_tick() -> None:
    h = Host()
    ids = [ip_output.ip_select_ident(h.net, None, ME, PEER, PROTO) for _ in range(3)]
    assert [(b - a) & 0xFFFF for a, b in pairwise(ids)] == [1, 1]
    h.kernel.run(h.kernel.now + NSEC_PER_SEC)
    later = ip_output.ip_select_ident(h.net, None, ME, PEER, PROTO)
    assert 1 <= (later - ids[-1]) & 0xFFFF <= 1001
    assert ip_output.ip_select_ident(h.net, None, ME, PEER, PROTO, 0x4000) == 0


# -- datagrams -----------------------------------------------------------------------------------------------------------------


def cookie(sk: InetSock) -> tuple[ip_output.IpcmCookie, route.Rtable, Flowi4]:
    ipc = ip_output.IpcmCookie()
    ip_output.ipcm_init_sk(ipc, sk)
    fl4 = Flowi4(PEER, proto=sk.sk_protocol)
    err, rt = route.ip_route_output_flow(sk.sk_net, fl4, sk)
    assert err == 0
    assert rt is not None
    ipc.addr = PEER
    return ipc, rt, fl4


def send(sk: InetSock, data: bytes, header: bytes = b"", flags: int = 0, tos: int = -1, ttl: int = 0) -> int:
    ipc, rt, fl4 = cookie(sk)
    ipc.tos = tos
    ipc.ttl = ttl
    msg = MsgHdr(Kiocb(), data, flags=flags)
    err, skb = ip_output.ip_make_skb(sk, fl4, msg, len(data), len(header), ipc, rt)
    if skb is None:
        return err
    if header:
        skb_push(skb, header)
        skb.transport_header = skb.data
    return ip_output.ip_send_skb(sk.sk_net, skb)


def test_a_datagram_leaves_with_its_cookies_values() -> None:
    h = Host()
    sk = make_sock(h)
    assert send(sk, b"data", b"HEADER..", tos=8, ttl=3) == 0
    (out,) = h.sent()
    assert out[20:] == b"HEADER..data"
    assert out[1] == 8
    assert fields(out)[1:] == (0, 1, 0, 3)
    assert sk_wmem_alloc_get(sk) == 0


def test_a_datagram_that_nobody_may_fragment_has_no_identification() -> None:
    h = Host()
    # With IP_PMTUDISC_WANT this host itself may still fragment it, so it has one in spite of DF.
    assert send(make_sock(h, pmtudisc=IP_PMTUDISC_WANT), b"x") == 0
    assert send(make_sock(h, pmtudisc=IP_PMTUDISC_DO), b"x") == 0
    want, do = h.sent()
    assert fields(want)[0] != 0
    assert fields(do)[0] == 0


@pytest.mark.parametrize("pmtudisc, expected", [(IP_PMTUDISC_DONT, 0), (IP_PMTUDISC_WANT, 0), (IP_PMTUDISC_DO, -EMSGSIZE)])
def test_a_datagram_over_the_mtu_is_fragmented_unless_the_program_forbids_it(pmtudisc: int, expected: int) -> None:
    h = Host()
    sk = make_sock(h, pmtudisc=pmtudisc)
    inet_assign_bit(sk, INET_FLAGS_RECVERR, True)
    payload = bytes(i & 0xFF for i in range(5000))
    assert send(sk, payload, b"HEADER..") == expected
    out = h.sent()
    if expected:
        assert out == []
        assert sk.sk_cold is not None
        assert sk.sk_cold.sk_error_queue.qlen == 1
        return
    assert [len(p) for p in out] == [1500, 1500, 1500, 588]
    assert b"".join(p[20:] for p in out) == b"HEADER.." + payload
    assert {fields(p)[2] for p in out} == {0}
    assert sk_wmem_alloc_get(sk) == 0


def test_a_datagram_over_64k_is_refused() -> None:
    h = Host()
    sk = make_sock(h)
    sk.sk_sndbuf = 1 << 20
    assert send(sk, bytes(65536)) == -EMSGSIZE
    assert send(sk, bytes(65516)) == -EMSGSIZE
    assert send(sk, bytes(65515)) == 0


def test_a_full_send_buffer_makes_the_call_wait() -> None:
    h = Host()
    sk = make_sock(h)
    sk.sk_wmem_alloc += sk.sk_sndbuf
    assert send(sk, b"x", b"HEADER..") == -EIOCBQUEUED
    assert send(sk, b"x", b"HEADER..", flags=MSG_DONTWAIT) == -EAGAIN


def test_without_a_transport_header_it_never_waits() -> None:
    h = Host()
    sk = make_sock(h)
    sk.sk_wmem_alloc += 2 * sk.sk_sndbuf
    assert send(sk, b"x") == -ENOBUFS


def test_a_datagram_far_larger_than_the_send_buffer_has_no_room() -> None:
    h = Host()
    sk = make_sock(h)
    sk.sk_sndbuf = 4608
    assert send(sk, bytes(60000)) == -ENOBUFS
    assert sk_wmem_alloc_get(sk) == 0


def test_a_probe_sends_nothing() -> None:
    h = Host()
    assert send(make_sock(h), b"x", flags=MSG_PROBE) == 0
    assert h.sent() == []


def test_corked_pieces_make_one_datagram() -> None:
    h = Host()
    sk = make_sock(h)
    ipc, rt, fl4 = cookie(sk)
    assert ip_output.ip_setup_cork(sk, fl4, ipc, rt) == 0
    for piece in (b"one", b"", b"two", b"three"):
        assert ip_output.ip_append_data(sk, MsgHdr(Kiocb(), piece), len(piece), 0) == 0
    assert h.sent() == []
    assert sk_wmem_alloc_get(sk) > 0
    assert ip_output.ip_push_pending_frames(sk) == 0
    (out,) = h.sent()
    assert out[20:] == b"onetwothree"
    assert sk.cork is None
    assert sk_wmem_alloc_get(sk) == 0


def test_corked_data_may_be_thrown_away() -> None:
    h = Host()
    sk = make_sock(h)
    ipc, rt, fl4 = cookie(sk)
    ip_output.ip_setup_cork(sk, fl4, ipc, rt)
    ip_output.ip_append_data(sk, MsgHdr(Kiocb(), b"data"), 4, 8)
    ip_output.ip_flush_pending_frames(sk)
    assert sk_wmem_alloc_get(sk) == 0
    assert ip_output.ip_push_pending_frames(sk) == 0
    assert h.sent() == []


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(68, 3000), st.lists(st.integers(0, 4000), min_size=1, max_size=4), st.sampled_from([0, 4, 12, 40]))
def test_fragments_fit_the_mtu_and_make_up_the_datagram(mtu: int, sizes: list[int], optlen: int) -> None:
    h = Host(mtu=max(mtu, 20 + optlen + 8))
    sk = make_sock(h, pmtudisc=IP_PMTUDISC_DONT)
    ipc, rt, fl4 = cookie(sk)
    if optlen:
        err, ipc.opt = ip_options.ip_options_get(h.net, b"\x01" * optlen)
        assert err == 0
    ip_output.ip_setup_cork(sk, fl4, ipc, rt)
    want = b""
    for i, size in enumerate(sizes):
        piece = bytes([i + 1]) * size
        if ip_output.ip_append_data(sk, MsgHdr(Kiocb(), piece), size, 0) == 0:
            want += piece
    ip_output.ip_push_pending_frames(sk)
    out = h.sent()
    at = 0
    for p in out:
        assert len(p) <= h.dev.mtu
        assert fields(p)[1] == at
        at += len(p) - 20 - optlen
    assert b"".join(p[20 + optlen :] for p in out) == want
    assert [fields(p)[3] for p in out] == [1] * (len(out) - 1) + [0]
    assert sk_wmem_alloc_get(sk) == 0


# -- multicast and broadcast ---------------------------------------------------------------------------------------------------


def test_a_broadcast_is_sent_and_delivered_here() -> None:
    h = Host()
    sk = make_sock(h)
    connect(sk)
    sk.inet_daddr = addr("10.0.0.255")
    xmit(sk)
    h.kernel.run(h.kernel.now)
    assert len(h.sent()) == 1
    assert len(h.taker.got) == 1
    assert h.ip_stats()["OutBcastPkts"] == 1
    assert h.ip_stats()["InBcastPkts"] == 1


@pytest.mark.parametrize("joined, loop, ttl, here, out", [(1, 1, 1, 1, 1), (1, 0, 1, 0, 1), (0, 1, 1, 0, 1), (1, 1, 0, 1, 0)])
def test_a_multicast_is_looped_back_to_members(joined: int, loop: int, ttl: int, here: int, out: int) -> None:
    from afinet.net.ipv4 import igmp

    h = Host()
    group = addr("224.1.2.3")
    if joined:
        assert h.dev.ip_ptr is not None
        igmp.ip_mc_inc_group(h.dev.ip_ptr, group)
    sk = make_sock(h)
    inet_assign_bit(sk, INET_FLAGS_MC_LOOP, loop == 1)
    sk.mc_ttl = ttl
    ipc = ip_output.IpcmCookie()
    ip_output.ipcm_init_sk(ipc, sk)
    fl4 = Flowi4(group, oif=h.dev.ifindex, proto=PROTO)
    err, rt = route.ip_route_output_flow(h.net, fl4, sk)
    assert err == 0
    assert rt is not None
    err, skb = ip_output.ip_make_skb(sk, fl4, MsgHdr(Kiocb(), b"multi"), 5, 0, ipc, rt)
    assert skb is not None
    ip_output.ip_send_skb(h.net, skb)
    h.kernel.run(h.kernel.now)
    assert len(h.taker.got) == here
    assert len(h.sent()) == out
    assert sk_wmem_alloc_get(sk) == 0


def test_a_packet_to_ourselves_goes_by_loopback() -> None:
    h = Host()
    sk = make_sock(h)
    connect(sk)
    sk.inet_daddr = ME
    xmit(sk)
    h.kernel.run(h.kernel.now)
    assert len(h.taker.got) == 1
    assert h.sent() == []


# -- forwarding ----------------------------------------------------------------------------------------------------------------


def router(mtu: int = 1500) -> Host:
    h = Host()
    for dev in (h.dev, h.far):
        assert dev.ip_ptr is not None
        dev.ip_ptr.cnf.forwarding = 1
    h.net.ipv4.devconf_all.forwarding = 1
    h.far.mtu = mtu
    return h


def test_a_packet_for_another_net_is_forwarded_with_ttl_one_lower() -> None:
    h = router()
    h.receive(packet(b"onward", daddr=FAR, ttl=2, tos=0x10))
    (out,) = h.farlink.sent
    assert out[8] == 1
    assert out[20:] == b"onward"
    assert h.ip_stats()["ForwDatagrams"] == 1
    assert h.drops() == {}


def test_a_packet_whose_ttl_is_used_up_is_returned() -> None:
    h = router()
    data = packet(b"onward!!", daddr=FAR, ttl=1)
    h.receive(data)
    assert h.farlink.sent == []
    (reply,) = h.sent()
    assert parse_icmp(reply) == (11, 0, 0, data)
    assert int.from_bytes(reply[12:16], "big") == ME
    assert h.drops() == {"IP_INHDR": 1}


def test_a_packet_too_long_for_the_next_link_is_fragmented_or_returned() -> None:
    h = router(mtu=576)
    h.receive(packet(bytes(1000), daddr=FAR))
    assert len(h.farlink.sent) == 2
    h.farlink.sent.clear()
    h.receive(packet(bytes(1000), daddr=FAR, frag_off=0x4000))
    assert h.farlink.sent == []
    (reply,) = h.sent()
    assert parse_icmp(reply)[:3] == (3, 4, 576)
    assert h.drops() == {"PKT_TOO_BIG": 1}


def test_a_host_does_not_forward() -> None:
    h = Host()
    h.receive(packet(daddr=FAR))
    assert h.farlink.sent == []
    assert sum(h.drops().values()) == 1


def test_a_packet_that_leaves_by_the_link_it_came_by_causes_a_redirect() -> None:
    h = router()
    assert ip_route_add(h.net, addr("198.51.100.0"), 24, addr("10.0.0.254")) == 0
    h.receive(packet(b"12345678", daddr=addr("198.51.100.7")))
    out = h.sent()
    assert len(out) == 2
    redirects = [p for p in out if p[9] == 1]
    assert parse_icmp(redirects[0])[:3] == (5, 1, addr("10.0.0.254"))


def test_an_echo_request_over_a_router_comes_back() -> None:
    h = router()
    h.receive(icmp_packet(8, 0, 1, b"x", daddr=addr("192.0.2.1")))
    (reply,) = h.sent()
    assert parse_icmp(reply)[0] == 0
    assert devinet.ip_dev_find(h.net, addr("192.0.2.1")) is h.far
