"""net/ipv4/inet_hashtables.c: who owns which four-tuple (ehash), which port (bhash, bhash2), and who listens where (lhash2).

Received segments: __inet_lookup_skb -> __inet_lookup_established (connections, requests, TIME_WAIT), then
__inet_lookup_listener. Ports: inet_csk_get_port (inet_connection_sock.py) for bind, inet_hash_connect here for connect.

Each table is a dict keyed by an integer of at most 62 bits that packs what is searched for, where Linux has an array of chains.
ehash's key cannot hold a whole four-tuple: socks of equal keys hang on a chain (`sk_hash_next`) and every hit is compared in
full. A port's owners are a list through the socks themselves (`sk_bind_next`), so an idle connection owns no container.

Left out: l3mdev (VRF) domains, the fallback to a second listener by BPF, IPv6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import i16, i32
from afinet.kernel.random import siphash
from afinet.net.core import secure_seq, sock_reuseport
from afinet.net.core.sock import (
    SOCK_BINDADDR_LOCK,
    SOCK_DEAD,
    SOCK_RCU_FREE,
    sock_prot_inuse_add,
    sock_set_flag,
)
from afinet.net.ipv4 import inet_connection_sock, inet_timewait_sock, tcp_ipv4
from afinet.uapi.errno import EADDRNOTAVAIL, ENOENT
from afinet.uapi.snmp import LINUX_MIB_TIMEWAITRECYCLED
from afinet.uapi.tcp import TCP_CLOSE, TCP_LISTEN, TCP_TIME_WAIT
from afinet.wire import be

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock, SockCommon
    from afinet.net.ipv4.inet_sock import InetConnectionSock, InetSock
    from afinet.net.ipv4.tcp_sock import TcpTimewaitSock

FASTREUSEPORT_ANY: Final = 1
FASTREUSEPORT_STRICT: Final = 2

INET_TABLE_PERTURB_SIZE: Final = 1 << 16


class InetBindBucket:
    """struct inet_bind_bucket: a local port of one namespace. `owners` counts the socks of all its addresses."""

    __slots__ = ("bhash2", "fast_rcv_saddr", "fastreuse", "fastreuseport", "fastuid", "net", "owners", "port")

    def __init__(self, net: Net, port: int) -> None:
        self.net: Net = net
        self.port: i32 = port
        self.owners: i32 = 0
        # What all owners have in common, so that a bind() need not ask each: 1 yes, 0 no, -1 taken by connect() alone.
        self.fastreuse: i16 = 0
        self.fastreuseport: i16 = 0
        self.fast_rcv_saddr: int = 0
        self.fastuid: int = 0
        self.bhash2: InetBind2Bucket | None = None  # its addresses


class InetBind2Bucket:
    """struct inet_bind2_bucket: a local port at one address."""

    __slots__ = ("bhash_next", "bhash_prev", "owners", "rcv_saddr", "tb")

    def __init__(self, tb: InetBindBucket, rcv_saddr: int) -> None:
        self.tb: InetBindBucket = tb
        self.rcv_saddr: int = rcv_saddr
        self.owners: SockCommon | None = None  # through sk_bind_next, the newest first
        self.bhash_prev: InetBind2Bucket | None = None
        self.bhash_next: InetBind2Bucket | None = tb.bhash2
        if tb.bhash2 is not None:
            tb.bhash2.bhash_prev = self
        tb.bhash2 = self


class InetHashinfo:
    """struct inet_hashinfo: the tables of one Kernel, all namespaces in one."""

    __slots__ = ("bhash", "bhash2", "ehash", "lhash2", "table_perturb")

    def __init__(self) -> None:
        self.ehash: dict[int, SockCommon] = {}
        self.bhash: dict[int, InetBindBucket] = {}
        self.bhash2: dict[int, InetBind2Bucket] = {}
        self.lhash2: dict[int, list[Sock]] = {}  # the newest listener first
        self.table_perturb: dict[int, int] = {}  # at most INET_TABLE_PERTURB_SIZE entries


def hashinfo_of(sk: SockCommon) -> InetHashinfo:
    hinfo = sk.sk_prot.hashinfo
    assert hinfo is not None
    return hinfo


# -- keys ------------------------------------------------------------------------------------------------------------------


def inet_ehashfn(net: Net, laddr: int, lport: int, faddr: int, fport: int) -> int:
    """The key of a connection. Ports go in whole; the peer's address is folded with the own one into 30 bits."""
    return (((laddr ^ net.net_cookie) * 0x1E3779B1 ^ faddr) & 0x3FFFFFFF) << 32 | fport << 16 | (lport ^ fport)


