"""net/ipv4/ip_options.c: IP options (RFC 791, 3.1; RFC 1122, 3.2.1.8; RFC 1812, 4.2.2.2 and 5.2.4.1).

Received: ip_options_compile checks them all and notes where they lie; ip_options_rcv_srr follows a source route;
ip_forward_options fills in what a router adds. Sent: ip_options_get takes them from a program or a control message,
ip_options_build makes the bytes of one packet, ip_options_fragment those of the fragments after the first, ip_options_echo those
of an answer.

A received packet's options stay in its header, where compile records what this host adds (its address, the time), as in Linux; the
header is then new bytes, for `skb.head` is shared. Offsets (`srr`, `rr`, `ts`, ...) count from the start of the IP header, 0 is
absent.

Left out: NetLabel. CIPSO options are refused, as by a kernel that has it and no domain of interpretation configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.task import ns_capable
from afinet.kernel.time import NSEC_PER_MSEC
from afinet.net.core.drop_reason import SKB_DROP_REASON_IP_INHDR, SKB_DROP_REASON_NOT_SPECIFIED
from afinet.net.ipv4 import fib_frontend, icmp, route
from afinet.uapi.capability import CAP_NET_RAW
from afinet.uapi.errno import EINVAL
from afinet.uapi.icmp import ICMP_PARAMETERPROB
from afinet.uapi.if_packet import PACKET_HOST
from afinet.uapi.ip import (
    IPOPT_CIPSO,
    IPOPT_COPY,
    IPOPT_END,
    IPOPT_LSRR,
    IPOPT_NOOP,
    IPOPT_RA,
    IPOPT_RR,
    IPOPT_SSRR,
    IPOPT_TIMESTAMP,
    IPOPT_TS_PRESPEC,
    IPOPT_TS_TSANDADDR,
    IPOPT_TS_TSONLY,
    MAX_IPOPTLEN,
)
from afinet.uapi.rtnetlink import RTN_LOCAL, RTN_UNICAST
from afinet.wire import be, ip

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.rtable import Rtable

IP_HLEN: Final = 20
MSEC_PER_DAY: Final = 86_400_000


class IpOptions:
    """struct ip_options. `data` holds the bytes of options to be sent; a received packet's are in its header."""

    __slots__ = (
        "cipso",
        "data",
        "faddr",
        "is_changed",
        "is_strictroute",
        "nexthop",
        "optlen",
        "router_alert",
        "rr",
        "rr_needaddr",
        "srr",
        "srr_is_hit",
        "ts",
        "ts_needaddr",
        "ts_needtime",
    )

    def __init__(self, data: bytes = b"") -> None:
        self.data: bytes = data
        self.optlen: int = len(data)
        self.faddr: int = 0  # first hop of a source route to be sent
        self.nexthop: int = 0  # next hop of a received one
        self.srr: int = 0
        self.rr: int = 0
        self.ts: int = 0
        self.router_alert: int = 0
        self.cipso: int = 0
        self.is_strictroute: bool = False
        self.srr_is_hit: bool = False  # the packet came to us by its source route and goes on
        self.is_changed: bool = False  # the header's checksum is out of date
        self.rr_needaddr: bool = False  # room for an address was taken in the record route
        self.ts_needtime: bool = False
        self.ts_needaddr: bool = False


def inet_current_timestamp(kernel: Kernel) -> int:
    """Milliseconds since midnight UT (RFC 791's and RFC 792's timestamps). af_inet.c in Linux."""
    return kernel.ktime_get_real() // NSEC_PER_MSEC % MSEC_PER_DAY


# -- received --------------------------------------------------------------------------------------------------------------


def ip_options_compile(net: Net, skb: SkBuff) -> IpOptions | None:
    """The options of a received packet, whose header is linear, now in `skb.opt` too; None if they are malformed, and the sender
    told so by a parameter problem. With a route on the packet, its record route and timestamps get this host's entries."""
    nh = skb.network_header
    head = skb.head
    hlen = (head[nh] & 15) * 4
    opt = IpOptions()
    data = bytearray(head[nh + IP_HLEN : nh + hlen])
    opt.optlen = len(data)
    err, pointer = __ip_options_compile(net, opt, data, skb)
    if opt.is_changed:
        skb.head = head[: nh + IP_HLEN] + bytes(data) + head[nh + hlen :]
    # The answer to a malformed option carries those before it.
    skb.opt = opt
    if err:
        icmp.icmp_send(skb, ICMP_PARAMETERPROB, 0, pointer << 24)
        return None
    return opt


