"""ip_sockglue.c: options of level SOL_IP, control messages, the error queue. The values are those that Linux 6.18 gives."""

from __future__ import annotations

import struct

import pytest

from afinet.kernel.task import Cred, Task
from afinet.kernel.wait import Kiocb
from afinet.net.core.skbuff import SkBuff, skb_pull
from afinet.net.core.sock import Proto, sock_init_data
from afinet.net.ipv4 import ip_output, ip_sockglue
from afinet.net.ipv4.inet_sock import (
    INET_FLAGS_IS_ICSK,
    INET_FLAGS_MC_ALL,
    INET_FLAGS_MC_LOOP,
    INET_FLAGS_RECVERR,
    InetSock,
    inet_mc_addr,
)
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.net.socket import MsgHdr
from afinet.uapi import in_
from afinet.uapi.errno import (
    EADDRINUSE,
    EADDRNOTAVAIL,
    EAGAIN,
    ECONNREFUSED,
    EINVAL,
    EMSGSIZE,
    ENOBUFS,
    ENODEV,
    ENOPROTOOPT,
    ENOTCONN,
    EOPNOTSUPP,
    EPERM,
    EPROTO,
)
from afinet.uapi.if_packet import PACKET_HOST
from afinet.uapi.sockaddr import pack_cmsg, pack_in_pktinfo, pack_sockaddr_in, parse_cmsgs
from afinet.uapi.socket import (
    AF_INET,
    MSG_CTRUNC,
    MSG_ERRQUEUE,
    MSG_TRUNC,
    SO_PRIORITY,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
)
from tests.net.ipv4 import dgramhost
from tests.net.ipv4.iphost import FAR, ME, PEER, PROTO, Host, addr, packet


def i32(v: int) -> bytes:
    return struct.pack("<i", v)


def b4(a: int) -> bytes:
    return a.to_bytes(4, "big")


def make_sock(h: Host, type: int = SOCK_DGRAM) -> InetSock:
    prot = Proto(h.kernel, "TEST")
    sk: InetSock = TcpSock(h.net, AF_INET, prot) if type == SOCK_STREAM else InetSock(h.net, AF_INET, prot)
    sock_init_data(None, sk)
    sk.sk_type = type
    sk.sk_protocol = PROTO
    sk.pmtudisc = in_.IP_PMTUDISC_WANT
    sk.inet_flags |= 1 << INET_FLAGS_MC_LOOP | 1 << INET_FLAGS_MC_ALL
    if type == SOCK_STREAM:
        sk.inet_flags |= 1 << INET_FLAGS_IS_ICSK
    return sk


def put(sk: InetSock, optname: int, optval: bytes) -> int:
    return ip_sockglue.ip_setsockopt(sk, 0, optname, optval)


def get(sk: InetSock, optname: int, optlen: int = 4) -> bytes | int:
    err, value = ip_sockglue.ip_getsockopt(sk, 0, optname, optlen)
    return err or value


