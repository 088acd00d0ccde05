"""net/ipv4/icmp.c: the Internet Control Message Protocol (RFC 792; RFC 1122, 3.2.2; RFC 1812, 4.3).

In: icmp_rcv checks and counts, then icmp_unreach and icmp_redirect hand errors through icmp_socket_deliver to raw socks and to
`inet_protos[...].err_handler` of the quoted packet's protocol; icmp_echo and icmp_timestamp answer through icmp_reply; echo replies
go to ping.py.
Out: icmp_send tells the sender of a packet what became of it, unless one of the rules of RFC 1122, 3.2.2 forbids it or a rate
limit holds it back: icmp_msgs_per_sec for the host, a token bucket for each peer.

Linux sends through a raw sock of its own for each CPU; here icmp_push_reply makes the packet with that sock's values: no DF, the
namespace's TTL.

Left out: extended echo (PROBE, RFC 8335, off by default), RFC 4884 extensions of sent errors, reverse xfrm lookups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_ICMP_CSUM,
    SKB_DROP_REASON_INVALID_PROTO,
    SKB_DROP_REASON_IP_INHDR,
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    SKB_DROP_REASON_UNHANDLED_PROTO,
)
from afinet.net.core.flow import Flowi4
from afinet.net.core.skbuff import (
    CHECKSUM_UNNECESSARY,
    SkBuff,
    consume_skb,
    kfree_skb_reason,
    pskb_may_pull,
    skb_pieces,
    skb_pieces_from,
    skb_pull,
    skb_tobytes,
    skb_truesize,
)
from afinet.net.ipv4 import devinet, fib_frontend, ip_options, ip_output, ping, raw, route
from afinet.net.ipv4.inetpeer import inet_getpeer_v4, inet_peer_xrlim_allow
from afinet.net.ipv4.protocol import NetProtocol, net_of
from afinet.uapi.errno import (
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EMSGSIZE,
    ENETUNREACH,
    ENONET,
    ENOPROTOOPT,
    EOPNOTSUPP,
)
from afinet.uapi.errqueue import SO_EE_RFC4884_FLAG_INVALID
from afinet.uapi.icmp import (
    ICMP_ADDRESS,
    ICMP_ADDRESSREPLY,
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMP_EXC_FRAGTIME,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    ICMP_TIMESTAMP,
    ICMP_TIMESTAMPREPLY,
    NR_ICMP_TYPES,
    NR_ICMP_UNREACH,
)
from afinet.uapi.if_ import IFF_LOOPBACK
from afinet.uapi.if_packet import PACKET_HOST
from afinet.uapi.in_ import INADDR_DUMMY, IPPROTO_ICMP, IPPROTO_RAW
from afinet.uapi.in_route import RTCF_BROADCAST, RTCF_LOCAL, RTCF_MULTICAST
from afinet.uapi.ip import IPTOS_PREC_INTERNETCONTROL, IPTOS_TOS_MASK
from afinet.uapi.rtnetlink import RT_SCOPE_LINK, RTN_BROADCAST
from afinet.uapi.snmp import (
    ICMP_MIB_CSUMERRORS,
    ICMP_MIB_INERRORS,
    ICMP_MIB_INMSGS,
    ICMP_MIB_OUTERRORS,
    ICMP_MIB_OUTMSGS,
    ICMP_MIB_RATELIMITGLOBAL,
    ICMP_MIB_RATELIMITHOST,
)
from afinet.wire import be, ip
from afinet.wire import icmp as wire
from afinet.wire.checksum import csum_fold, csum_partial, csum_pieces

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.dst import DstEntry
    from afinet.net.core.net_namespace import Net
    from afinet.net.ipv4.ip_options import IpOptions
    from afinet.net.ipv4.rtable import Rtable

ICMP_EXT_ECHO: Final = 42
ICMP_EXT_ECHOREPLY: Final = 43
ICMP_HLEN: Final = 8
ICMP_EXT_HLEN: Final = 4  # of RFC 4884's extension structure, and of each object in it
# RFC 1812, 4.3.2.3: as much of the offending datagram as fits into this.
ICMP_ERROR_MAX: Final = 576

# icmp_err_convert[]: what an unreachable's code means to a sock, and whether it ends a connection that is being made.
_UNREACH_ERRNO: Final = (
    ENETUNREACH,  # ICMP_NET_UNREACH
    EHOSTUNREACH,  # ICMP_HOST_UNREACH
    ENOPROTOOPT,  # ICMP_PROT_UNREACH
    ECONNREFUSED,  # ICMP_PORT_UNREACH
    EMSGSIZE,  # ICMP_FRAG_NEEDED
    EOPNOTSUPP,  # ICMP_SR_FAILED
    ENETUNREACH,  # ICMP_NET_UNKNOWN
    EHOSTDOWN,  # ICMP_HOST_UNKNOWN
    ENONET,  # ICMP_HOST_ISOLATED
    ENETUNREACH,  # ICMP_NET_ANO
    EHOSTUNREACH,  # ICMP_HOST_ANO
    ENETUNREACH,  # ICMP_NET_UNR_TOS
    EHOSTUNREACH,  # ICMP_HOST_UNR_TOS
    EHOSTUNREACH,  # ICMP_PKT_FILTERED
    EHOSTUNREACH,  # ICMP_PREC_VIOLATION
    EHOSTUNREACH,  # ICMP_PREC_CUTOFF
)
_UNREACH_FATAL: Final = (
    False, False, True, True, False, False, True, True, True, True, True, False, False, True, True, True,
)  # fmt: skip


def icmp_err_convert(code: int) -> tuple[int, bool]:
    """(errno, fatal) of an unreachable's code, at most NR_ICMP_UNREACH."""
    return _UNREACH_ERRNO[code], _UNREACH_FATAL[code]