def inet_bhashfn(net: Net, port: int) -> int:
    return net.net_cookie << 16 | port


def inet_bhashfn_portaddr(net: Net, addr: int, port: int) -> int:
    """The key of a port at an address: bhash2's, and lhash2's."""
    return net.net_cookie << 48 | port << 32 | addr


def inet_reuseport_hash(net: Net, laddr: int, lport: int, faddr: int, fport: int) -> int:
    """32 bits by which a SO_REUSEPORT group chooses: nobody outside can aim at one member."""
    return siphash(net.kernel.siphash_key, b"rp" + be.pack_u32x3(laddr, faddr, lport << 16 | fport)) & 0xFFFFFFFF


# -- established -----------------------------------------------------------------------------------------------------------


def inet_match(net: Net, sk: SockCommon, saddr: int, sport: int, daddr: int, hnum: int, dif: int) -> bool:
    """Whether `sk` is the end of a segment from saddr:sport to daddr:hnum that came in by device `dif`."""
    return (
        sk.inet_daddr == saddr
        and sk.inet_dport == sport
        and sk.inet_rcv_saddr == daddr
        and sk.inet_num == hnum
        and sk.sk_net is net
        and (sk.sk_bound_dev_if == 0 or sk.sk_bound_dev_if == dif)
    )


def __inet_lookup_established(
    net: Net, hinfo: InetHashinfo, saddr: int, sport: int, daddr: int, hnum: int, dif: int
) -> SockCommon | None:
    """A connection, a request or a TIME_WAIT sock, or None. The caller takes its own reference."""
    sk = hinfo.ehash.get(
        (((daddr ^ net.net_cookie) * 0x1E3779B1 ^ saddr) & 0x3FFFFFFF) << 32 | sport << 16 | (hnum ^ sport)
    )
    while sk is not None:
        if (
            sk.inet_daddr == saddr
            and sk.inet_dport == sport
            and sk.inet_rcv_saddr == daddr
            and sk.inet_num == hnum
            and sk.sk_net is net
            and (sk.sk_bound_dev_if == 0 or sk.sk_bound_dev_if == dif)
        ):
            return sk
        sk = sk.sk_hash_next
    return None


def ehash_add(hinfo: InetHashinfo, sk: SockCommon) -> None:
    key = sk.sk_hash
    sk.sk_hash_next = hinfo.ehash.get(key)
    hinfo.ehash[key] = sk


def ehash_del(hinfo: InetHashinfo, sk: SockCommon) -> None:
    """Take a hashed sock off its chain; it is unhashed then."""
    key = sk.sk_hash
    first = hinfo.ehash.get(key)
    if first is sk:
        if sk.sk_hash_next is None:
            del hinfo.ehash[key]
        else:
            hinfo.ehash[key] = sk.sk_hash_next
    else:
        while first is not None:
            if first.sk_hash_next is sk:
                first.sk_hash_next = sk.sk_hash_next
                break
            first = first.sk_hash_next
    sk.sk_hash = -1
    sk.sk_hash_next = None