# -- values ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optname, optval, err, after",
    [
        (in_.IP_TTL, i32(9), 0, i32(9)),
        (in_.IP_TTL, b"\x09", 0, i32(9)),
        (in_.IP_TTL, i32(-1), 0, i32(64)),
        (in_.IP_TTL, i32(0), -EINVAL, i32(64)),
        (in_.IP_TTL, i32(256), -EINVAL, i32(64)),
        (in_.IP_TTL, b"", -EINVAL, i32(64)),
        (in_.IP_TOS, i32(0x2C), 0, i32(0x2C)),
        (in_.IP_TOS, i32(0x110), 0, i32(0x10)),
        (in_.IP_TOS, b"", 0, i32(0)),
        (in_.IP_MINTTL, i32(255), 0, i32(255)),
        (in_.IP_MINTTL, i32(256), -EINVAL, i32(0)),
        (in_.IP_MULTICAST_TTL, i32(-1), 0, i32(1)),
        (in_.IP_MULTICAST_TTL, i32(0), 0, i32(0)),
        (in_.IP_MULTICAST_TTL, i32(300), -EINVAL, i32(1)),
        (in_.IP_MTU_DISCOVER, i32(5), 0, i32(5)),
        (in_.IP_MTU_DISCOVER, i32(6), -EINVAL, i32(1)),
        (in_.IP_MTU_DISCOVER, i32(-1), -EINVAL, i32(1)),
        (in_.IP_PKTINFO, i32(7), 0, i32(1)),
        (in_.IP_RECVTTL, b"\x01", 0, i32(1)),
        (in_.IP_RECVERR, b"", 0, i32(0)),
        (in_.IP_RECVERR_RFC4884, i32(2), -EINVAL, i32(0)),
        (in_.IP_FREEBIND, b"", -EINVAL, i32(0)),
        (in_.IP_FREEBIND, i32(1), 0, i32(1)),
        (in_.IP_MULTICAST_LOOP, b"\x00", 0, i32(0)),
        (in_.IP_MULTICAST_ALL, i32(2), -EINVAL, i32(1)),
        (in_.IP_HDRINCL, i32(1), -ENOPROTOOPT, i32(0)),
        (in_.IP_NODEFRAG, i32(1), -ENOPROTOOPT, i32(0)),
        (in_.IP_BIND_ADDRESS_NO_PORT, i32(1), 0, i32(1)),
        (in_.IP_LOCAL_PORT_RANGE, i32(2000 << 16 | 1000), 0, i32(2000 << 16 | 1000)),
        (in_.IP_LOCAL_PORT_RANGE, i32(1000 << 16 | 2000), -EINVAL, i32(0)),
        (in_.IP_LOCAL_PORT_RANGE, b"\x01", -EINVAL, i32(0)),
        (in_.IP_UNICAST_IF, b4(1), 0, b4(1)),
        (in_.IP_UNICAST_IF, b4(99), -EADDRNOTAVAIL, b4(0)),
        (in_.IP_UNICAST_IF, b"\x01", -EINVAL, b4(0)),
        (in_.IP_TRANSPARENT, i32(1), 0, i32(1)),
        (in_.IP_RECVFRAGSIZE, i32(1), 0, i32(1)),
        (in_.IP_MTU, i32(1), -ENOPROTOOPT, -ENOTCONN),
        (in_.IP_PKTOPTIONS, i32(1), -ENOPROTOOPT, -ENOPROTOOPT),
        (in_.IP_IPSEC_POLICY, i32(1), -ENOPROTOOPT, -ENOPROTOOPT),
        (53, i32(1), -ENOPROTOOPT, -ENOPROTOOPT),
    ],
)
def test_an_option_is_set_checked_and_read_back(optname: int, optval: bytes, err: int, after: bytes | int) -> None:
    h = Host()
    sk = make_sock(h)
    assert put(sk, optname, optval) == err
    assert get(sk, optname) == after
    assert not sk.sk_lock_owned


@pytest.mark.parametrize(
    "type, optname, optval, err",
    [
        (SOCK_STREAM, in_.IP_MULTICAST_TTL, i32(1), -EINVAL),
        (SOCK_STREAM, in_.IP_MULTICAST_IF, b4(ME), -EINVAL),
        (SOCK_STREAM, in_.IP_ADD_MEMBERSHIP, b4(addr("224.1.1.1")) + b4(ME), -EPROTO),
        (SOCK_STREAM, in_.IP_RECVFRAGSIZE, i32(1), -EINVAL),
        (SOCK_RAW, in_.IP_HDRINCL, i32(1), 0),
        (SOCK_RAW, in_.IP_NODEFRAG, i32(1), 0),
    ],
)
def test_some_options_depend_on_the_type(type: int, optname: int, optval: bytes, err: int) -> None:
    assert put(make_sock(Host(), type), optname, optval) == err


def test_levels_that_are_not_ip_are_refused() -> None:
    sk = make_sock(Host())
    assert ip_sockglue.ip_setsockopt(sk, 17, in_.IP_TTL, i32(1)) == -ENOPROTOOPT
    assert ip_sockglue.ip_getsockopt(sk, 17, in_.IP_TTL, 4) == (-EOPNOTSUPP, b"")