def icmp_is_error(type: int) -> bool:
    """icmp_pointers[].error: a message about another packet. Types that nobody assigned count as errors."""
    return type not in (
        ICMP_ECHOREPLY, ICMP_ECHO, ICMP_TIMESTAMP, ICMP_TIMESTAMPREPLY, 15, 16, ICMP_ADDRESS, ICMP_ADDRESSREPLY,
    )  # fmt: skip


class IcmpProtocol(NetProtocol):
    """icmp_protocol."""

    __slots__ = ()

    def handler(self, skb: SkBuff) -> int:
        return icmp_rcv(skb)

    def err_handler(self, skb: SkBuff, info: int) -> int:
        return icmp_err(skb, info)


def icmp_init(kernel: Kernel) -> None:
    """Linux makes its control socks here. What they hold is constant, so there is nothing to make: see icmp_push_reply; limits
    and counters are the namespace's."""


# -- counting ----------------------------------------------------------------------------------------------------------------


def icmp_out_count(net: Net, type: int) -> None:
    """One message sent, by whomever."""
    net.icmp_statistics[ICMP_MIB_OUTMSGS] += 1
    net.icmpmsg_out[type] = net.icmpmsg_out.get(type, 0) + 1


# -- received --------------------------------------------------------------------------------------------------------------


def icmp_rcv(skb: SkBuff) -> int:
    """A message for this host, `data` at its header."""
    net = net_of(skb)
    stats = net.icmp_statistics
    stats[ICMP_MIB_INMSGS] += 1
    if skb.ip_summed != CHECKSUM_UNNECESSARY and not icmp_checksum_ok(skb):
        stats[ICMP_MIB_CSUMERRORS] += 1
        stats[ICMP_MIB_INERRORS] += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_ICMP_CSUM)
    if not pskb_may_pull(skb, ICMP_HLEN):
        stats[ICMP_MIB_INERRORS] += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    type, code, _check, rest = wire.parse(skb.head, skb.data)
    net.icmpmsg_in[type] = net.icmpmsg_in.get(type, 0) + 1
    reason = 0
    if type > NR_ICMP_TYPES and type != ICMP_EXT_ECHO and type != ICMP_EXT_ECHOREPLY:
        # RFC 1122, 3.2.2: unknown types are silently discarded.
        stats[ICMP_MIB_INERRORS] += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_UNHANDLED_PROTO)
    rt = cast("Rtable", skb.dst)
    if rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST) and type <= NR_ICMP_TYPES:
        # RFC 1122, 3.2.2.6 and 3.2.2.8: an echo or a timestamp to a broadcast may be ignored; 3.2.2: an error must be.
        if type == ICMP_ECHO or type == ICMP_TIMESTAMP:
            if net.ipv4.sysctl_icmp_echo_ignore_broadcasts:
                reason = SKB_DROP_REASON_INVALID_PROTO
        elif type != ICMP_ADDRESS and type != ICMP_ADDRESSREPLY:
            reason = SKB_DROP_REASON_INVALID_PROTO
        if reason:
            stats[ICMP_MIB_INERRORS] += 1
            return kfree_skb_reason(net, skb, reason)
    if type == ICMP_ECHOREPLY or type == ICMP_EXT_ECHOREPLY:
        reason = ping.ping_rcv(skb)
    elif type == ICMP_ECHO:
        icmp_echo(net, skb, code, rest)
    elif type == ICMP_TIMESTAMP:
        reason = icmp_timestamp(net, skb, rest)
    elif type in (ICMP_DEST_UNREACH, ICMP_SOURCE_QUENCH, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB):
        reason = icmp_unreach(net, skb, type, code, rest)
    elif type == ICMP_REDIRECT:
        reason = icmp_redirect(net, skb, rest)
    # all others: icmp_discard
    if reason:
        return kfree_skb_reason(net, skb, reason)
    consume_skb(skb)
    return 0