def __ip_options_compile(net: Net, opt: IpOptions, data: bytearray, skb: SkBuff | None) -> tuple[int, int]:
    """(0, 0), or (-EINVAL, offset from the IP header's start of the octet at fault). Writes into `data`: with a packet
    what this host adds, without one the form in which ip_options_build wants it."""
    have_route = skb is not None and skb.dst is not None
    end = len(data)
    i = 0
    while i < end:
        kind = data[i]
        if kind == IPOPT_END:
            # What follows the end is padding, and says so (RFC 1812, 4.2.2.2 leaves it open).
            for j in range(i + 1, end):
                if data[j] != IPOPT_END:
                    data[j] = IPOPT_END
                    opt.is_changed = True
            break
        if kind == IPOPT_NOOP:
            i += 1
            continue
        if end - i < 2:
            return -EINVAL, i + IP_HLEN
        optlen = data[i + 1]
        if optlen < 2 or optlen > end - i:
            return -EINVAL, i + IP_HLEN
        fault = -1
        if kind == IPOPT_SSRR or kind == IPOPT_LSRR:
            fault = compile_srr(opt, data, i, optlen, skb is None)
        elif kind == IPOPT_RR:
            fault = compile_rr(opt, data, i, optlen, skb if have_route else None)
        elif kind == IPOPT_TIMESTAMP:
            fault = compile_ts(net, opt, data, i, optlen, skb, have_route)
        elif kind == IPOPT_RA:
            if optlen < 4:
                fault = 1
            elif data[i + 2] == 0 and data[i + 3] == 0:
                opt.router_alert = i + IP_HLEN
        elif kind == IPOPT_CIPSO:
            # cipso_v4_validate: there is no domain of interpretation here that the option could name.
            if skb is None and not ns_capable(net.kernel, CAP_NET_RAW):
                fault = 0
            else:
                opt.cipso = i + IP_HLEN
                fault = 1 if optlen < 8 else 2
        elif skb is None and not ns_capable(net.kernel, CAP_NET_RAW):
            fault = 0
        if fault >= 0:
            return -EINVAL, i + fault + IP_HLEN
        i += optlen
    return 0, 0


def compile_srr(opt: IpOptions, data: bytearray, i: int, optlen: int, local: bool) -> int:
    """A source route at `i`. The offset within the option of what is wrong, or -1."""
    if optlen < 3:
        return 1
    if data[i + 2] < 4:
        return 2
    # Only one source route a packet (RFC 1812, 5.2.4.1).
    if opt.srr:
        return 0
    if local:
        if data[i + 2] != 4 or optlen < 7 or (optlen - 3) & 3:
            return 1
        # The first hop is where the packet is sent to; the others move up, the final destination is filled in last.
        opt.faddr = be.get_u32(bytes(data[i + 3 : i + 7]), 0)
        data[i + 3 : i + optlen - 4] = data[i + 7 : i + optlen]
    opt.is_strictroute = data[i] == IPOPT_SSRR
    opt.srr = i + IP_HLEN
    return -1


def compile_rr(opt: IpOptions, data: bytearray, i: int, optlen: int, skb: SkBuff | None) -> int:
    """A record route at `i`; `skb` is a received packet with its route, which gets our address recorded."""
    if opt.rr:
        return 0
    if optlen < 3:
        return 1
    pointer = data[i + 2]
    if pointer < 4:
        return 2
    if pointer <= optlen:
        if pointer + 3 > optlen:
            return 2
        if skb is not None:
            data[i + pointer - 1 : i + pointer + 3] = be.put_u32(fib_frontend.fib_compute_spec_dst(skb))
            opt.is_changed = True
        data[i + 2] = pointer + 4
        opt.rr_needaddr = True
    opt.rr = i + IP_HLEN
    return -1