@pytest.mark.parametrize("optlen, value", [(0, b""), (1, b"\x40"), (3, b"\x40"), (4, i32(64)), (100, i32(64))])
def test_a_small_value_is_given_as_a_char_where_an_int_has_no_room(optlen: int, value: bytes) -> None:
    assert get(make_sock(Host()), in_.IP_TTL, optlen) == value


def test_a_large_value_is_cut() -> None:
    sk = make_sock(Host())
    put(sk, in_.IP_LOCAL_PORT_RANGE, i32(0x05060304))
    assert get(sk, in_.IP_LOCAL_PORT_RANGE, 2) == b"\x04\x03"
    assert get(sk, in_.IP_TTL, -1) == -EINVAL


def test_tos_sets_the_priority_and_forgets_the_route() -> None:
    sk = make_sock(Host())
    put(sk, in_.IP_TOS, i32(0x10))
    assert sk.sk_priority == 6
    put(sk, in_.IP_TOS, i32(0x08))
    assert sk.sk_priority == 2


def test_a_streams_ecn_bits_are_not_the_programs() -> None:
    sk = make_sock(Host(), SOCK_STREAM)
    sk.tos = 2
    put(sk, in_.IP_TOS, i32(0xFF))
    assert sk.tos == 0xFE


def test_transparent_needs_a_capability() -> None:
    h = Host()
    assert h.kernel.init_task is not None
    h.kernel.current = Task(h.kernel, h.net, h.kernel.init_task.files, "user", Cred(uid=1000))
    sk = make_sock(h)
    assert put(sk, in_.IP_TRANSPARENT, i32(1)) == -EPERM
    assert put(sk, in_.IP_TRANSPARENT, i32(0)) == 0
    h.kernel.current = None


def test_ip_options_are_given_back_as_they_came() -> None:
    sk = make_sock(Host())
    assert put(sk, in_.IP_OPTIONS, bytes([7, 7, 4, 0, 0, 0, 0])) == 0
    assert get(sk, in_.IP_OPTIONS, 40) == bytes([7, 7, 4, 0, 0, 0, 0, 0])
    assert put(sk, in_.IP_OPTIONS, bytes([7, 0, 4])) == -EINVAL
    assert put(sk, in_.IP_OPTIONS, bytes(41)) == -EINVAL
    assert get(sk, in_.IP_OPTIONS, 3) == bytes([7, 7, 4])
    assert put(sk, in_.IP_OPTIONS, b"") == 0
    assert get(sk, in_.IP_OPTIONS, 40) == b""


@pytest.mark.rfc9293("MUST-16")
def test_a_streams_options_take_room_from_its_segments() -> None:
    sk = make_sock(Host(), SOCK_STREAM)
    assert isinstance(sk, TcpSock)
    sk.sk_state = 7
    put(sk, in_.IP_OPTIONS, bytes([148, 4, 0, 0]))
    assert sk.icsk_ext_hdr_len == 4
    put(sk, in_.IP_OPTIONS, b"")
    assert sk.icsk_ext_hdr_len == 0


def test_pktoptions_tell_a_stream_what_it_asked_for() -> None:
    sk = make_sock(Host(), SOCK_STREAM)
    put(sk, in_.IP_RECVTTL, i32(1))
    value = get(sk, in_.IP_PKTOPTIONS, 100)
    assert value == pack_cmsg(0, in_.IP_TTL, i32(1))


# -- multicast -------------------------------------------------------------------------------------------------------------


GROUP = addr("224.5.6.7")