def icmp_checksum_ok(skb: SkBuff) -> bool:
    if skb.frags is None:
        sum = csum_partial(skb.head, skb.data, skb.tail, 0)
    else:
        sum = csum_pieces(skb_pieces(skb, 0, skb.len), 0)
    return csum_fold(sum) == 0


def icmp_unreach(net: Net, skb: SkBuff, type: int, code: int, rest: int) -> int:
    """Unreachable, time exceeded, parameter problem and source quench: to the sock that sent the quoted packet. A drop reason,
    or 0."""
    skb_pull(skb, ICMP_HLEN)
    if not pskb_may_pull(skb, ip.IP_HLEN):
        net.icmp_statistics[ICMP_MIB_INERRORS] += 1
        return SKB_DROP_REASON_NOT_SPECIFIED
    off = skb.data
    if skb.head[off] & 15 < 5:
        net.icmp_statistics[ICMP_MIB_INERRORS] += 1
        return SKB_DROP_REASON_IP_INHDR
    info = 0
    if type == ICMP_DEST_UNREACH:
        if code & 15 == ICMP_FRAG_NEEDED:
            # Documentation/networking/ip-sysctl: 1 ignores the MTU told, 2 the message, 3 believes protocols that check tags.
            policy = net.ipv4.sysctl_ip_no_pmtu_disc
            if policy == 2 or (policy == 3 and not icmp_tag_validation(net, skb.head[off + ip.IP_PROTOCOL])):
                return 0
            if policy == 0 or policy == 3:
                info = rest & 0xFFFF
        if code > NR_ICMP_UNREACH:
            return 0
    elif type == ICMP_PARAMETERPROB:
        info = rest >> 24
    elif type == ICMP_TIME_EXCEEDED:
        # Reassembly failed there: nothing that the sender could do.
        if code == ICMP_EXC_FRAGTIME:
            return 0
    # RFC 1122, 3.2.2: errors about broadcasts must not be sent; some routers do.
    if not net.ipv4.sysctl_icmp_ignore_bogus_error_responses:
        daddr = be.get_u32(skb.head, off + ip.IP_DADDR)
        if route.inet_addr_type(net, daddr) == RTN_BROADCAST:
            return 0
    icmp_socket_deliver(net, skb, info)
    return 0


def icmp_tag_validation(net: Net, protocol: int) -> bool:
    prot = net.kernel.inet_protos[protocol]
    return prot is not None and prot.icmp_strict_tag_validation


def icmp_redirect(net: Net, skb: SkBuff, rest: int) -> int:
    """A better next hop for the quoted packet's destination. A drop reason, or 0."""
    skb_pull(skb, ICMP_HLEN)
    if not pskb_may_pull(skb, ip.IP_HLEN):
        net.icmp_statistics[ICMP_MIB_INERRORS] += 1
        return SKB_DROP_REASON_PKT_TOO_SMALL
    icmp_socket_deliver(net, skb, rest)
    return 0