def compile_ts(
    net: Net, opt: IpOptions, data: bytearray, i: int, optlen: int, skb: SkBuff | None, have_route: bool
) -> int:
    """An Internet timestamp at `i`."""
    if opt.ts:
        return 0
    if optlen < 4:
        return 1
    pointer = data[i + 2]
    if pointer < 5:
        return 2
    flag = data[i + 3] & 15
    if pointer <= optlen:
        time_at = -1
        if pointer + 3 > optlen:
            return 2
        if flag == IPOPT_TS_TSONLY:
            if skb is not None:
                time_at = i + pointer - 1
            opt.ts_needtime = True
            data[i + 2] = pointer + 4
        elif flag == IPOPT_TS_TSANDADDR:
            if pointer + 7 > optlen:
                return 2
            if skb is not None and have_route:
                data[i + pointer - 1 : i + pointer + 3] = be.put_u32(fib_frontend.fib_compute_spec_dst(skb))
                time_at = i + pointer + 3
            opt.ts_needaddr = True
            opt.ts_needtime = True
            data[i + 2] = pointer + 8
        elif flag == IPOPT_TS_PRESPEC:
            if pointer + 7 > optlen:
                return 2
            addr = be.get_u32(bytes(data[i + pointer - 1 : i + pointer + 3]), 0)
            if route.inet_addr_type(net, addr) != RTN_UNICAST:
                if skb is not None:
                    time_at = i + pointer + 3
                opt.ts_needtime = True
                data[i + 2] = pointer + 8
        elif skb is None and not ns_capable(net.kernel, CAP_NET_RAW):
            return 3
        if time_at >= 0:
            data[time_at : time_at + 4] = be.put_u32(inet_current_timestamp(net.kernel))
            opt.is_changed = True
    elif flag != IPOPT_TS_PRESPEC:
        overflow = data[i + 3] >> 4
        if overflow == 15:
            return 3
        if skb is not None:
            data[i + 3] = flag | overflow + 1 << 4
            opt.is_changed = True
    opt.ts = i + IP_HLEN
    return -1


def skb_rtable(skb: SkBuff) -> Rtable:
    """The packet's route. A function, since neither mypy nor mypyc expects a call to change a field that was just set."""
    return cast("Rtable", skb.dst)


def ip_options_rcv_srr(net: Net, skb: SkBuff, dev: NetDevice) -> int:
    """Follow the source route of a packet that reached us, as far as its hops are ours. 0, or a drop reason."""
    opt = skb.opt
    assert opt is not None
    rt = cast("Rtable", skb.dst)
    if skb.pkt_type != PACKET_HOST:
        return SKB_DROP_REASON_NOT_SPECIFIED
    if rt.rt_type == RTN_UNICAST:
        if not opt.is_strictroute:
            return 0
        # A strict route names every hop; we are none of them.
        icmp.icmp_send(skb, ICMP_PARAMETERPROB, 0, ip.IP_DADDR << 24)
        return SKB_DROP_REASON_IP_INHDR
    if rt.rt_type != RTN_LOCAL:
        return SKB_DROP_REASON_NOT_SPECIFIED
    nh = skb.network_header
    at = nh + opt.srr
    tos = skb.head[nh + ip.IP_TOS]
    saddr = be.get_u32(skb.head, nh + ip.IP_SADDR)
    srrspace = skb.head[at + 1]
    srrptr = skb.head[at + 2]
    nexthop = 0
    while srrptr <= srrspace:
        if srrptr + 3 > srrspace:
            icmp.icmp_send(skb, ICMP_PARAMETERPROB, 0, opt.srr + 2 << 24)
            return SKB_DROP_REASON_IP_INHDR
        nexthop = be.get_u32(skb.head, at + srrptr - 1)
        old = skb.dst
        skb.dst = None
        reason = route.ip_route_input_noref(skb, nexthop, saddr, tos, dev)
        if reason:
            skb.dst = old
            return reason
        rt2 = skb_rtable(skb)
        if rt2.rt_type != RTN_UNICAST and rt2.rt_type != RTN_LOCAL:
            skb.dst = old
            return SKB_DROP_REASON_NOT_SPECIFIED
        if rt2.rt_type != RTN_LOCAL:
            break
        # The next hop is ourselves too: go on from there.
        skb_write(skb, nh + ip.IP_DADDR, be.put_u32(nexthop))
        opt.is_changed = True
        srrptr += 4
    if srrptr <= srrspace:
        opt.srr_is_hit = True
        opt.nexthop = nexthop
        opt.is_changed = True
    return 0