@pytest.mark.parametrize(
    "optval, err, index, address",
    [
        (b4(ME), 0, 2, ME),
        (b4(0) + b4(ME), 0, 2, ME),
        (b4(0) + b4(0) + i32(3), 0, 3, 0),
        (b4(FAR), -EADDRNOTAVAIL, 0, 0),
        (b4(0) + b4(0) + i32(99), -EADDRNOTAVAIL, 0, 0),
        (b"abc", -EINVAL, 0, 0),
        (b4(0), 0, 0, 0),
    ],
)
def test_multicast_if_takes_an_address_or_an_index(optval: bytes, err: int, index: int, address: int) -> None:
    h = Host()
    sk = make_sock(h)
    assert put(sk, in_.IP_MULTICAST_IF, optval) == err
    assert (sk.mc_index, inet_mc_addr(sk)) == (index, address)
    assert get(sk, in_.IP_MULTICAST_IF) == b4(address)


def test_a_membership_is_counted_per_device_and_per_sock() -> None:
    h = Host()
    a, b = make_sock(h), make_sock(h)
    in_dev = h.dev.ip_ptr
    assert in_dev is not None
    mreq = b4(GROUP) + b4(ME)
    assert put(a, in_.IP_ADD_MEMBERSHIP, mreq) == 0
    assert put(a, in_.IP_ADD_MEMBERSHIP, mreq) == -EADDRINUSE
    assert put(b, in_.IP_ADD_MEMBERSHIP, b4(GROUP) + b4(0) + i32(h.dev.ifindex)) == 0
    assert in_dev.mc_list[GROUP].users == 2
    assert put(a, in_.IP_DROP_MEMBERSHIP, mreq) == 0
    assert put(a, in_.IP_DROP_MEMBERSHIP, mreq) == -EADDRNOTAVAIL
    from afinet.net.ipv4 import igmp_sock

    igmp_sock.ip_mc_drop_socket(b)
    assert GROUP not in in_dev.mc_list


def test_memberships_are_checked_and_bounded() -> None:
    h = Host()
    sk = make_sock(h)
    assert put(sk, in_.IP_ADD_MEMBERSHIP, b4(PEER) + b4(ME)) == -EINVAL
    assert put(sk, in_.IP_ADD_MEMBERSHIP, b4(GROUP) + b4(FAR)) == -ENODEV
    assert put(sk, in_.IP_ADD_MEMBERSHIP, b4(GROUP)) == -EINVAL
    for i in range(20):
        assert put(sk, in_.IP_ADD_MEMBERSHIP, b4(GROUP + i) + b4(ME)) == 0
    assert put(sk, in_.IP_ADD_MEMBERSHIP, b4(GROUP + 20) + b4(ME)) == -ENOBUFS


def test_group_req_joins_by_index() -> None:
    h = Host()
    sk = make_sock(h)
    req = i32(h.dev.ifindex) + bytes(4) + pack_sockaddr_in(GROUP, 0) + bytes(112)
    assert put(sk, in_.MCAST_JOIN_GROUP, req) == 0
    assert put(sk, in_.MCAST_JOIN_GROUP, req[:100]) == -EINVAL
    assert put(sk, in_.MCAST_LEAVE_GROUP, req) == 0


def test_a_group_is_received_when_somebody_joined_and_by_all_hosts_always() -> None:
    h = Host()
    h.receive(packet(daddr=GROUP), pkt_type=2)
    assert h.taker.got == []
    sk = make_sock(h)
    put(sk, in_.IP_ADD_MEMBERSHIP, b4(GROUP) + b4(ME))
    h.receive(packet(daddr=GROUP), pkt_type=2)
    h.receive(packet(daddr=addr("224.0.0.1")), pkt_type=2)
    assert len(h.taker.got) == 2
    assert h.ip_stats()["InMcastPkts"] == 2


# -- control messages --------------------------------------------------------------------------------------------------------


def cookie(h: Host, sk: InetSock, control: bytes) -> tuple[int, ip_output.IpcmCookie]:
    ipc = ip_output.IpcmCookie()
    ip_output.ipcm_init_sk(ipc, sk)
    return ip_sockglue.ip_cmsg_send(sk, control, ipc), ipc