def inet_ehash_insert(sk: SockCommon, osk: SockCommon | None) -> bool:
    """Hash `sk`; if `osk` is given, `sk` takes its place, and False says that it was there no more."""
    hinfo = hashinfo_of(sk)
    if osk is not None:
        if osk.sk_hash < 0:
            return False
        ehash_del(hinfo, osk)
        osk.sk_refcnt -= 1  # the hash's; whoever found it has another
    sk.sk_hash = inet_ehashfn(sk.sk_net, sk.inet_rcv_saddr, sk.inet_num, sk.inet_daddr, sk.inet_dport)
    ehash_add(hinfo, sk)
    return True


def inet_ehash_nolisten(sk: InetConnectionSock, osk: SockCommon | None) -> bool:
    """Hash a full sock. When `osk` was already replaced by another, `sk` is destroyed, and that is False."""
    if inet_ehash_insert(sk, osk):
        sock_prot_inuse_add(sk.sk_net, sk.sk_prot, 1)
        return True
    sk.sk_prot.orphan_count += 1
    sk.sk_state = TCP_CLOSE
    sock_set_flag(sk, SOCK_DEAD)
    inet_connection_sock.inet_csk_destroy_sock(sk)
    return False


# -- listeners -------------------------------------------------------------------------------------------------------------


def compute_score(sk: Sock, net: Net, hnum: int, daddr: int, dif: int) -> int:
    """How well a listener fits a segment to daddr:hnum by device `dif`; -1: not at all."""
    if sk.sk_net is not net or sk.inet_num != hnum or sk.inet_rcv_saddr != daddr:
        return -1
    score = 2
    if sk.sk_bound_dev_if:
        if sk.sk_bound_dev_if != dif:
            return -1
        score = 3
    if sk.sk_incoming_cpu == 0:
        score += 1
    return score


def inet_lhash2_lookup(
    net: Net,
    hinfo: InetHashinfo,
    key: int,
    saddr: int,
    sport: int,
    daddr: int,
    hnum: int,
    bound: int,
    dif: int,
    skb: SkBuff | None,
) -> Sock | None:
    """The best of the listeners at address `bound` (daddr, or 0 for those at any address)."""
    chain = hinfo.lhash2.get(key)
    if chain is None:
        return None
    result: Sock | None = None
    hiscore = 0
    for sk in chain:
        score = compute_score(sk, net, hnum, bound, dif)
        if score > hiscore:
            if sk.sk_reuseport:
                hdr_len = 0 if skb is None else (skb.head[skb.transport_header + 12] >> 4) * 4
                hash = inet_reuseport_hash(net, daddr, hnum, saddr, sport)
                chosen = sock_reuseport.reuseport_select_sock(sk, hash, skb, hdr_len)
                if chosen is not None:
                    return chosen
            result = sk
            hiscore = score
    return result


def __inet_lookup_listener(
    net: Net, hinfo: InetHashinfo, saddr: int, sport: int, daddr: int, hnum: int, dif: int, skb: SkBuff | None = None
) -> Sock | None:
    """A listener at the very address, else one at any address. `skb` is the segment, which a group's program may look at."""
    sk = inet_lhash2_lookup(net, hinfo, inet_bhashfn_portaddr(net, daddr, hnum), saddr, sport, daddr, hnum, daddr, dif, skb)
    if sk is not None:
        return sk
    return inet_lhash2_lookup(net, hinfo, inet_bhashfn_portaddr(net, 0, hnum), saddr, sport, daddr, hnum, 0, dif, skb)


def inet_lookup_listener(
    net: Net, hinfo: InetHashinfo, saddr: int, sport: int, daddr: int, hnum: int, dif: int, skb: SkBuff | None = None
) -> Sock | None:
    return __inet_lookup_listener(net, hinfo, saddr, sport, daddr, hnum, dif, skb)


def __inet_lookup(
    net: Net, hinfo: InetHashinfo, saddr: int, sport: int, daddr: int, hnum: int, dif: int, skb: SkBuff | None = None
) -> SockCommon | None:
    """Whose a segment from saddr:sport to daddr:hnum is."""
    sk = __inet_lookup_established(net, hinfo, saddr, sport, daddr, hnum, dif)
    if sk is not None:
        return sk
    return __inet_lookup_listener(net, hinfo, saddr, sport, daddr, hnum, dif, skb)


