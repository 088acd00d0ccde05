"""net/ipv4/udp.c: UDP.

Down: udp_sendmsg -> ip_route_output_flow -> ip_make_skb -> udp_send_skb -> ip_send_skb; corked data gathers in `cork` and goes with
udp_push_pending_frames. Up: udp_rcv -> __udp4_lib_rcv -> __udp4_lib_lookup -> udp_queue_rcv_skb -> __udp_enqueue_schedule_skb;
udp_recvmsg takes it from there. ICMP errors: udp_err.

Left out: UDP-Lite (gone from 6.18's successors), encapsulation (UDP_ENCAP), UDP_SEGMENT and UDP_GRO: -ENOPROTOOPT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.machine import Kernel
from afinet.net.core.datagram import (
    __skb_recv_datagram,
    datagram_poll,
    sk_peek_offset_bwd,
    sk_peek_offset_fwd,
    skb_copy_datagram_msg,
    skb_free_datagram,
)
from afinet.net.core.drop_reason import (
    SKB_CONSUMED,
    SKB_DROP_REASON_NO_SOCKET,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    SKB_DROP_REASON_PROTO_MEM,
    SKB_DROP_REASON_SECURITY_HOOK,
    SKB_DROP_REASON_SOCKET_BACKLOG,
    SKB_DROP_REASON_SOCKET_RCVBUFF,
    SKB_DROP_REASON_UDP_CSUM,
)
from afinet.net.core.flow import FLOWI_FLAG_ANYSRC, Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import NETIF_F_HW_CSUM, dev_net
from afinet.net.core.skbuff import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SkBuff,
    consume_skb,
    kfree_skb_reason,
    pskb_may_pull,
    pskb_trim,
    skb_clone,
    skb_pieces,
    skb_pull,
    skb_push,
    skb_queue_purge,
    skb_queue_tail,
    skb_set_owner_r,
)
from afinet.net.core.sock import (
    SOCK_BROADCAST,
    SOCK_DEAD,
    SOCK_LOCALROUTE,
    Proto,
    Sock,
    lock_sock,
    release_sock,
    sk_add_backlog,
    sk_dst_reset,
    sk_dst_set,
    sk_error_report,
    sk_rmem_schedule,
    sk_wmem_alloc_get,
    sock_flag,
    sock_hold,
    sock_prot_inuse_add,
    sock_put,
)
from afinet.net.ipv4 import af_inet, datagram, icmp, igmp, ip_output, ip_sockglue, route
from afinet.net.ipv4.inet_sock import INET_FLAGS_RECVERR, InetSock, inet_test_bit
from afinet.net.ipv4.protocol import NetProtocol
from afinet.security import security
from afinet.uapi.errno import (
    EACCES,
    EADDRINUSE,
    EAFNOSUPPORT,
    EDESTADDRREQ,
    EHOSTUNREACH,
    EINVAL,
    EIOCBQUEUED,
    EMSGSIZE,
    ENETUNREACH,
    ENOBUFS,
    ENOIOCTLCMD,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPIPE,
    EPROTO,
)
from afinet.uapi.eventpoll import EPOLLIN, EPOLLRDNORM
from afinet.uapi.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_PORT_UNREACH,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    NR_ICMP_UNREACH,
)
from afinet.uapi.in_ import IP_PMTUDISC_DONT, IPPROTO_UDP, ipv4_is_multicast
from afinet.uapi.in_route import RTCF_BROADCAST, RTCF_MULTICAST
from afinet.uapi.rtnetlink import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE
from afinet.uapi.snmp import (
    ICMP_MIB_INERRORS,
    IPSTATS_MIB_OUTNOROUTES,
    UDP_MIB_CSUMERRORS,
    UDP_MIB_IGNOREDMULTI,
    UDP_MIB_INDATAGRAMS,
    UDP_MIB_INERRORS,
    UDP_MIB_MEMERRORS,
    UDP_MIB_NOPORTS,
    UDP_MIB_OUTDATAGRAMS,
    UDP_MIB_RCVBUFERRORS,
    UDP_MIB_SNDBUFERRORS,
)
from afinet.uapi.sockaddr import SIZEOF_SOCKADDR_IN, pack_sockaddr_in, sa_family, unpack_sockaddr_in
from afinet.uapi.socket import (
    AF_INET,
    AF_UNSPEC,
    MSG_DONTROUTE,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SEND_SHUTDOWN,
    SOL_UDP,
)
from afinet.uapi.sockios import SIOCINQ, SIOCOUTQ
from afinet.uapi.tcp import TCP_CLOSE, TCP_ESTABLISHED
from afinet.uapi.udp import UDP_CORK
from afinet.wire import be, checksum

if TYPE_CHECKING:
    from afinet.net.core.dst import DstEntry
    from afinet.net.ipv4.route import Rtable
    from afinet.net.socket import MsgHdr

UDP_HLEN: Final = 8
SOCK_BINDADDR_LOCK: Final = 4
SOCK_BINDPORT_LOCK: Final = 8


class UdpSock(InetSock):
    """struct udp_sock."""

    __slots__ = ("corkflag", "corklen", "encap_type", "pending", "udp_key", "udp_key2")

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        self.pending: int = 0  # AF_INET while corked data waits
        self.corkflag: bool = False
        self.corklen: int = 0  # UDP header included
        self.encap_type: int = 0
        self.udp_key: int = -1  # where the sock stands in UdpTable.hash
        self.udp_key2: int = -1  # and in UdpTable.hash4; -1: not connected

    def sk_destruct(self) -> None:
        """udp_destruct_sock."""
        skb_queue_purge(self.sk_net, self.sk_receive_queue, SKB_CONSUMED)
        af_inet.inet_sock_destruct(self)


class UdpTable:
    """struct udp_table: by port for bind and wild-card lookup, by all four for connected socks.

    Linux hashes by port, by (address, port), and since 6.13 by the whole key; with dicts the first and the last do.
    """

    __slots__ = ("hash", "hash4")

    def __init__(self) -> None:
        self.hash: dict[int, list[UdpSock]] = {}
        self.hash4: dict[int, list[UdpSock]] = {}


def udp_hashfn(net: Net, port: int) -> int:
    return net.net_cookie << 16 | port


def udp_ehashfn(net: Net, laddr: int, lport: int, faddr: int, fport: int) -> int:
    """At most 62 bits; keys may coincide, the lookup compares."""
    return (faddr << 16 | fport) ^ laddr << 14 ^ lport << 46 ^ net.net_cookie << 32


# -- ports -----------------------------------------------------------------------------------------------------------------


def inet_rcv_saddr_equal(sk: InetSock, sk2: InetSock) -> bool:
    """ipv4_rcv_saddr_equal with wild cards matching."""
    return sk.inet_rcv_saddr == sk2.inet_rcv_saddr or not sk.inet_rcv_saddr or not sk2.inet_rcv_saddr


def udp_lib_lport_inuse(table: UdpTable, sk: UdpSock, num: int) -> bool:
    """Whether somebody else's hold on `num` forbids it to `sk`."""
    for sk2 in table.hash.get(udp_hashfn(sk.sk_net, num), ()):
        if (
            sk2 is not sk
            and not (sk2.sk_reuse and sk.sk_reuse)
            and (not sk2.sk_bound_dev_if or not sk.sk_bound_dev_if or sk2.sk_bound_dev_if == sk.sk_bound_dev_if)
            and inet_rcv_saddr_equal(sk, sk2)
            and not (sk2.sk_reuseport and sk.sk_reuseport and sk2.sk_uid == sk.sk_uid)
        ):
            return True
    return False