def icmp_socket_deliver(net: Net, skb: SkBuff, info: int) -> None:
    """To the raw socks, and to the protocol of the quoted packet, if its header and eight bytes of payload are there."""
    off = skb.data
    head = skb.head
    protocol = head[off + ip.IP_PROTOCOL]
    hlen = (head[off] & 15) * 4
    # IPPROTO_RAW socks are not supposed to receive anything.
    if hlen < ip.IP_HLEN or not pskb_may_pull(skb, hlen + 8) or protocol == IPPROTO_RAW:
        net.icmp_statistics[ICMP_MIB_INERRORS] += 1
        return
    raw.raw_icmp_error(skb, protocol, info)
    prot = net.kernel.inet_protos[protocol]
    if prot is not None:
        prot.err_handler(skb, info)


def icmp_err(skb: SkBuff, info: int) -> int:
    """An error about an ICMP message of ours: a ping sock's, or a reply of the kernel's, whose route is put right."""
    off = skb.data
    inner = off + (skb.head[off] & 15) * 4
    if skb.head[inner] != ICMP_ECHOREPLY:
        ping.ping_err(skb, info)
        return 0
    net = net_of(skb)
    type = skb.head[skb.transport_header]
    code = skb.head[skb.transport_header + 1]
    if type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
        route.ipv4_update_pmtu(skb, net, info, 0, IPPROTO_ICMP)
    elif type == ICMP_REDIRECT:
        route.ipv4_redirect(skb, net, 0, IPPROTO_ICMP)
    return 0


def ipv4_icmp_error_rfc4884(skb: SkBuff, th: int) -> int:
    """struct sock_ee_data_rfc4884 as a number: where, counted from `data`, the extensions of the ICMP error at `th` begin, and
    whether they are malformed; 0 for none. `data` is at the quoted payload that the program gets to see."""
    if skb.head[th] not in (ICMP_DEST_UNREACH, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB):
        return 0
    hlen = skb.data - th - ICMP_HLEN
    off = skb.head[th + 5] * 4
    # The quoted datagram is padded to 128 bytes at least.
    if off < 128 or off < hlen:
        return 0
    off -= hlen
    if off + ICMP_EXT_HLEN > skb.len:
        return 0
    valid = ip_icmp_error_rfc4884_validate(skb_tobytes(skb, off))
    return off if valid else off | SO_EE_RFC4884_FLAG_INVALID << 16


def ip_icmp_error_rfc4884_validate(ext: bytes) -> bool:
    """Whether the checksum of an extension structure is right and its objects fill it. Other versions are not looked into."""
    if ext[0] >> 4 != 2:
        return True
    if (ext[2] or ext[3]) and csum_fold(csum_partial(ext, 0, len(ext), 0)):
        return False
    at = ICMP_EXT_HLEN
    while at < len(ext):
        if at + ICMP_EXT_HLEN > len(ext):
            return False
        length = be.get_u16(ext, at)
        at += length
        if length < ICMP_EXT_HLEN or at > len(ext):
            return False
    return True


# -- answering -------------------------------------------------------------------------------------------------------------


def icmp_echo(net: Net, skb: SkBuff, code: int, rest: int) -> None:
    """RFC 1122, 3.2.2.6: every host must answer echo requests, with the data as it came. The code comes back too."""
    if net.ipv4.sysctl_icmp_echo_ignore_all:
        return
    icmp_reply(net, skb, ICMP_ECHOREPLY, code, rest, skb_pieces(skb, ICMP_HLEN, skb.len - ICMP_HLEN))


def icmp_timestamp(net: Net, skb: SkBuff, rest: int) -> int:
    """RFC 1122, 3.2.2.8: milliseconds since midnight UT."""
    if not pskb_may_pull(skb, ICMP_HLEN + 4):
        net.icmp_statistics[ICMP_MIB_INERRORS] += 1
        return SKB_DROP_REASON_PKT_TOO_SMALL
    now = be.put_u32(ip_options.inet_current_timestamp(net.kernel))
    off = skb.data + ICMP_HLEN
    icmp_reply(net, skb, ICMP_TIMESTAMPREPLY, 0, rest, [skb.head[off : off + 4], now, now])
    return 0