def ip_forward_options(net: Net, skb: SkBuff) -> None:
    """What a router writes into the options of a packet that it passes on; mends the header's checksum."""
    opt = skb.opt
    assert opt is not None
    rt = cast("Rtable", skb.dst)
    nh = skb.network_header
    head = skb.head
    hlen = (head[nh] & 15) * 4
    header = bytearray(head[nh : nh + hlen])
    if opt.rr_needaddr:
        at = opt.rr + header[opt.rr + 2] - 5
        header[at : at + 4] = be.put_u32(route.ip_rt_get_source(skb, rt))
        opt.is_changed = True
    if opt.srr_is_hit:
        srr = opt.srr
        srrptr = header[srr + 2]
        srrspace = header[srr + 1]
        nexthop = be.put_u32(opt.nexthop)
        while srrptr + 3 <= srrspace and header[srr + srrptr - 1 : srr + srrptr + 3] != nexthop:
            srrptr += 4
        if srrptr + 3 <= srrspace:
            opt.is_changed = True
            header[ip.IP_DADDR : ip.IP_DADDR + 4] = nexthop
            header[srr + srrptr - 1 : srr + srrptr + 3] = be.put_u32(route.ip_rt_get_source(skb, rt))
            header[srr + 2] = srrptr + 4
    if opt.ts_needaddr:
        at = opt.ts + header[opt.ts + 2] - 9
        header[at : at + 4] = be.put_u32(route.ip_rt_get_source(skb, rt))
        opt.is_changed = True
    if opt.is_changed:
        opt.is_changed = False
        _, tos, tot_len, id, frag_off, ttl, protocol, _, saddr, daddr = ip.parse(bytes(header), 0)
        new = ip.emit(tos, tot_len, id, frag_off, ttl, protocol, saddr, daddr, bytes(header[IP_HLEN:]))
        skb.head = head[:nh] + new + head[nh + hlen :]


def skb_write(skb: SkBuff, off: int, data: bytes) -> None:
    """Overwrite bytes of `head`."""
    head = skb.head
    skb.head = head[:off] + data + head[off + len(data) :]


# -- sent --------------------------------------------------------------------------------------------------------------------


def ip_options_get(net: Net, data: bytes) -> tuple[int, IpOptions | None]:
    """(0, the options that a program or a control message gave), or (-EINVAL, None). At most MAX_IPOPTLEN bytes; they are
    padded to four."""
    if len(data) > MAX_IPOPTLEN:
        return -EINVAL, None
    padded = bytearray(data)
    while len(padded) & 3:
        padded.append(IPOPT_END)
    opt = IpOptions()
    opt.optlen = len(padded)
    err, _ = __ip_options_compile(net, opt, padded, None)
    if err:
        return err, None
    opt.data = bytes(padded)
    return 0, opt


def ip_options_build(opt: IpOptions, saddr: int, daddr: int, kernel: Kernel) -> bytes:
    """The bytes for one packet from `saddr`, finally to `daddr`: source route completed, own address and time recorded."""
    if not (opt.srr or opt.rr_needaddr or opt.ts_needaddr or opt.ts_needtime):
        return opt.data
    data = bytearray(opt.data)
    if opt.srr:
        at = opt.srr - IP_HLEN
        at += data[at + 1] - 4
        data[at : at + 4] = be.put_u32(daddr)
    if opt.rr_needaddr:
        at = opt.rr - IP_HLEN
        at += data[at + 2] - 5
        data[at : at + 4] = be.put_u32(saddr)
    if opt.ts_needaddr:
        at = opt.ts - IP_HLEN
        at += data[at + 2] - 9
        data[at : at + 4] = be.put_u32(saddr)
    if opt.ts_needtime:
        at = opt.ts - IP_HLEN
        at += data[at + 2] - 5
        data[at : at + 4] = be.put_u32(inet_current_timestamp(kernel))
    return bytes(data)


def ip_options_fragment(options: bytes) -> bytes:
    """What the fragments after the first carry: options without the copy bit become no-operations."""
    data = bytearray(options)
    end = len(data)
    i = 0
    while i < end:
        kind = data[i]
        if kind == IPOPT_END:
            break
        if kind == IPOPT_NOOP:
            i += 1
            continue
        if end - i < 2:
            break
        optlen = data[i + 1]
        if optlen < 2 or optlen > end - i:
            break
        if not kind & IPOPT_COPY:
            data[i : i + optlen] = bytes([IPOPT_NOOP]) * optlen
        i += optlen
    return bytes(data)