def udp_v4_get_port(sk: UdpSock, snum: int) -> int:
    """udp_lib_get_port: bind to `snum`, or to a port drawn from the local range. 0 or -EADDRINUSE (Linux: 1)."""
    table = cast(UdpProto, sk.sk_prot).table
    if not snum:
        low, high = sk.sk_net.ipv4.ip_local_ports
        remaining = high - low + 1
        stream = sk.kernel.random("udp-ports")
        rand = stream.get_random_u32()
        first = low + (rand * remaining >> 32)
        reserved = sk.sk_net.ipv4.ip_local_reserved_ports
        for i in range(remaining):
            port = low + (first - low + i) % remaining
            if port not in reserved and not udp_lib_lport_inuse(table, sk, port):
                snum = port
                break
        else:
            return -EADDRINUSE
    elif udp_lib_lport_inuse(table, sk, snum):
        return -EADDRINUSE
    sk.inet_num = snum
    if sk.udp_key < 0:
        sk.udp_key = udp_hashfn(sk.sk_net, snum)
        table.hash.setdefault(sk.udp_key, []).append(sk)
        sock_prot_inuse_add(sk.sk_net, sk.sk_prot, 1)
        sock_hold(sk)
    return 0


def udp_lib_unhash(sk: UdpSock) -> None:
    if sk.udp_key < 0:
        return
    table = cast(UdpProto, sk.sk_prot).table
    _table_del(table.hash, sk.udp_key, sk)
    if sk.udp_key2 >= 0:
        _table_del(table.hash4, sk.udp_key2, sk)
    sk.udp_key = -1
    sk.udp_key2 = -1
    sk.inet_num = 0
    sock_prot_inuse_add(sk.sk_net, sk.sk_prot, -1)
    sock_put(sk)