def test_a_sender_may_choose_address_device_ttl_tos_and_options() -> None:
    h = Host()
    sk = make_sock(h)
    err, ipc = cookie(
        h,
        sk,
        pack_cmsg(0, in_.IP_PKTINFO, pack_in_pktinfo(3, ME, 0))
        + pack_cmsg(0, in_.IP_TTL, i32(7))
        + pack_cmsg(0, in_.IP_TOS, b"\x10")
        + pack_cmsg(0, in_.IP_RETOPTS, bytes([148, 4, 0, 0]))
        + pack_cmsg(41, 1, b"ipv6 is passed over"),
    )
    assert err == 0
    assert (ipc.oif, ipc.addr, ipc.ttl, ipc.tos, ipc.priority) == (3, ME, 7, 0x10, 6)
    assert ipc.opt is not None
    assert ipc.opt.data == bytes([148, 4, 0, 0])


@pytest.mark.parametrize(
    "control",
    [
        pack_cmsg(0, in_.IP_TTL, i32(0)),
        pack_cmsg(0, in_.IP_TTL, b"\x07"),
        pack_cmsg(0, in_.IP_TOS, i32(256)),
        pack_cmsg(0, in_.IP_TOS, b"ab"),
        pack_cmsg(0, in_.IP_PKTINFO, bytes(11)),
        pack_cmsg(0, in_.IP_RETOPTS, bytes([7, 0, 4])),
        pack_cmsg(0, in_.IP_PROTOCOL, i32(0)),
        pack_cmsg(0, 99, i32(0)),
        pack_cmsg(SOL_SOCKET, 99, i32(0)),
        (1000).to_bytes(8, "little") + bytes(8),
    ],
)
def test_a_malformed_control_message_is_refused(control: bytes) -> None:
    h = Host()
    assert cookie(h, make_sock(h), control)[0] == -EINVAL


def test_a_priority_above_interactive_needs_a_capability() -> None:
    h = Host()
    sk = make_sock(h)
    assert cookie(h, sk, pack_cmsg(SOL_SOCKET, SO_PRIORITY, i32(9)))[1].priority == 9
    assert h.kernel.init_task is not None
    h.kernel.current = Task(h.kernel, h.net, h.kernel.init_task.files, "user", Cred(uid=1000))
    assert cookie(h, sk, pack_cmsg(SOL_SOCKET, SO_PRIORITY, i32(9)))[0] == -EPERM
    h.kernel.current = None


def receive(h: Host, sk: InetSock, data: bytes, room: int = 1000, pkt_type: int = PACKET_HOST) -> tuple[dict[int, bytes], int]:
    """The control messages that a receiver of `data` gets, and msg_flags."""
    h.receive(data, pkt_type=pkt_type)
    msg = MsgHdr(Kiocb())
    msg.msg_controllen = room
    ip_sockglue.ip_cmsg_recv(msg, sk, h.taker.got[-1])
    cmsgs = parse_cmsgs(msg.msg_control)
    assert cmsgs is not None
    return {type: value for _, type, value in cmsgs}, msg.msg_flags


def test_a_receiver_is_told_what_it_asked_for() -> None:
    h = Host()
    sk = make_sock(h)
    for option in (in_.IP_PKTINFO, in_.IP_RECVTTL, in_.IP_RECVTOS, in_.IP_RECVOPTS, in_.IP_RETOPTS, in_.IP_RECVORIGDSTADDR):
        assert put(sk, option, i32(1)) == 0
    payload = bytes([0, 7, 0, 9]) + b"data"
    got, flags = receive(h, sk, packet(payload, ttl=33, tos=0x1C, options=bytes([7, 7, 4]) + bytes(5)))
    assert flags == 0
    assert got == {
        in_.IP_PKTINFO: pack_in_pktinfo(h.dev.ifindex, ME, ME),
        in_.IP_TTL: i32(33),
        in_.IP_TOS: b"\x1c",
        in_.IP_RECVOPTS: bytes([7, 7, 8]) + b4(ME) + b"\0",
        in_.IP_RETOPTS: bytes([7, 7, 8]) + b4(ME) + b"\0",
        in_.IP_ORIGDSTADDR: pack_sockaddr_in(ME, 9),
    }