def inet_rcv_saddr_equal(sk: SockCommon, sk2: SockCommon, match_wildcard: bool) -> bool:
    """ipv4_rcv_saddr_equal: the same local address, or, with `match_wildcard`, one of them any address."""
    a = sk.inet_rcv_saddr
    b = sk2.inet_rcv_saddr
    return a == b or (match_wildcard and (a == 0 or b == 0))


def inet_reuseport_add_sock(sk: InetConnectionSock, chain: list[Sock]) -> None:
    """Join the group of the listeners of the same port, address, device and user, or found one."""
    for other in chain:
        if (
            other is not sk
            and other.sk_reuseport
            and other.sk_family == sk.sk_family
            and other.sk_bound_dev_if == sk.sk_bound_dev_if
            and other.sk_net is sk.sk_net
            and other.inet_num == sk.inet_num
            and other.sk_uid == sk.sk_uid
            and inet_rcv_saddr_equal(sk, other, False)
        ):
            sock_reuseport.reuseport_add_sock(sk, other)
            return
    sock_reuseport.reuseport_alloc(sk)


def __inet_hash(sk: InetConnectionSock, osk: SockCommon | None) -> int:
    if sk.sk_state != TCP_LISTEN:
        inet_ehash_nolisten(sk, osk)
        return 0
    hinfo = hashinfo_of(sk)
    key = inet_bhashfn_portaddr(sk.sk_net, sk.inet_rcv_saddr, sk.inet_num)
    chain = hinfo.lhash2.get(key)
    if chain is None:
        chain = []
        hinfo.lhash2[key] = chain
    if sk.sk_reuseport:
        inet_reuseport_add_sock(sk, chain)
    sock_set_flag(sk, SOCK_RCU_FREE)
    chain.insert(0, sk)
    sk.sk_hash = key
    sock_prot_inuse_add(sk.sk_net, sk.sk_prot, 1)
    return 0


def inet_hash(sk: InetConnectionSock) -> int:
    """proto.hash."""
    if sk.sk_state != TCP_CLOSE:
        return __inet_hash(sk, None)
    return 0


def inet_unhash(sk: InetConnectionSock) -> None:
    """proto.unhash: out of whichever table it is in."""
    if sk.sk_hash < 0:
        return
    hinfo = hashinfo_of(sk)
    if sk.sk_state == TCP_LISTEN:
        chain = hinfo.lhash2.get(sk.sk_hash)
        if chain is not None:
            for i in range(len(chain)):
                if chain[i] is sk:
                    del chain[i]
                    break
            if not chain:
                del hinfo.lhash2[sk.sk_hash]
        if sk.sk_reuseport_cb is not None:
            sock_reuseport.reuseport_detach_sock(sk)
        sk.sk_hash = -1
    else:
        ehash_del(hinfo, sk)
    sock_prot_inuse_add(sk.sk_net, sk.sk_prot, -1)


# -- ports -----------------------------------------------------------------------------------------------------------------


def inet_bind_bucket_find(hinfo: InetHashinfo, net: Net, port: int) -> InetBindBucket | None:
    return hinfo.bhash.get(net.net_cookie << 16 | port)


def inet_bind_bucket_create(hinfo: InetHashinfo, net: Net, port: int) -> InetBindBucket:
    tb = InetBindBucket(net, port)
    hinfo.bhash[net.net_cookie << 16 | port] = tb
    return tb


def inet_bind_bucket_destroy(hinfo: InetHashinfo, tb: InetBindBucket) -> None:
    """Forget a port that nobody owns."""
    if tb.bhash2 is None:
        del hinfo.bhash[inet_bhashfn(tb.net, tb.port)]