def udp_lib_rehash(sk: UdpSock) -> None:
    """The addresses changed: a connected sock moves in the table of whole keys."""
    if sk.udp_key < 0:
        return
    table = cast(UdpProto, sk.sk_prot).table
    if sk.udp_key2 >= 0:
        _table_del(table.hash4, sk.udp_key2, sk)
        sk.udp_key2 = -1
    if sk.inet_daddr and sk.inet_rcv_saddr:
        sk.udp_key2 = udp_ehashfn(sk.sk_net, sk.inet_rcv_saddr, sk.inet_num, sk.inet_daddr, sk.inet_dport)
        table.hash4.setdefault(sk.udp_key2, []).append(sk)


def _table_del(table: dict[int, list[UdpSock]], key: int, sk: UdpSock) -> None:
    chain = table[key]
    chain.remove(sk)
    if not chain:
        del table[key]


# -- lookup ----------------------------------------------------------------------------------------------------------------


def compute_score(sk: UdpSock, saddr: int, sport: int, daddr: int, dif: int) -> int:
    """How well `sk` fits a packet; -1: not at all."""
    if sk.inet_rcv_saddr != daddr and sk.inet_rcv_saddr:
        return -1
    score = 2 if sk.inet_rcv_saddr else 1
    if sk.inet_daddr:
        if sk.inet_daddr != saddr:
            return -1
        score += 4
    if sk.inet_dport:
        if sk.inet_dport != sport:
            return -1
        score += 4
    if sk.sk_bound_dev_if:
        if sk.sk_bound_dev_if != dif:
            return -1
        score += 4
    return score


def __udp4_lib_lookup(net: Net, table: UdpTable, saddr: int, sport: int, daddr: int, dport: int, dif: int) -> UdpSock | None:
    """The sock for a packet from saddr:sport to daddr:dport that came in by `dif`."""
    chain4 = table.hash4.get(udp_ehashfn(net, daddr, dport, saddr, sport))
    if chain4 is not None:
        for sk in chain4:
            if (
                sk.inet_dport == sport
                and sk.inet_daddr == saddr
                and sk.inet_num == dport
                and sk.inet_rcv_saddr == daddr
                and (not sk.sk_bound_dev_if or sk.sk_bound_dev_if == dif)
                and sk.sk_net is net
            ):
                return sk
    chain = table.hash.get(udp_hashfn(net, dport))
    if chain is None:
        return None
    best: UdpSock | None = None
    best_score = 0
    ties = 0
    for sk in chain:
        score = compute_score(sk, saddr, sport, daddr, dif)
        if score > best_score:
            best = sk
            best_score = score
            ties = 1
        elif score == best_score and best is not None and sk.sk_reuseport and best.sk_reuseport:
            ties += 1
    if best is not None and ties > 1 and best.sk_state != TCP_ESTABLISHED:
        # SO_REUSEPORT: the packet's own hash chooses, so that a flow stays with one sock (reuseport_select_sock).
        h = net.kernel.siphash_key[0] ^ saddr ^ saddr >> 16 ^ sport ^ sport >> 8
        pick = (h * 0x9E3779B1 & 0xFFFFFFFF) * ties >> 32
        for sk in chain:
            if sk.sk_reuseport and compute_score(sk, saddr, sport, daddr, dif) == best_score:
                if pick == 0:
                    return sk
                pick -= 1
    return best


# -- sending ---------------------------------------------------------------------------------------------------------------