def test_pktinfo_of_a_broadcast_names_the_address_to_answer_from() -> None:
    h = Host()
    sk = make_sock(h)
    put(sk, in_.IP_PKTINFO, i32(1))
    got, _ = receive(h, sk, packet(daddr=ME | 0xFF), pkt_type=1)
    assert got[in_.IP_PKTINFO] == pack_in_pktinfo(h.dev.ifindex, ME, ME | 0xFF)


def test_nobody_who_did_not_ask_is_told() -> None:
    h = Host()
    assert receive(h, make_sock(h), packet()) == ({}, 0)


def test_what_finds_no_room_is_cut() -> None:
    h = Host()
    sk = make_sock(h)
    put(sk, in_.IP_RECVTTL, i32(1))
    assert receive(h, sk, packet(), room=8) == ({}, MSG_CTRUNC)


def test_the_largest_fragment_is_told() -> None:
    h = Host()
    sk = make_sock(h)
    put(sk, in_.IP_RECVFRAGSIZE, i32(1))
    h.receive(packet(b"a" * 800, frag_off=0x2000))
    got, _ = receive(h, sk, packet(b"b" * 10, frag_off=100))
    assert got == {in_.IP_RECVFRAGSIZE: i32(820)}


# -- the error queue ---------------------------------------------------------------------------------------------------------


def recv_error(sk: InetSock, size: int = 2000) -> tuple[int, MsgHdr]:
    msg = MsgHdr(Kiocb())
    msg.msg_controllen = 1000
    return ip_sockglue.ip_recv_error(sk, msg, size), msg


def test_an_empty_error_queue_says_try_again() -> None:
    assert recv_error(make_sock(Host()))[0] == -EAGAIN


def test_an_icmp_error_is_queued_with_payload_destination_and_offender() -> None:
    h = Host()
    sk = make_sock(h)
    put(sk, in_.IP_RECVERR, i32(1))
    put(sk, in_.IP_RECVTTL, i32(1))
    from tests.net.ipv4.iphost import icmp_packet

    class Grab(type(h.taker)):  # type: ignore[misc]
        def err_handler(self, skb: SkBuff, info: int) -> int:
            ip_sockglue.ip_icmp_error(sk, skb, ECONNREFUSED, 4321, info, skb.data + 20 + 8)
            return 0

    h.kernel.inet_protos[PROTO] = Grab()
    quoted = packet(b"HEADER..payload", saddr=ME, daddr=addr("10.0.0.9"))
    h.receive(icmp_packet(3, 3, 0, quoted, saddr=addr("10.0.0.254"), ttl=77))
    n, msg = recv_error(sk)
    assert n == 7
    assert b"".join(msg.pieces) == b"payload"
    assert msg.msg_name == pack_sockaddr_in(addr("10.0.0.9"), 4321)
    assert msg.msg_flags == MSG_ERRQUEUE
    cmsgs = parse_cmsgs(msg.msg_control)
    assert cmsgs == [
        (0, in_.IP_TTL, i32(77)),
        (
            0,
            in_.IP_RECVERR,
            i32(ECONNREFUSED) + bytes([2, 3, 3, 0]) + i32(0) + i32(0) + pack_sockaddr_in(addr("10.0.0.254"), 0),
        ),
    ]
    assert sk.sk_rmem_alloc == 0
    assert recv_error(sk)[0] == -EAGAIN


def test_a_local_error_tells_the_mtu_and_nobody_offended() -> None:
    h = Host()
    sk = make_sock(h)
    ip_sockglue.ip_local_error(sk, EMSGSIZE, PEER, 99, 1500)
    assert recv_error(sk)[0] == -EAGAIN  # nobody asked
    sk.inet_flags |= 1 << INET_FLAGS_RECVERR
    ip_sockglue.ip_local_error(sk, EMSGSIZE, PEER, 99, 1500)
    n, msg = recv_error(sk)
    assert n == 0
    assert msg.msg_name == pack_sockaddr_in(PEER, 99)
    assert parse_cmsgs(msg.msg_control) == [
        (0, in_.IP_RECVERR, i32(EMSGSIZE) + bytes([1, 0, 0, 0]) + i32(1500) + i32(0) + bytes(16))
    ]