def inet_bind2_bucket_find(hinfo: InetHashinfo, net: Net, port: int, addr: int) -> InetBind2Bucket | None:
    return hinfo.bhash2.get(inet_bhashfn_portaddr(net, addr, port))


def inet_bind2_bucket_create(hinfo: InetHashinfo, tb: InetBindBucket, addr: int) -> InetBind2Bucket:
    tb2 = InetBind2Bucket(tb, addr)
    hinfo.bhash2[inet_bhashfn_portaddr(tb.net, addr, tb.port)] = tb2
    return tb2


def inet_bind2_bucket_destroy(hinfo: InetHashinfo, tb2: InetBind2Bucket) -> None:
    """Forget an address of a port that nobody owns."""
    if tb2.owners is not None:
        return
    tb = tb2.tb
    before = tb2.bhash_prev
    following = tb2.bhash_next
    if before is None:
        tb.bhash2 = following
    else:
        before.bhash_next = following
    if following is not None:
        following.bhash_prev = before
    del hinfo.bhash2[inet_bhashfn_portaddr(tb.net, tb2.rcv_saddr, tb.port)]


def sk_add_bind_node(sk: SockCommon, tb2: InetBind2Bucket) -> None:
    """Enter `sk` among the owners."""
    head = tb2.owners
    sk.sk_bind_prev = None
    sk.sk_bind_next = head
    if head is not None:
        head.sk_bind_prev = sk
    tb2.owners = sk
    tb2.tb.owners += 1


def sk_del_bind_node(sk: SockCommon, tb2: InetBind2Bucket) -> None:
    before = sk.sk_bind_prev
    following = sk.sk_bind_next
    if before is None:
        tb2.owners = following
    else:
        before.sk_bind_next = following
    if following is not None:
        following.sk_bind_prev = before
    sk.sk_bind_next = None
    sk.sk_bind_prev = None
    tb2.tb.owners -= 1


def inet_bind_hash(sk: InetConnectionSock, tb2: InetBind2Bucket, port: int) -> None:
    """Make `sk` an owner of `port`. (Linux's icsk_bind_hash is `icsk_bind2_hash.tb`.)"""
    sk.inet_num = port
    sk.icsk_bind2_hash = tb2
    sk_add_bind_node(sk, tb2)


def inet_put_port(sk: InetConnectionSock) -> None:
    """proto.put_port: give the local port back."""
    tb2 = sk.icsk_bind2_hash
    if tb2 is None:
        return
    hinfo = hashinfo_of(sk)
    sk_del_bind_node(sk, tb2)
    sk.icsk_bind2_hash = None
    sk.inet_num = 0
    inet_bind2_bucket_destroy(hinfo, tb2)
    inet_bind_bucket_destroy(hinfo, tb2.tb)


def __inet_inherit_port(sk: InetConnectionSock, child: InetConnectionSock) -> int:
    """An accepted connection owns its listener's port too, at the address that the peer called. 0 or -ENOENT."""
    tb2 = sk.icsk_bind2_hash
    if tb2 is None:
        return -ENOENT
    tb = tb2.tb
    hinfo = hashinfo_of(child)
    port = child.inet_num
    if tb.port != port:  # a transparent proxy's listener answers for other ports than its own
        found = inet_bind_bucket_find(hinfo, child.sk_net, port)
        if found is None:
            found = inet_bind_bucket_create(hinfo, child.sk_net, port)
            inet_connection_sock.inet_csk_update_fastreuse(found, child)
        tb = found
    addr = child.inet_rcv_saddr
    if tb2.tb is not tb or tb2.rcv_saddr != addr:
        tb2 = inet_bind2_bucket_find(hinfo, child.sk_net, port, addr)
        if tb2 is None:
            tb2 = inet_bind2_bucket_create(hinfo, tb, addr)
    inet_bind_hash(child, tb2, port)
    return 0


def inet_update_saddr(sk: InetSock, saddr: int) -> None:
    sk.inet_saddr = saddr
    sk.inet_rcv_saddr = saddr