def udp_sendmsg(sk: UdpSock, msg: MsgHdr, length: int) -> int:
    """Send one datagram, or add to the corked one. Bytes taken, -errno, or -EIOCBQUEUED."""
    if length > 0xFFFF:
        return -EMSGSIZE
    if msg.msg_flags & MSG_OOB:
        return -EOPNOTSUPP
    net = sk.sk_net
    corkreq = sk.corkflag or msg.msg_flags & MSG_MORE != 0
    if sk.pending:
        lock_sock(sk)
        err = _append(sk, msg, length, None, corkreq)
        release_sock(sk)
        return _sent(sk, err, length)
    connected = False
    if msg.msg_name:
        if len(msg.msg_name) < SIZEOF_SOCKADDR_IN:
            return -EINVAL
        family = sa_family(msg.msg_name)
        daddr, dport = unpack_sockaddr_in(msg.msg_name)
        if family != AF_INET and family != AF_UNSPEC:
            return -EAFNOSUPPORT
        if dport == 0:
            return -EINVAL
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            return -EDESTADDRREQ
        daddr = sk.inet_daddr
        dport = sk.inet_dport
        connected = True
    ipc = ip_output.IpcmCookie()
    ip_output.ipcm_init_sk(ipc, sk)
    if msg.msg_control:
        err = ip_sockglue.ip_cmsg_send(sk, msg.msg_control, ipc)
        if err:
            return err
        connected = False
    if ipc.opt is None:
        ipc.opt = sk.inet_opt
    saddr = ipc.addr
    faddr = daddr
    ipc.addr = daddr
    if ipc.opt is not None and ipc.opt.srr:
        if not daddr:
            return -EINVAL
        faddr = ipc.opt.faddr
        connected = False
    tos = ipc.tos if ipc.tos >= 0 else sk.tos
    scope = RT_SCOPE_UNIVERSE
    if (
        sock_flag(sk, SOCK_LOCALROUTE)
        or msg.msg_flags & MSG_DONTROUTE
        or (ipc.opt is not None and ipc.opt.is_strictroute)
    ):
        scope = RT_SCOPE_LINK
        connected = False
    if ipv4_is_multicast(daddr):
        if not ipc.oif:
            ipc.oif = sk.mc_index
        if not saddr:
            saddr = sk.mc_addr
        connected = False
    elif not ipc.oif:
        ipc.oif = sk.uc_index
    rt: Rtable | None = None
    if connected:
        rt = cast("Rtable | None", _sk_dst_check(sk))
    fl4 = Flowi4(
        faddr, saddr, ipc.oif, IPPROTO_UDP, tos & 0xFC, scope, sk.sk_mark, inet_sk_flowi_flags(sk), dport, sk.inet_sport, 1, sk.sk_uid
    )
    if rt is None:
        err, rt = route.ip_route_output_flow(net, fl4, sk)
        if err or rt is None:
            if err == -ENETUNREACH:
                net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
            return _sent(sk, err, length)
        if rt.rt_flags & RTCF_BROADCAST and not sock_flag(sk, SOCK_BROADCAST):
            return -EACCES
        if connected:
            sk_dst_set(sk, rt)
    else:
        fl4.saddr = sk.inet_saddr
    if not ipc.addr:
        ipc.addr = fl4.daddr
    if not corkreq:
        err, skb = ip_output.ip_make_skb(sk, fl4, msg, length, UDP_HLEN, ipc, rt)
        if err == 0 and skb is not None:
            err = udp_send_skb(sk, skb, fl4)
        return _sent(sk, err, length)
    lock_sock(sk)
    if sk.pending:
        release_sock(sk)
        return -EINVAL
    err = ip_output.ip_setup_cork(sk, fl4, ipc, rt)
    if err == 0:
        sk.pending = AF_INET
        err = _append(sk, msg, length, fl4, corkreq)
    release_sock(sk)
    return _sent(sk, err, length)


def _append(sk: UdpSock, msg: MsgHdr, length: int, fl4: Flowi4 | None, corkreq: bool) -> int:
    """do_append_data: add to the corked datagram, send it unless more is to come."""
    sk.corklen += length + (UDP_HLEN if not sk.corklen else 0)
    err = ip_output.ip_append_data(sk, msg, length, UDP_HLEN)
    if err:
        if err != -EIOCBQUEUED:
            udp_flush_pending_frames(sk)
        else:
            sk.corklen -= length
    elif not corkreq:
        err = udp_push_pending_frames(sk)
    return err


def _sent(sk: UdpSock, err: int, length: int) -> int:
    if err == 0:
        return length
    if err == -ENOBUFS:
        sk.sk_net.udp_statistics[UDP_MIB_SNDBUFERRORS] += 1
    return err


def _sk_dst_check(sk: Sock) -> DstEntry | None:
    dst = sk.sk_dst_cache
    if dst is not None and dst.obsolete and not dst.check(0):
        sk_dst_reset(sk)
        return None
    return dst


def inet_sk_flowi_flags(sk: InetSock) -> int:
    return FLOWI_FLAG_ANYSRC if sk.inet_flags & (1 << 15 | 1 << 12) else 0


