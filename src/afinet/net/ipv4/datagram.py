"""net/ipv4/datagram.c: connect() for UDP, raw and ping sockets, which only fixes the peer; and the route that they keep for it.

ip4_datagram_connect at the system call; ip4_datagram_release_cb whenever the sock is let go, since what came in meanwhile may have
made its route stale. ip_sendmsg_scope (include/net/ip.h), ipv4_confirm_neigh (route.c) and ipv4_pktinfo_prepare (ip_sockglue.c) are
what the three protocols' sending and receiving share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.net.core import neighbour
from afinet.net.core.flow import Flowi4
from afinet.net.core.sock import (
    SOCK_BROADCAST,
    SOCK_LOCALROUTE,
    Sock,
    lock_sock,
    release_sock,
    sk_dst_reset,
    sk_dst_set,
    sock_flag,
)
from afinet.net.core.sock_reuseport import reuseport_has_conns_set
from afinet.net.ipv4 import af_inet, route
from afinet.net.ipv4.inet_sock import INET_FLAGS_PKTINFO, InetSock, inet_mc_addr, inet_test_bit
from afinet.net.ipv4.udp_sock import UdpSock
from afinet.uapi.errno import EACCES, EAFNOSUPPORT, EINVAL, ENETUNREACH
from afinet.uapi.in_ import ipv4_is_multicast
from afinet.uapi.in_route import RTCF_BROADCAST, RTCF_LOCAL, RTCF_MULTICAST
from afinet.uapi.rtnetlink import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE
from afinet.uapi.snmp import IPSTATS_MIB_OUTNOROUTES
from afinet.uapi.sockaddr import SIZEOF_SOCKADDR_IN, sa_family, unpack_sockaddr_in
from afinet.uapi.socket import AF_INET, MSG_CONFIRM, MSG_DONTROUTE, MSG_PROBE
from afinet.uapi.tcp import TCP_ESTABLISHED

if TYPE_CHECKING:
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.ip_output import IpcmCookie
    from afinet.net.ipv4.route import Rtable
    from afinet.net.socket import MsgHdr


def __ip4_datagram_connect(sk: InetSock, uaddr: bytes) -> int:
    """Fix the peer and, where bind() left them open, the addresses. 0, -EINVAL, -EAFNOSUPPORT, -EACCES (broadcast without
    SO_BROADCAST) or the route's error; nothing but the cached route is changed on an error."""
    if len(uaddr) < SIZEOF_SOCKADDR_IN:
        return -EINVAL
    if sa_family(uaddr) != AF_INET:
        return -EAFNOSUPPORT
    daddr, port = unpack_sockaddr_in(uaddr)
    sk_dst_reset(sk)
    oif = sk.sk_bound_dev_if
    # A sock that was connected before keeps the source address of that time.
    saddr = sk.inet_saddr
    if ipv4_is_multicast(daddr):
        if not oif:
            oif = sk.mc_index
        if not saddr:
            saddr = inet_mc_addr(sk)
    elif not oif:
        oif = sk.uc_index
    fl4 = Flowi4()
    err, rt = route.ip_route_connect(fl4, daddr, saddr, oif, sk.sk_protocol, sk.inet_sport, port, sk)
    # Linux keeps one flow for the peer and the cork: what is corked now goes to the new peer.
    if sk.cork is not None:
        sk.cork.fl4 = fl4
    if isinstance(sk, UdpSock):
        sk.cork_fl4 = fl4
    if err or rt is None:
        if err == -ENETUNREACH:
            sk.sk_net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
        return err
    if rt.rt_flags & RTCF_BROADCAST and not sock_flag(sk, SOCK_BROADCAST):
        return -EACCES
    if not sk.inet_saddr:
        sk.inet_saddr = fl4.saddr
    if not sk.inet_rcv_saddr:
        sk.inet_rcv_saddr = fl4.saddr
        sk.sk_prot.rehash(sk)
    sk.inet_daddr = fl4.daddr
    sk.inet_dport = port
    reuseport_has_conns_set(sk)
    sk.sk_state = TCP_ESTABLISHED
    sk.sk_txhash = sk.kernel.random("txhash").get_random_u32() or 1
    sk.inet_id = sk.kernel.random("ipid").get_random_u32() & 0xFFFF
    sk_dst_set(sk, rt)
    return 0


def ip4_datagram_connect(sk: InetSock, uaddr: bytes) -> int:
    """__ip4_datagram_connect with the sock owned."""
    lock_sock(sk)
    err = __ip4_datagram_connect(sk, uaddr)
    release_sock(sk)
    return err


def ip4_datagram_release_cb(sk: Sock) -> None:
    """Look the route of a connected sock up anew when it no longer holds, so that SO_ERROR, IP_MTU and the next send see the new
    one."""
    dst = sk.sk_dst_cache
    if dst is None or not dst.obsolete or dst.check(0):
        return
    assert isinstance(sk, InetSock)
    fl4 = Flowi4()
    af_inet.inet_sk_init_flowi4(sk, fl4)
    _, rt = route.ip_route_output_flow(sk.sk_net, fl4, sk)
    sk_dst_set(sk, rt)


# -- shared by udp, raw and ping -------------------------------------------------------------------------------------------


def ip_sendmsg_scope(sk: InetSock, ipc: IpcmCookie, msg: MsgHdr) -> int:
    """Only what is on the link, or anything."""
    if sock_flag(sk, SOCK_LOCALROUTE) or msg.msg_flags & MSG_DONTROUTE or (ipc.opt is not None and ipc.opt.is_strictroute):
        return RT_SCOPE_LINK
    return RT_SCOPE_UNIVERSE


def ip_msg_confirm(msg: MsgHdr, rt: Rtable, daddr: int, length: int) -> bool:
    """do_confirm of the sendmsg functions: MSG_CONFIRM, which takes effect with MSG_PROBE only. True if that was the whole call."""
    if not msg.msg_flags & MSG_CONFIRM or not msg.msg_flags & MSG_PROBE:
        return False
    ipv4_confirm_neigh(rt, daddr)
    return length == 0


def ipv4_confirm_neigh(rt: Rtable, daddr: int) -> None:
    """dst_confirm_neigh: the next hop is alive."""
    tbl = rt.net.arp_tbl
    hop = rt.rt_gw4
    if not hop:
        if not daddr or rt.rt_flags & (RTCF_MULTICAST | RTCF_BROADCAST | RTCF_LOCAL):
            return
        hop = daddr
    neigh = None if tbl is None else neighbour.neigh_lookup(tbl, hop, rt.dev)
    if neigh is not None:
        neighbour.neigh_confirm(neigh)


def ipv4_pktinfo_prepare(sk: InetSock, skb: SkBuff) -> None:
    """Before a packet is queued: let go of its route, unless it will be asked for (IP_PKTINFO, and the echo of options)."""
    if not inet_test_bit(sk, INET_FLAGS_PKTINFO) and (skb.opt is None or not skb.opt.optlen):
        skb.dst = None