def __inet_bhash2_update_saddr(sk: InetConnectionSock, saddr: int) -> None:
    """Give `sk` another local address; as an owner of a port it moves to that address's bucket."""
    tb2 = sk.icsk_bind2_hash
    if tb2 is None or tb2.rcv_saddr == saddr:
        inet_update_saddr(sk, saddr)  # no owner, or in that address's bucket already
        return
    tb = tb2.tb
    hinfo = hashinfo_of(sk)
    new = inet_bind2_bucket_find(hinfo, sk.sk_net, tb.port, saddr)
    if new is None:
        new = inet_bind2_bucket_create(hinfo, tb, saddr)
    sk_del_bind_node(sk, tb2)
    inet_bind2_bucket_destroy(hinfo, tb2)
    inet_update_saddr(sk, saddr)
    sk_add_bind_node(sk, new)
    sk.icsk_bind2_hash = new


def inet_bhash2_update_saddr(sk: InetConnectionSock, saddr: int) -> None:
    __inet_bhash2_update_saddr(sk, saddr)


def inet_bhash2_reset_saddr(sk: InetConnectionSock) -> None:
    """Forget a local address that connect() chose; one that bind() named stays."""
    if not sk.sk_userlocks & SOCK_BINDADDR_LOCK:
        __inet_bhash2_update_saddr(sk, 0)


# -- connect ---------------------------------------------------------------------------------------------------------------


def __inet_check_established(
    sk: InetConnectionSock, lport: int, want_tw: bool
) -> tuple[int, TcpTimewaitSock | None]:
    """Take the four-tuple with local port `lport`, if it is free or held by a TIME_WAIT sock that may be replaced.

    (0 or -EADDRNOTAVAIL, the TIME_WAIT sock that was replaced). `want_tw` says that the port was not bound before: Linux then
    replaces only as tcp_tw_reuse allows, and the caller has to end the TIME_WAIT sock. On success the sock is hashed. """
    hinfo = hashinfo_of(sk)
    net = sk.sk_net
    dif = sk.sk_bound_dev_if
    key = inet_ehashfn(net, sk.inet_rcv_saddr, lport, sk.inet_daddr, sk.inet_dport)
    tw: TcpTimewaitSock | None = None
    sk2 = hinfo.ehash.get(key)
    while sk2 is not None:
        if inet_match(net, sk2, sk.inet_daddr, sk.inet_dport, sk.inet_rcv_saddr, lport, dif):
            if sk2.sk_state != TCP_TIME_WAIT:
                return -EADDRNOTAVAIL, None
            tw = inet_timewait_sock.inet_twsk(sk2)
            if not tcp_ipv4.tcp_twsk_unique(sk, tw, want_tw):
                return -EADDRNOTAVAIL, None
            break
        sk2 = sk2.sk_hash_next
    # From here on the tables show the sock with this port.
    sk.inet_num = lport
    sk.inet_sport = lport
    sk.sk_hash = key
    ehash_add(hinfo, sk)
    if tw is not None:
        ehash_del(hinfo, tw)
        net.net_statistics[LINUX_MIB_TIMEWAITRECYCLED] += 1
    sock_prot_inuse_add(net, sk.sk_prot, 1)
    if tw is not None and not want_tw:
        inet_timewait_sock.inet_twsk_deschedule_put(tw)
        tw = None
    return 0, tw


def inet_sk_port_offset(sk: InetSock) -> int:
    return secure_seq.secure_ipv4_port_ephemeral(sk.sk_net, sk.inet_rcv_saddr, sk.inet_daddr, sk.inet_dport)


def inet_is_local_reserved_port(net: Net, port: int) -> bool:
    """ip_local_reserved_ports."""
    reserved = net.ipv4.ip_local_reserved_ports
    return bool(reserved) and port in reserved