def udp_send_skb(sk: UdpSock, skb: SkBuff, fl4: Flowi4) -> int:
    """Put the UDP header before a datagram's payload and hand it to IP."""
    net = sk.sk_net
    length = skb.len + UDP_HLEN
    if length > 0xFFFF - 20:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return -EMSGSIZE
    header = be.pack_udp(fl4.fl4_sport, fl4.fl4_dport, length, 0)
    dst = skb.dst
    assert dst is not None
    if not sk.sk_no_check_tx:
        if dst.dev.features & NETIF_F_HW_CSUM and length + 20 <= dst.mtu():
            # udp4_hwcsum: the field holds the pseudo-header's sum, who needs the rest adds it
            pseudo = checksum.csum_fold(checksum.csum_tcpudp_nofold(fl4.saddr, fl4.daddr, length, IPPROTO_UDP, 0)) ^ 0xFFFF
            header = be.pack_udp(fl4.fl4_sport, fl4.fl4_dport, length, pseudo)
            skb_push(skb, header)
            skb.ip_summed = CHECKSUM_PARTIAL
            skb.csum_start = skb.data
            skb.csum_offset = 6
        else:
            total = checksum.csum_pieces(skb_pieces(skb, 0, skb.len), checksum.csum_partial(header, 0, UDP_HLEN, 0))
            check = checksum.csum_tcpudp_magic(fl4.saddr, fl4.daddr, length, IPPROTO_UDP, total) or 0xFFFF
            skb_push(skb, be.pack_udp(fl4.fl4_sport, fl4.fl4_dport, length, check))
    else:
        skb_push(skb, header)
    skb.transport_header = skb.data
    err = ip_output.ip_send_skb(net, skb)
    if err:
        if err == -ENOBUFS and not inet_test_bit(sk, INET_FLAGS_RECVERR):
            net.udp_statistics[UDP_MIB_SNDBUFERRORS] += 1
            err = 0
    else:
        net.udp_statistics[UDP_MIB_OUTDATAGRAMS] += 1
    return err


def udp_push_pending_frames(sk: UdpSock) -> int:
    """Send what is corked."""
    err = 0
    fl4 = ip_output.ip_cork_flow(sk)
    skb = ip_output.ip_finish_skb(sk)
    if skb is not None:
        err = udp_send_skb(sk, skb, fl4)
    sk.corklen = 0
    sk.pending = 0
    return err


def udp_flush_pending_frames(sk: UdpSock) -> None:
    """Throw away what is corked."""
    if sk.pending:
        sk.corklen = 0
        sk.pending = 0
        ip_output.ip_flush_pending_frames(sk)


# -- receiving, softirq side -----------------------------------------------------------------------------------------------


class UdpProtocol(NetProtocol):
    """udp_protocol: IP's way in."""

    __slots__ = ("prot",)

    def __init__(self, prot: UdpProto) -> None:
        super().__init__()
        self.prot: UdpProto = prot

    def handler(self, skb: SkBuff) -> int:
        return udp_rcv(self.prot, skb)

    def err_handler(self, skb: SkBuff, info: int) -> int:
        return udp_err(self.prot, skb, info)


