"""net/ipv4/udp.c, the part about who has which port: the tables of socks, bind, and the lookup of a packet's sock.

Call order: udp_v4_get_port (bind, autobind) -> udp_lib_lport_inuse; udp_lib_rehash and udp4_hash4 when a sock connects;
udp_lib_unhash at its end. For a packet: __udp4_lib_lookup -> udp4_lib_lookup4, then udp4_lib_lookup2 for its address, then for any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from afinet.net.core.net_namespace import Net
from afinet.net.core.sock import sock_hold, sock_prot_inuse_add, sock_put
from afinet.net.core.sock_reuseport import (
    reciprocal_scale,
    reuseport_add_sock,
    reuseport_alloc,
    reuseport_detach_sock,
    reuseport_has_conns,
    reuseport_select_sock,
)
from afinet.net.ipv4 import inet_hashtables
from afinet.net.ipv4.udp_sock import UdpSock, UdpTable, udp_get_table_prot
from afinet.uapi.errno import EADDRINUSE
from afinet.uapi.tcp import TCP_ESTABLISHED

if TYPE_CHECKING:
    from afinet.net.core.skbuff import SkBuff


def udp_hashfn(net: Net, port: int) -> int:
    return net.net_cookie << 16 | port


def udp4_portaddr_hash(net: Net, addr: int, port: int) -> int:
    """The key of UdpTable.hash2. At most 62 bits, for namespaces up to the 16,384th; keys may coincide, the lookup compares."""
    return (net.net_cookie & 0x3FFF) << 48 | port << 32 | addr


def udp_ehashfn(net: Net, laddr: int, lport: int, faddr: int, fport: int) -> int:
    """The key of UdpTable.hash4, likewise."""
    return (faddr << 16 | fport) ^ laddr << 14 ^ lport << 46 ^ (net.net_cookie & 0x3FFF) << 32


def _table_add(table: dict[int, list[UdpSock]], key: int, sk: UdpSock) -> None:
    chain = table.get(key)
    if chain is None:
        table[key] = [sk]
    else:
        chain.insert(0, sk)


def _table_del(table: dict[int, list[UdpSock]], key: int, sk: UdpSock) -> None:
    chain = table[key]
    chain.remove(sk)
    if not chain:
        del table[key]


# -- ports -----------------------------------------------------------------------------------------------------------------


def udp_lib_lport_inuse(table: UdpTable, sk: UdpSock, num: int, exact: bool) -> bool:
    """Whether somebody else's hold on `num` forbids it to `sk`. `exact`: the program named the port; then the first sock that
    shares by SO_REUSEPORT decides, as in Linux."""
    for sk2 in table.hash.get(udp_hashfn(sk.sk_net, num), ()):
        if (
            sk2 is not sk
            and not (sk2.sk_reuse and sk.sk_reuse)
            and (not sk2.sk_bound_dev_if or not sk.sk_bound_dev_if or sk2.sk_bound_dev_if == sk.sk_bound_dev_if)
            and inet_hashtables.inet_rcv_saddr_equal(sk, sk2, True)
        ):
            if sk2.sk_reuseport and sk.sk_reuseport and sk.sk_reuseport_cb is None and sk2.sk_uid == sk.sk_uid:
                if exact:
                    return False
            else:
                return True
    return False


def udp_reuseport_add_sock(table: UdpTable, sk: UdpSock) -> None:
    """Join the group of the socks with the same port, address, device and user, or found one."""
    for sk2 in table.hash.get(udp_hashfn(sk.sk_net, sk.inet_num), ()):
        if (
            sk2 is not sk
            and sk2.sk_family == sk.sk_family
            and sk2.sk_bound_dev_if == sk.sk_bound_dev_if
            and sk2.sk_reuseport
            and sk2.sk_uid == sk.sk_uid
            and inet_hashtables.inet_rcv_saddr_equal(sk, sk2, False)
        ):
            reuseport_add_sock(sk, sk2)
            return
    reuseport_alloc(sk)


def udp_v4_get_port(sk: UdpSock, snum: int) -> int:
    """udp_lib_get_port: bind to `snum`, or to a port drawn from the local range. 0 or -EADDRINUSE."""
    table = udp_get_table_prot(sk)
    net = sk.sk_net
    if not snum:
        _, low, high = inet_hashtables.inet_sk_get_local_port_range(sk)
        remaining = high - low + 1
        # RFC 6056, algorithm 1: from a random place, the next that is free.
        offset = reciprocal_scale(sk.kernel.random("udp-ports").get_random_u32(), remaining)
        for i in range(remaining):
            port = low + (offset + i) % remaining
            if not inet_hashtables.inet_is_local_reserved_port(net, port) and not udp_lib_lport_inuse(table, sk, port, False):
                snum = port
                break
        else:
            return -EADDRINUSE
    elif udp_lib_lport_inuse(table, sk, snum, True):
        return -EADDRINUSE
    sk.inet_num = snum
    if sk.udp_key < 0:
        if sk.sk_reuseport:
            udp_reuseport_add_sock(table, sk)
        sk.udp_key = udp_hashfn(net, snum)
        sk.udp_key2 = udp4_portaddr_hash(net, sk.inet_rcv_saddr, snum)
        _table_add(table.hash, sk.udp_key, sk)
        _table_add(table.hash2, sk.udp_key2, sk)
        sock_prot_inuse_add(net, sk.sk_prot, 1)
        sock_hold(sk)
    return 0


def udp_lib_unhash(sk: UdpSock) -> None:
    if sk.udp_key < 0:
        return
    table = udp_get_table_prot(sk)
    reuseport_detach_sock(sk)
    _table_del(table.hash, sk.udp_key, sk)
    _table_del(table.hash2, sk.udp_key2, sk)
    udp_unhash4(table, sk)
    sk.udp_key = -1
    sk.udp_key2 = -1
    sk.inet_num = 0
    sock_prot_inuse_add(sk.sk_net, sk.sk_prot, -1)
    sock_put(sk)


def udp_lib_rehash(sk: UdpSock) -> None:
    """The own address changed. A member of a SO_REUSEPORT group leaves it."""
    if sk.udp_key < 0:
        return
    table = udp_get_table_prot(sk)
    key2 = udp4_portaddr_hash(sk.sk_net, sk.inet_rcv_saddr, sk.inet_num)
    reuseport_detach_sock(sk)
    if key2 != sk.udp_key2:
        _table_del(table.hash2, sk.udp_key2, sk)
        sk.udp_key2 = key2
        _table_add(table.hash2, key2, sk)
    udp_unhash4(table, sk)


def udp4_hash4(sk: UdpSock) -> None:
    """The sock is connected: enter it by both ends."""
    if sk.udp_key < 0 or not sk.inet_rcv_saddr:
        return
    table = udp_get_table_prot(sk)
    udp_unhash4(table, sk)
    sk.udp_key4 = udp_ehashfn(sk.sk_net, sk.inet_rcv_saddr, sk.inet_num, sk.inet_daddr, sk.inet_dport)
    _table_add(table.hash4, sk.udp_key4, sk)


def udp_unhash4(table: UdpTable, sk: UdpSock) -> None:
    if sk.udp_key4 >= 0:
        _table_del(table.hash4, sk.udp_key4, sk)
        sk.udp_key4 = -1


# -- lookup ----------------------------------------------------------------------------------------------------------------


def compute_score(sk: UdpSock, net: Net, saddr: int, sport: int, daddr: int, hnum: int, dif: int) -> int:
    """How well `sk`, bound to exactly `daddr`, fits a packet from saddr:sport that came in by `dif`; -1: not at all."""
    if sk.sk_net is not net or sk.inet_num != hnum or sk.inet_rcv_saddr != daddr:
        return -1
    score = 2
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
    if sk.sk_incoming_cpu == 0:
        score += 1
    return score


def udp4_lib_lookup2(
    net: Net, table: UdpTable, saddr: int, sport: int, rcv_saddr: int, hnum: int, dif: int, daddr: int, skb: SkBuff | None
) -> UdpSock | None:
    """The best of the socks bound to `rcv_saddr`, for a packet to `daddr`."""
    result: UdpSock | None = None
    badness = 0
    for sk in table.hash2.get(udp4_portaddr_hash(net, rcv_saddr, hnum), ()):
        score = compute_score(sk, net, saddr, sport, rcv_saddr, hnum, dif)
        if score <= badness:
            continue
        badness = score
        result = sk
        if sk.sk_state == TCP_ESTABLISHED or sk.sk_reuseport_cb is None:
            continue
        # The flow's hash chooses, so that a flow stays with one member.
        chosen = reuseport_select_sock(sk, inet_hashtables.inet_reuseport_hash(net, daddr, hnum, saddr, sport), skb, 8)
        if chosen is None:
            continue
        result = cast(UdpSock, chosen)
        if not reuseport_has_conns(sk):
            return result
        # A group with connected members is scored one by one, since one of those may fit better.
        badness = compute_score(result, net, saddr, sport, rcv_saddr, hnum, dif)
    return result


def udp4_lib_lookup4(net: Net, table: UdpTable, saddr: int, sport: int, daddr: int, hnum: int, dif: int) -> UdpSock | None:
    """The sock connected to exactly this peer."""
    chain = table.hash4.get(udp_ehashfn(net, daddr, hnum, saddr, sport))
    if chain is not None:
        for sk in chain:
            if inet_hashtables.inet_match(net, sk, saddr, sport, daddr, hnum, dif):
                return sk
    return None


def __udp4_lib_lookup(
    net: Net, table: UdpTable, saddr: int, sport: int, daddr: int, hnum: int, dif: int, skb: SkBuff | None
) -> UdpSock | None:
    """The sock for a packet from saddr:sport to daddr:hnum that came in by `dif`: a connected one, else one bound to the address,
    else one bound to none."""
    if table.hash4:
        sk = udp4_lib_lookup4(net, table, saddr, sport, daddr, hnum, dif)
        if sk is not None:
            return sk
    sk = udp4_lib_lookup2(net, table, saddr, sport, daddr, hnum, dif, daddr, skb)
    if sk is not None:
        return sk
    return udp4_lib_lookup2(net, table, saddr, sport, 0, hnum, dif, daddr, skb)