def inet_sk_get_local_port_range(sk: InetSock) -> tuple[bool, int, int]:
    """(whether IP_LOCAL_PORT_RANGE set it, first, last) ephemeral port."""
    low, high = sk.sk_net.ipv4.ip_local_ports
    rng = 0 if sk.inet_cold is None else sk.inet_cold.local_port_range
    if rng == 0:
        return False, low, high
    sk_low = rng & 0xFFFF
    sk_high = rng >> 16
    # each bound of the option that lies within the namespace's range narrows it
    if sk_low and low <= sk_low <= high:
        low = sk_low
    if sk_high and low <= sk_high <= high:
        high = sk_high
    return True, low, high


def inet_hash_connect(sk: InetConnectionSock) -> int:
    """Choose the local port of a connection whose other three parts are known, and hash it. 0 or -EADDRNOTAVAIL."""
    port_offset = 0
    if not sk.inet_num:
        port_offset = inet_sk_port_offset(sk)
    return __inet_hash_connect(sk, port_offset)


def __inet_hash_connect(sk: InetConnectionSock, port_offset: int) -> int:
    """RFC 6056, algorithm 4 (double hash), over ports of the parity of the first one; the other parity only when those are used
    up: bind() prefers it, and so the two stay out of each other's way."""
    if sk.inet_num:
        return __inet_check_established(sk, sk.inet_num, False)[0]
    net = sk.sk_net
    hinfo = hashinfo_of(sk)
    local_ports, low, high = inet_sk_get_local_port_range(sk)
    step = 1 if local_ports else 2
    high += 1
    remaining = high - low
    if not local_ports and remaining > 1:
        remaining &= ~1
    index = port_offset & (INET_TABLE_PERTURB_SIZE - 1)
    stream = sk.kernel.random("ports")
    perturb = hinfo.table_perturb.get(index, -1)
    if perturb < 0:
        perturb = stream.get_random_u32()
    offset = (perturb + (port_offset >> 32)) % remaining
    if not local_ports:
        offset &= ~1
    bhash = hinfo.bhash
    cookie = net.net_cookie << 16
    while True:
        port = low + offset
        i = 0
        while i < remaining:
            if port >= high:
                port -= remaining
            if not inet_is_local_reserved_port(net, port):
                tb = bhash.get(cookie | port)
                if tb is None:
                    tb = inet_bind_bucket_create(hinfo, net, port)
                    tb.fastreuse = -1
                    tb.fastreuseport = -1
                    return _connect_port(sk, tb, port, None, index, perturb + max(i, stream.get_random_u32_below(8) * step) + step)
                # A port that somebody bound is left alone; one that only connections use may serve another peer.
                if tb.fastreuse < 0 and tb.fastreuseport < 0:
                    err, tw = __inet_check_established(sk, port, True)
                    if err == 0:
                        return _connect_port(
                            sk, tb, port, tw, index, perturb + max(i, stream.get_random_u32_below(8) * step) + step
                        )
            i += step
            port += step
        if local_ports:
            break
        offset += 1
        if not (offset & 1 and remaining > 1):
            break
    return -EADDRNOTAVAIL


def _connect_port(
    sk: InetConnectionSock, tb: InetBindBucket, port: int, tw: TcpTimewaitSock | None, index: int, perturb: int
) -> int:
    """The end of __inet_hash_connect: own `port`, remember how far the search went, end the TIME_WAIT sock it displaced."""
    hinfo = hashinfo_of(sk)
    tb2 = inet_bind2_bucket_find(hinfo, sk.sk_net, port, sk.inet_rcv_saddr)
    if tb2 is None:
        tb2 = inet_bind2_bucket_create(hinfo, tb, sk.inet_rcv_saddr)
    hinfo.table_perturb[index] = perturb & 0xFFFFFFFF
    inet_bind_hash(sk, tb2, port)
    if sk.sk_hash < 0:
        sk.inet_sport = port
        inet_ehash_nolisten(sk, None)
    if tw is not None:
        inet_timewait_sock.inet_twsk_deschedule_put(tw)
    return 0