def udp_rcv(prot: UdpProto, skb: SkBuff) -> int:
    """__udp4_lib_rcv: `skb.data` is at the UDP header. 0; a packet that nobody wants is dropped here."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    stats = net.udp_statistics
    if not pskb_may_pull(skb, UDP_HLEN):
        stats[UDP_MIB_INERRORS] += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
    sport, dport, ulen, check = be.unpack_udp(skb.head, skb.data)
    if ulen > skb.len or ulen < UDP_HLEN:
        stats[UDP_MIB_INERRORS] += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
    if ulen < skb.len:
        pskb_trim(skb, ulen)
    saddr = be.get_u32(skb.head, skb.network_header + 12)
    daddr = be.get_u32(skb.head, skb.network_header + 16)
    if check == 0:
        skb.ip_summed = CHECKSUM_UNNECESSARY
    elif skb.ip_summed != CHECKSUM_PARTIAL and skb.ip_summed != CHECKSUM_UNNECESSARY:
        total = checksum.csum_pieces(skb_pieces(skb, 0, ulen), 0)
        if checksum.csum_tcpudp_magic(saddr, daddr, ulen, IPPROTO_UDP, total):
            stats[UDP_MIB_CSUMERRORS] += 1
            stats[UDP_MIB_INERRORS] += 1
            return kfree_skb_reason(net, skb, SKB_DROP_REASON_UDP_CSUM)
        skb.ip_summed = CHECKSUM_UNNECESSARY
    rt = cast("Rtable", skb.dst)
    if rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST):
        return __udp4_lib_mcast_deliver(prot, net, skb, saddr, sport, daddr, dport)
    sk = __udp4_lib_lookup(net, prot.table, saddr, sport, daddr, dport, dev.ifindex)
    if sk is not None:
        udp_queue_rcv_skb(sk, skb)
        return 0
    stats[UDP_MIB_NOPORTS] += 1
    icmp.icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)
    return kfree_skb_reason(net, skb, SKB_DROP_REASON_NO_SOCKET)


def __udp4_lib_mcast_deliver(prot: UdpProto, net: Net, skb: SkBuff, saddr: int, sport: int, daddr: int, dport: int) -> int:
    """Every sock that fits gets a copy."""
    dif = skb.skb_iif
    first: UdpSock | None = None
    for sk in prot.table.hash.get(udp_hashfn(net, dport), ())[:]:
        if compute_score(sk, saddr, sport, daddr, dif) < 0 or (
            ipv4_is_multicast(daddr) and not igmp.ip_mc_sf_allow(sk, daddr, saddr, dif)
        ):
            continue
        if first is None:
            first = sk
        else:
            udp_queue_rcv_skb(sk, skb_clone(skb))
    if first is not None:
        udp_queue_rcv_skb(first, skb)
        return 0
    net.udp_statistics[UDP_MIB_IGNOREDMULTI] += 1
    consume_skb(skb)
    return 0


def udp_queue_rcv_skb(sk: UdpSock, skb: SkBuff) -> int:
    """udp_queue_rcv_one_skb: past the security hook and the filter, into the queue or the bin."""
    net = sk.sk_net
    if security.security_sock_rcv_skb(sk, skb):
        net.udp_statistics[UDP_MIB_INERRORS] += 1
        sk.sk_drops += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_SECURITY_HOOK)
    skb_pull(skb, UDP_HLEN)  # udp_csum_pull_header
    if sk.sk_lock_owned and sk.pending:
        # Linux takes no lock here; a corked send of the same sock further up the stack must not be disturbed.
        if sk_add_backlog(sk, skb, sk.sk_rcvbuf):
            return kfree_skb_reason(net, skb, SKB_DROP_REASON_SOCKET_BACKLOG)
        return 0
    return __udp_queue_rcv_skb(sk, skb)


def __udp_queue_rcv_skb(sk: UdpSock, skb: SkBuff) -> int:
    net = sk.sk_net
    rmem = sk.sk_rmem_alloc
    if rmem and rmem + skb.truesize > sk.sk_rcvbuf:  # one packet always fits, however small the buffer
        net.udp_statistics[UDP_MIB_RCVBUFERRORS] += 1
        reason = SKB_DROP_REASON_SOCKET_RCVBUFF
    elif not sk_rmem_schedule(sk, skb.truesize):
        net.udp_statistics[UDP_MIB_MEMERRORS] += 1
        reason = SKB_DROP_REASON_PROTO_MEM
    else:
        skb.dev = None
        skb.dst = None
        skb_set_owner_r(skb, sk)
        skb_queue_tail(sk.sk_receive_queue, skb)
        if not sock_flag(sk, SOCK_DEAD):
            sk.sk_data_ready()
        return 0
    net.udp_statistics[UDP_MIB_INERRORS] += 1
    sk.sk_drops += 1
    if sk.kernel.trace.udp_fail_queue_rcv_skb:
        sk.kernel.trace.fire("udp:udp_fail_queue_rcv_skb", {"rc": -reason, "lport": sk.inet_num, "sk": sk})
    return kfree_skb_reason(net, skb, reason)


def udp_err(prot: UdpProto, skb: SkBuff, info: int) -> int:
    """__udp4_lib_err: an ICMP error about a datagram we sent; `skb.data` is at the quoted IP header."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    ihl = (skb.head[skb.data] & 15) * 4
    type = skb.head[skb.transport_header]
    code = skb.head[skb.transport_header + 1]
    saddr = be.get_u32(skb.head, skb.data + 12)
    daddr = be.get_u32(skb.head, skb.data + 16)
    source = be.get_u16(skb.head, skb.data + ihl)
    dest = be.get_u16(skb.head, skb.data + ihl + 2)
    sk = __udp4_lib_lookup(net, prot.table, daddr, dest, saddr, source, dev.ifindex)
    if sk is None:
        net.icmp_statistics[ICMP_MIB_INERRORS] += 1
        return 0
    err = 0
    harderr = False
    if type == ICMP_TIME_EXCEEDED:
        err = EHOSTUNREACH
    elif type == ICMP_SOURCE_QUENCH:
        return 0
    elif type == ICMP_PARAMETERPROB:
        err = EPROTO
        harderr = True
    elif type == ICMP_DEST_UNREACH:
        if code == ICMP_FRAG_NEEDED:
            route.ipv4_sk_update_pmtu(skb, sk, info)
            if sk.pmtudisc == IP_PMTUDISC_DONT:
                return 0
            err = EMSGSIZE
            harderr = True
        else:
            err = EHOSTUNREACH
            if code <= NR_ICMP_UNREACH:
                err, harderr = icmp.icmp_err_convert(code)
    elif type == ICMP_REDIRECT:
        route.ipv4_sk_redirect(skb, sk)
        return 0
    else:
        err = EHOSTUNREACH
    if not inet_test_bit(sk, INET_FLAGS_RECVERR):
        if not harderr or sk.sk_state != TCP_ESTABLISHED:
            return 0
    else:
        ip_sockglue.ip_icmp_error(sk, skb, err, dest, info, skb.data + ihl + UDP_HLEN)
    sk.sk_err = err
    sk_error_report(sk)
    return 0