def icmp_reply(net: Net, skb: SkBuff, type: int, code: int, rest: int, payload: list[bytes]) -> None:
    """Answer a received message: to its source, from the address it was sent to if that is one of ours, options echoed."""
    err, replyopts = ip_options.ip_options_echo(net, skb, skb.opt)
    if err:
        return
    apply_ratelimit = False
    if not icmpv4_mask_allow(net, type, code):
        if not icmp_global_allow(net):
            net.icmp_statistics[ICMP_MIB_RATELIMITGLOBAL] += 1
            return
        apply_ratelimit = True
    nh = skb.network_header
    tos = skb.head[nh + ip.IP_TOS]
    to = be.get_u32(skb.head, nh + ip.IP_SADDR)
    daddr = to
    if replyopts is not None and replyopts.srr:
        daddr = replyopts.faddr
    fl4 = Flowi4(daddr, fib_frontend.fib_compute_spec_dst(skb), 0, IPPROTO_ICMP, tos & ip_output.INET_DSCP_MASK)
    fl4.flowi4_mark = ip_output.ip4_reply_mark(net, skb.mark)
    err, rt = route.ip_route_output_flow(net, fl4, None)
    if err or rt is None:
        return
    if icmpv4_xrlim_allow(net, rt, fl4.daddr, apply_ratelimit):
        # Linux counts what its control sock sends by the type in the flow, which is 0 for every reply: a timestamp reply counts
        # as an echo reply.
        icmp_out_count(net, ICMP_ECHOREPLY)
        icmp_push_reply(net, rt, fl4, type, code, rest, payload, tos, to, replyopts)


def icmp_push_reply(
    net: Net,
    rt: Rtable,
    fl4: Flowi4,
    type: int,
    code: int,
    rest: int,
    payload: list[bytes],
    tos: int,
    daddr: int,
    opt: IpOptions | None,
) -> None:
    """Send a message on `rt`. Without DF, so a reply that exceeds the MTU is fragmented. `daddr` is the final destination."""
    size = 0
    for piece in payload:
        size += len(piece)
    options = b""
    if opt is not None and opt.optlen:
        options = ip_options.ip_options_build(opt, fl4.saddr, daddr, net.kernel)
    hlen = ip.IP_HLEN + len(options)
    total = hlen + ICMP_HLEN + size
    if total > ip_output.IP_MAX_MTU:
        net.icmp_statistics[ICMP_MIB_OUTERRORS] += 1
        return
    # A message of zeros has checksum 0: Linux begins its sum with the other zero, 0xffff.
    check = csum_fold(csum_pieces(payload, (type << 8 | code) + rest) or 0xFFFF)
    id = ip_output.ip_select_ident(net, None, fl4.saddr, fl4.daddr, IPPROTO_ICMP)
    header = ip.emit(tos, total, id, 0, ip_output.ip4_dst_hoplimit(rt), IPPROTO_ICMP, fl4.saddr, fl4.daddr, options)
    skb = SkBuff(header + be.pack_icmp(type, code, check, rest), payload or None, size, skb_truesize(total))
    skb.transport_header = hlen
    skb.ignore_df = True
    skb.dst = rt
    skb.dev = rt.dev
    skb.opt = opt
    skb.mark = fl4.flowi4_mark
    ip_output.ip_local_out(net, None, skb)


# -- errors about received packets ------------------------------------------------------------------------------------------