def ip_options_echo(net: Net, skb: SkBuff, sopt: IpOptions | None) -> tuple[int, IpOptions | None]:
    """__ip_options_echo: the options of an answer to `skb`, whose compiled options are `sopt`: route and times recorded so far,
    the source route reversed. (0, None) if there are none, (-EINVAL, None) if what the answer must record does not fit: then there
    is no answer."""
    if sopt is None or sopt.optlen == 0:
        return 0, None
    dopt = IpOptions()
    head = skb.head
    nh = skb.network_header
    out = bytearray()
    if sopt.rr:
        at = nh + sopt.rr
        optlen = head[at + 1]
        soffset = head[at + 2]
        dopt.rr = len(out) + IP_HLEN
        part = bytearray(head[at : at + optlen])
        if sopt.rr_needaddr and soffset <= optlen:
            if soffset + 3 > optlen:
                return -EINVAL, None
            part[2] = soffset + 4
            dopt.rr_needaddr = True
        out += part
    if sopt.ts:
        at = nh + sopt.ts
        optlen = head[at + 1]
        soffset = head[at + 2]
        dopt.ts = len(out) + IP_HLEN
        part = bytearray(head[at : at + optlen])
        if soffset <= optlen:
            if sopt.ts_needaddr:
                if soffset + 3 > optlen:
                    return -EINVAL, None
                dopt.ts_needaddr = True
                soffset += 4
            if sopt.ts_needtime:
                if soffset + 3 > optlen:
                    return -EINVAL, None
                if part[3] & 15 != IPOPT_TS_PRESPEC:
                    dopt.ts_needtime = True
                    soffset += 4
                elif soffset + 7 <= optlen:
                    addr = be.get_u32(head, at + soffset - 1)
                    if route.inet_addr_type(net, addr) != RTN_UNICAST:
                        dopt.ts_needtime = True
                        soffset += 8
            part[2] = soffset
        out += part
    if sopt.srr:
        echo_srr(dopt, sopt, head, nh, out)
    if sopt.cipso:
        at = nh + sopt.cipso
        dopt.cipso = len(out) + IP_HLEN
        out += head[at : at + head[at + 1]]
    while len(out) & 3:
        out.append(IPOPT_END)
    if not out:
        return 0, None
    dopt.data = bytes(out)
    dopt.optlen = len(out)
    return 0, dopt


def echo_srr(dopt: IpOptions, sopt: IpOptions, head: bytes, nh: int, out: bytearray) -> None:
    """The reversed source route: the hops that were visited, last first; the first of them is where the answer goes."""
    start = nh + sopt.srr
    optlen = head[start + 1]
    soffset = head[start + 2]
    if soffset > optlen:
        soffset = optlen + 1
    soffset -= 4
    if soffset <= 3:
        return
    faddr = be.get_u32(head, start + soffset - 1)
    hops: list[bytes] = []
    soffset -= 4
    while soffset > 3:
        hops.append(head[start + soffset - 1 : start + soffset + 3])
        soffset -= 4
    # RFC 1812 requires to mend a route that begins with its own source.
    first = head[start + soffset + 3 : start + soffset + 7]
    count = len(hops) + 1  # the last place is for the final destination
    if head[nh + ip.IP_SADDR : nh + ip.IP_SADDR + 4] == first:
        count -= 1
    if count == 0:
        return
    dopt.faddr = faddr
    dopt.srr = len(out) + IP_HLEN
    dopt.is_strictroute = sopt.is_strictroute
    body = b"".join(hops) + bytes(4)
    out += bytes([head[start], 3 + 4 * count, 4]) + body[: 4 * count]


def ip_options_undo(opt: IpOptions) -> bytes:
    """The bytes as the program gave them (getsockopt), from the form that ip_options_build wants."""
    data = bytearray(opt.data)
    if opt.srr:
        at = opt.srr - IP_HLEN
        end = at + data[at + 1]
        data[at + 7 : end] = data[at + 3 : end - 4]
        data[at + 3 : at + 7] = be.put_u32(opt.faddr)
    if opt.rr_needaddr:
        at = opt.rr - IP_HLEN
        data[at + 2] -= 4
        off = at + data[at + 2] - 1
        data[off : off + 4] = bytes(4)
    if opt.ts:
        at = opt.ts - IP_HLEN
        if opt.ts_needtime:
            data[at + 2] -= 4
            off = at + data[at + 2] - 1
            data[off : off + 4] = bytes(4)
            if data[at + 3] & 15 == IPOPT_TS_PRESPEC:
                data[at + 2] -= 4
        if opt.ts_needaddr:
            data[at + 2] -= 4
            off = at + data[at + 2] - 1
            data[off : off + 4] = bytes(4)
    return bytes(data)