# -- receiving, system call side -------------------------------------------------------------------------------------------


def udp_recvmsg(sk: UdpSock, msg: MsgHdr, size: int, flags: int) -> int:
    """One datagram: bytes copied (its whole length with MSG_TRUNC), -errno or -EIOCBQUEUED."""
    if flags & MSG_ERRQUEUE:
        return ip_sockglue.ip_recv_error(sk, msg, size)
    err, skb, off = __skb_recv_datagram(sk, sk.sk_receive_queue, flags, msg)
    if skb is None:
        return err
    ulen = skb.len
    copied = min(size, ulen - off)
    if copied < ulen - off:
        msg.msg_flags |= MSG_TRUNC
    skb_copy_datagram_msg(skb, off, msg, copied)
    if not flags & MSG_PEEK:
        sk.sk_net.udp_statistics[UDP_MIB_INDATAGRAMS] += 1
    saddr = be.get_u32(skb.head, skb.network_header + 12)
    msg.msg_name = pack_sockaddr_in(saddr, be.get_u16(skb.head, skb.transport_header))
    ip_sockglue.sock_recv_cmsgs(msg, sk, skb)
    if ip_sockglue.inet_cmsg_flags(sk):
        ip_sockglue.ip_cmsg_recv_offset(msg, sk, skb, UDP_HLEN, off)
    if flags & MSG_PEEK:
        sk_peek_offset_fwd(sk, copied)
    else:
        sk_peek_offset_bwd(sk, ulen)
        skb_free_datagram(sk, skb)
    return ulen - off if flags & MSG_TRUNC else copied


def udp_poll(sk: UdpSock) -> int:
    mask = datagram_poll(sk, sk.sk_receive_queue)
    if sk.sk_receive_queue.head is not None:
        mask |= EPOLLIN | EPOLLRDNORM
    return mask


# -- udp_prot --------------------------------------------------------------------------------------------------------------