def icmp_send(skb_in: SkBuff, type: int, code: int, info: int) -> None:
    """Tell the sender of `skb_in` what became of it. `info` is the second word of the message: the MTU, the pointer << 24, the
    gateway. The packet stays the caller's; its route and its IP header must be there. Nothing happens where RFC 1122, 3.2.2
    forbids an error or a limit is exceeded."""
    dst = skb_in.dst
    if dst is None:
        return
    rt = cast("Rtable", dst)
    net = dst.net
    head = skb_in.head
    nh = skb_in.network_header
    if nh < 0 or nh + ip.IP_HLEN > skb_in.tail:
        return
    # No replies to physical multicast or broadcast, nor to such addresses,
    if skb_in.pkt_type != PACKET_HOST or rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST):
        return
    version_ihl, tos, _, _, frag_off, _, protocol, _, saddr, daddr = ip.parse(head, nh)
    # nor to a fragment other than the first,
    if frag_off & ip.IP_OFFSET:
        return
    error = icmp_is_error(type)
    if error and protocol == IPPROTO_ICMP:
        # nor to an ICMP error.
        inner = skb_pieces_from(skb_in, nh + (version_ihl & 15) * 4, 1)
        if not inner:
            return
        inner_type = inner[0][0]
        if inner_type > NR_ICMP_TYPES or icmp_is_error(inner_type):
            return
    apply_ratelimit = False
    dev = skb_in.dev
    if not (dev is not None and dev.flags & IFF_LOOPBACK) and not icmpv4_mask_allow(net, type, code):
        if not icmp_global_allow(net):
            net.icmp_statistics[ICMP_MIB_RATELIMITGLOBAL] += 1
            return
        apply_ratelimit = True
    # The address it was sent to, if that is ours; else the one that the lookup finds, or the inbound device's.
    source = daddr
    if not rt.rt_flags & RTCF_LOCAL:
        source = 0
        if rt.rt_is_input and net.ipv4.sysctl_icmp_errors_use_inbound_ifaddr:
            inbound = net.dev_by_index.get(skb_in.skb_iif)
            if inbound is not None:
                source = devinet.inet_select_addr(inbound, saddr, RT_SCOPE_LINK)
    if error:
        tos = tos & IPTOS_TOS_MASK | IPTOS_PREC_INTERNETCONTROL
    err, replyopts = ip_options.ip_options_echo(net, skb_in, skb_in.opt)
    if err:
        return
    to = saddr
    if replyopts is not None and replyopts.srr:
        to = replyopts.faddr
    fl4 = Flowi4(to, source, 0, IPPROTO_ICMP, tos & ip_output.INET_DSCP_MASK)
    fl4.flowi4_mark = ip_output.ip4_reply_mark(net, skb_in.mark)
    # Among several next hops the error takes the one that the packets of its flow take.
    err, out = route.ip_route_output_key_hash(net, fl4, skb_in)
    if err or out is None:
        return
    if not icmpv4_xrlim_allow(net, out, fl4.daddr, apply_ratelimit):
        return
    # RFC 1812, 4.3.2.3: as much as fits into 576 bytes.
    room = min(out.mtu(), ICMP_ERROR_MAX) - ip.IP_HLEN - ICMP_HLEN
    if replyopts is not None:
        room -= replyopts.optlen
    # An error that does not quote at least an IP header makes no sense.
    if room <= ip.IP_HLEN:
        return
    if fl4.saddr == 0:
        fl4.saddr = INADDR_DUMMY
    icmp_out_count(net, type)
    icmp_push_reply(net, out, fl4, type, code, info & 0xFFFFFFFF, skb_pieces_from(skb_in, nh, room), tos, saddr, replyopts)


# -- limits ------------------------------------------------------------------------------------------------------------------


def icmpv4_mask_allow(net: Net, type: int, code: int) -> bool:
    """Whether messages of this kind are not limited at all."""
    if type > NR_ICMP_TYPES:
        return True
    # Path MTU discovery must work.
    if type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
        return True
    return not 1 << type & net.ipv4.sysctl_icmp_ratemask


def icmp_global_allow(net: Net) -> bool:
    """Whether the host has credit for one more limited message. Credit is refilled at most 50 times a second."""
    ns = net.ipv4
    if ns.icmp_global_credit > 0:
        return True
    tick = net.kernel.tick_nsec
    now = net.kernel.now // tick * tick
    delta = now - ns.icmp_global_stamp
    if delta > NSEC_PER_SEC:
        delta = NSEC_PER_SEC
    if delta < NSEC_PER_SEC // 50:
        return False
    incr = ns.sysctl_icmp_msgs_per_sec * delta // NSEC_PER_SEC
    if incr == 0:
        return False
    ns.icmp_global_stamp = now
    ns.icmp_global_credit = min(ns.icmp_global_credit + incr, ns.sysctl_icmp_msgs_burst)
    return True


def icmp_global_consume(net: Net) -> None:
    """Take a random 0 to 2 credits, so that the limit tells an outsider nothing about who else uses it (CVE-2020-25705)."""
    net.ipv4.icmp_global_credit -= net.kernel.random("icmp").get_random_u32_below(3)


def icmpv4_xrlim_allow(net: Net, dst: DstEntry, daddr: int, apply_ratelimit: bool) -> bool:
    """RFC 1812, 4.3.2.8: a limit for each peer. Loopback has none."""
    if not apply_ratelimit:
        return True
    if not dst.dev.flags & IFF_LOOPBACK:
        peer = inet_getpeer_v4(net, daddr)
        if not inet_peer_xrlim_allow(net, peer, net.ipv4.sysctl_icmp_ratelimit):
            net.icmp_statistics[ICMP_MIB_RATELIMITHOST] += 1
            return False
    icmp_global_consume(net)
    return True