def test_the_error_queue_is_bounded_by_the_receive_buffer() -> None:
    h = Host()
    sk = make_sock(h)
    sk.inet_flags |= 1 << INET_FLAGS_RECVERR
    for _ in range(1000):
        ip_sockglue.ip_local_error(sk, EMSGSIZE, PEER, 99, 1500)
    assert sk.sk_cold is not None
    assert 100 < sk.sk_cold.sk_error_queue.qlen < 500
    assert sk.sk_rmem_alloc < sk.sk_rcvbuf
    # switching it off throws all away
    put(sk, in_.IP_RECVERR, i32(0))
    assert sk.sk_rmem_alloc == 0


def test_a_long_payload_is_truncated() -> None:
    h = Host()
    sk = make_sock(h)
    sk.inet_flags |= 1 << INET_FLAGS_RECVERR
    h.receive(packet(b"x" * 100))
    skb = h.taker.got[-1]
    skb_pull(skb, 0)
    ip_sockglue.ip_icmp_error(sk, skb, ECONNREFUSED, 1, 0, skb.data + 10)
    n, msg = recv_error(sk, 50)
    assert n == 50
    assert msg.msg_flags == MSG_ERRQUEUE | MSG_TRUNC


# -- IP_CHECKSUM -----------------------------------------------------------------------------------------------------------


def test_the_payloads_checksum_is_told_where_this_host_summed_it() -> None:
    """IP_CHECKSUM, with the values that Linux 6.18 gave for the same packets: not for what a device vouched for, nor for what was
    summed while it was copied."""
    h = dgramhost.Hosts()
    # Non-blocking: poll() would sum, too, for one who may block.
    rx = h.socket(1, AF_INET, SOCK_DGRAM | 0x800, 0)
    assert h.bind(rx, dgramhost.sa(dgramhost.B, 5000)) == 0
    assert h.setsockopt(rx, 0, in_.IP_CHECKSUM, i32(1)) == 0

    def told(size: int, room: int, flags: int = 0) -> int | None:
        data = bytes((i * 7 + 1) & 255 for i in range(size))
        h.inject(dgramhost.udp_packet(dgramhost.A, dgramhost.B, 6000, 5000, data))
        control = h.recvmsg(rx, room, 0x40 | flags, 100)[3]
        if flags:
            h.recv(rx)
        cmsgs = parse_cmsgs(control)
        return int.from_bytes(cmsgs[0][2], "little") if cmsgs else None

    assert [told(n, 2000) for n in (1, 5, 40, 68)] == [0x0001, 0x1E2D, 0x0D81, 0xCDDF]
    assert [told(n, 2000, 2) for n in (1, 5)] == [0x0001, 0x1E2D]
    assert [told(n, 2000) for n in (69, 100, 1000)] == [None] * 3, "summed as it was copied"
    assert [told(n, 3) for n in (69, 100, 1000)] == [0xCEBC, 0xA546, 0xDD2E], "summed before it was cut"
    assert told(69, 2000, 2) is None, "a peek keeps nothing"
    # What is peeked at further on: the rest.
    h.setsockopt(rx, 1, 42, i32(0))  # SO_PEEK_OFF
    h.inject(dgramhost.udp_packet(dgramhost.A, dgramhost.B, 6000, 5000, b"abcdefgh"))
    sums = []
    for _ in range(2):
        (cmsg,) = parse_cmsgs(h.recvmsg(rx, 3, 0x42, 100)[3]) or []
        sums.append(int.from_bytes(cmsg[2], "little"))
    assert sums == [0x9591, 0x32CD]
    # From this machine itself: nobody summed it.
    h.recv(rx)
    h.send(h.udp(0), b"abc", dgramhost.sa(dgramhost.B, 5000))
    assert h.recvmsg(rx, 10, 0x40, 100)[3] == b""