class UdpProto(Proto):
    """udp_prot."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "UDP")
        self.table: UdpTable = UdpTable()
        self.obj_size = 1152  # sizeof(struct udp_sock) on x86-64
        self.slab_flags = 0

    def sk_prot_alloc(self, net: Net, family: int) -> Sock:
        return UdpSock(net, family, self)

    def init(self, sk: Sock) -> int:
        """udp_init_sock."""
        if self.sysctl_mem is None:
            init_net = self.kernel.init_net
            self.sysctl_mem = (sk.sk_net if init_net is None else init_net).ipv4.sysctl_udp_mem  # one for all namespaces
        self.sockets_allocated += 1
        return 0

    def destroy(self, sk: Sock) -> None:
        """udp_destroy_sock."""
        udp = cast(UdpSock, sk)
        lock_sock(udp)
        udp_flush_pending_frames(udp)
        release_sock(udp)
        self.sockets_allocated -= 1

    def pre_connect(self, sk: Sock, uaddr: bytes) -> int:
        return -EINVAL if len(uaddr) < SIZEOF_SOCKADDR_IN else 0

    def connect(self, sk: Sock, uaddr: bytes) -> int:
        lock_sock(sk)
        err = datagram.ip4_datagram_connect(cast(UdpSock, sk), uaddr)
        release_sock(sk)
        return err

    def disconnect(self, sk: Sock, flags: int) -> int:
        """udp_disconnect."""
        lock_sock(sk)
        udp_disconnect(cast(UdpSock, sk))
        release_sock(sk)
        return 0

    def ioctl(self, sk: Sock, cmd: int, arg: bytes) -> tuple[int, bytes]:
        if cmd == SIOCOUTQ:
            return 0, sk_wmem_alloc_get(sk).to_bytes(4, "little")
        if cmd == SIOCINQ:
            head = sk.sk_receive_queue.head
            return 0, (0 if head is None else head.len).to_bytes(4, "little")
        return -ENOIOCTLCMD, b""

    def setsockopt(self, sk: Sock, level: int, optname: int, optval: bytes) -> int:
        udp = cast(UdpSock, sk)
        if level != SOL_UDP:
            return ip_sockglue.ip_setsockopt(udp, level, optname, optval)
        if len(optval) < 4:
            return -EINVAL
        if optname == UDP_CORK:
            udp.corkflag = int.from_bytes(optval[:4], "little") != 0
            if not udp.corkflag:
                lock_sock(sk)
                if udp.pending:
                    udp_push_pending_frames(udp)
                release_sock(sk)
            return 0
        return -ENOPROTOOPT

    def getsockopt(self, sk: Sock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        udp = cast(UdpSock, sk)
        if level != SOL_UDP:
            return ip_sockglue.ip_getsockopt(udp, level, optname, optlen)
        if optlen < 0:
            return -EINVAL, b""
        if optname == UDP_CORK:
            return 0, int(udp.corkflag).to_bytes(4, "little")[:optlen]
        return -ENOPROTOOPT, b""

    def sendmsg(self, sk: Sock, msg: MsgHdr, size: int) -> int:
        if sk.sk_shutdown & SEND_SHUTDOWN:
            return -EPIPE
        return udp_sendmsg(cast(UdpSock, sk), msg, size)

    def recvmsg(self, sk: Sock, msg: MsgHdr, size: int, flags: int) -> int:
        return udp_recvmsg(cast(UdpSock, sk), msg, size, flags)

    def backlog_rcv(self, sk: Sock, skb: SkBuff) -> int:
        return __udp_queue_rcv_skb(cast(UdpSock, sk), skb)

    def unhash(self, sk: Sock) -> None:
        udp_lib_unhash(cast(UdpSock, sk))

    def rehash(self, sk: Sock) -> None:
        udp_lib_rehash(cast(UdpSock, sk))

    def get_port(self, sk: Sock, snum: int) -> int:
        return udp_v4_get_port(cast(UdpSock, sk), snum)

    def has_get_port(self) -> bool:
        return True

    def put_port(self, sk: Sock) -> None:
        udp_lib_unhash(cast(UdpSock, sk))

    def sysctl_wmem(self, net: Net) -> list[int]:
        return [net.ipv4.sysctl_udp_wmem_min, net.core.sysctl_wmem_default, net.core.sysctl_wmem_max]

    def sysctl_rmem(self, net: Net) -> list[int]:
        return [net.ipv4.sysctl_udp_rmem_min, net.core.sysctl_rmem_default, net.core.sysctl_rmem_max]

    def diag_destroy(self, sk: Sock, err: int) -> int:
        """udp_abort."""
        lock_sock(sk)
        if not sock_flag(sk, SOCK_DEAD):
            sk.sk_err = err
            sk_error_report(sk)
            udp_disconnect(cast(UdpSock, sk))
        release_sock(sk)
        return 0


def udp_disconnect(sk: UdpSock) -> None:
    """__udp_disconnect: forget the peer, and what bind() did not fix."""
    sk.sk_state = TCP_CLOSE
    sk.inet_daddr = 0
    sk.inet_dport = 0
    if not sk.sk_userlocks & SOCK_BINDADDR_LOCK:
        sk.inet_rcv_saddr = 0
        sk.inet_saddr = 0
    udp_lib_rehash(sk)
    if not sk.sk_userlocks & SOCK_BINDPORT_LOCK:
        udp_lib_unhash(sk)
        sk.inet_sport = 0
    sk_dst_reset(sk)


def udp_init(kernel: Kernel) -> None:
    """Nothing to size here: the tables grow (Linux allocates them and sets udp_mem from the machine's memory)."""
