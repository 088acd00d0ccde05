"""net/ipv4/tcp_output.c, its part that cuts segments and knows their sizes.

A queued segment may stand for several packets (`gso_segs` of `gso_size` bytes each). tcp_fragment cuts one in two, in the write
queue or in the retransmit queue, and keeps every count in step; tcp_trim_head drops what was acknowledged of one; tcp_sync_mss and
tcp_current_mss turn path MTUs into segment sizes.

MTU probing by size is in tcp_mtup.py. Left out: zerocopy.
"""

from __future__ import annotations

from typing import Final

from afinet.net.core.skbuff import SkBuff, pieces_slice, skb_append, skb_linearize, skb_truesize, skb_unlink
from afinet.net.core.sock import sk_forced_mem_schedule, sk_mem_charge, sk_mem_uncharge
from afinet.net.ipv4.inet_sock import IcskMtup
from afinet.net.ipv4.tcp_inline import (
    MAX_TCP_HEADER,
    TCP_MSS_DEFAULT,
    tcp_is_reno,
    tcp_rtx_queue_head,
    tcp_rtx_queue_tail,
    tcp_wmem_free_skb,
)
from afinet.net.ipv4.tcp_sock import (
    TCPCB_LOST,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TcpSock,
    before,
    tcp_cold,
)
from afinet.uapi.errno import EINVAL, ENOMEM
from afinet.uapi.snmp import LINUX_MIB_TCPWQUEUETOOBIG

TCP_FRAG_IN_WRITE_QUEUE: Final = 0
TCP_FRAG_IN_RTX_QUEUE: Final = 1


def tcp_set_skb_tso_segs(skb: SkBuff, mss_now: int) -> int:
    """How many packets of `mss_now` bytes `skb` stands for."""
    size = skb.len
    if size <= mss_now:
        skb.gso_size = 0
        skb.gso_segs = 1
        return 1
    segs = (size + mss_now - 1) // mss_now
    skb.gso_size = mss_now
    skb.gso_segs = segs
    return segs


def tcp_init_tso_segs(skb: SkBuff, mss_now: int) -> int:
    segs = skb.gso_segs
    if segs == 0 or (segs > 1 and skb.gso_size != mss_now):
        return tcp_set_skb_tso_segs(skb, mss_now)
    return segs


def tcp_adjust_pcount(sk: TcpSock, skb: SkBuff, decr: int) -> None:
    """A queued segment stands for `decr` packets fewer than before: so do all the counts it is in."""
    sk.packets_out -= decr
    sacked = skb.sacked
    if sacked & TCPCB_SACKED_ACKED:
        sk.sacked_out -= decr
    if sacked & TCPCB_SACKED_RETRANS:
        sk.retrans_out -= decr
    if sacked & TCPCB_LOST:
        sk.lost_out -= decr
    # Reno counts duplicate ACKs, not segments: be conservative
    if tcp_is_reno(sk) and decr > 0:
        sk.sacked_out -= min(sk.sacked_out, decr)


def tcp_fragment(sk: TcpSock, queue: int, skb: SkBuff, length: int, mss_now: int) -> int:
    """Cut `skb` behind `length` bytes; the rest becomes a segment of its own, behind it in the same queue. 0 or -errno."""
    if length >= skb.len or length <= 0:
        return -EINVAL
    # Somebody who SACKs one byte in two would make us cut until memory ends (CVE-2019-11478).
    if (
        sk.sk_wmem_queued >> 1 > sk.sk_sndbuf + 2 * 65536
        and queue != TCP_FRAG_IN_WRITE_QUEUE
        and skb is not tcp_rtx_queue_head(sk)
        and skb is not tcp_rtx_queue_tail(sk)
    ):
        sk.sk_net.net_statistics[LINUX_MIB_TCPWQUEUETOOBIG] += 1
        return -ENOMEM
    if skb.data_len != skb.len:
        # the queues hold payload in frags; a segment that came otherwise is made so
        skb_linearize(skb)
        skb.frags = [skb.head[skb.data : skb.tail]]
        skb.data_len = skb.len
        skb.head = b""
        skb.data = 0
        skb.tail = 0
    frags = skb.frags
    assert frags is not None
    nlen = skb.len - length
    buff = SkBuff(b"", pieces_slice(frags, length, nlen), nlen, skb_truesize(MAX_TCP_HEADER))
    sk_forced_mem_schedule(sk, buff.truesize)
    sk.sk_wmem_queued += buff.truesize
    sk_mem_charge(sk, buff.truesize)
    buff.truesize += nlen
    skb.truesize -= nlen

    buff.seq = (skb.seq + length) & 0xFFFFFFFF
    buff.end_seq = skb.end_seq
    skb.end_seq = buff.seq
    flags = skb.tcp_flags
    skb.tcp_flags = flags & ~(TCPHDR_FIN | TCPHDR_PSH)
    buff.tcp_flags = flags
    buff.sacked = skb.sacked
    buff.eor = skb.eor
    skb.eor = False
    skb.frags = pieces_slice(frags, 0, length)
    skb.len = length
    skb.data_len = length
    buff.tstamp = skb.tstamp
    stamp = skb.tx_tstamp
    if stamp is not None and not before(stamp.key, buff.seq):
        # tcp_fragment_tstamp: the byte that is to be stamped goes with the second half
        buff.tx_tstamp = stamp
        buff.txstamp_ack = skb.txstamp_ack
        skb.tx_tstamp = None
        skb.txstamp_ack = False

    old_factor = skb.gso_segs
    tcp_set_skb_tso_segs(skb, mss_now)
    tcp_set_skb_tso_segs(buff, mss_now)
    buff.is_app_limited = skb.is_app_limited
    buff.delivered = skb.delivered
    buff.delivered_ce = skb.delivered_ce
    buff.first_tx_mstamp = skb.first_tx_mstamp
    buff.delivered_mstamp = skb.delivered_mstamp
    buff.tx_order = skb.tx_order
    if not before(sk.snd_nxt, buff.end_seq):
        # sent already: the counts of packets may change
        diff = old_factor - skb.gso_segs - buff.gso_segs
        if diff:
            tcp_adjust_pcount(sk, skb, diff)
    if queue == TCP_FRAG_IN_RTX_QUEUE:
        rtx = sk.tcp_rtx_queue
        assert rtx is not None
        rtx.insert_after(skb, buff)
        tsorted = sk.tsorted_sent_queue
        if tsorted is not None:
            tsorted.insert_after(skb, buff)
    else:
        skb_append(sk.sk_write_queue, skb, buff)
    return 0


def tso_fragment(sk: TcpSock, skb: SkBuff, length: int, mss_now: int) -> int:
    """Cut a segment of the write queue, none of which was sent."""
    return tcp_fragment(sk, TCP_FRAG_IN_WRITE_QUEUE, skb, length, mss_now)


def tcp_grow_skb(sk: TcpSock, skb: SkBuff, amount: int) -> None:
    """`skb`, at the head of the write queue, takes up to `amount` bytes over from the segment behind it."""
    next_skb = skb.next
    if next_skb is None or skb.eor or skb.data_len != skb.len or next_skb.data_len != next_skb.len:
        return
    frags = skb.frags
    more = next_skb.frags
    if frags is None or more is None:
        return
    nlen = min(amount, next_skb.len)
    skb.frags = frags + pieces_slice(more, 0, nlen)
    skb.len += nlen
    skb.data_len = skb.len
    skb.truesize += nlen
    skb.end_seq = (skb.end_seq + nlen) & 0xFFFFFFFF
    next_skb.truesize -= nlen
    if nlen < next_skb.len:
        next_skb.seq = skb.end_seq
        next_skb.len -= nlen
        next_skb.data_len = next_skb.len
        next_skb.frags = pieces_slice(more, nlen, next_skb.len)
        return
    # All of it; a FIN comes along.
    skb.end_seq = next_skb.end_seq
    skb.tcp_flags |= next_skb.tcp_flags
    skb.eor = next_skb.eor
    skb_unlink(sk.sk_write_queue, next_skb)
    tcp_wmem_free_skb(sk, next_skb)


def tcp_trim_head(sk: TcpSock, skb: SkBuff, length: int) -> int:
    """`length` bytes at the head of `skb` were acknowledged."""
    if length > skb.len:
        return -EINVAL
    headlen = skb.len - skb.data_len
    if length < headlen:
        skb.data += length
    else:
        skb.data += headlen
        frags = skb.frags
        if frags is not None and length > headlen:
            rest = skb.data_len - (length - headlen)
            skb.frags = pieces_slice(frags, length - headlen, rest) or None
            skb.data_len = rest
    skb.len -= length
    skb.seq = (skb.seq + length) & 0xFFFFFFFF
    skb.truesize -= length
    sk.sk_wmem_queued -= length
    sk_mem_uncharge(sk, length)
    if skb.gso_segs > 1:
        tcp_set_skb_tso_segs(skb, skb.gso_size)
    return 0


# -- sizes -----------------------------------------------------------------------------------------------------------------


def tcp_mss_clamp(tp: TcpSock, mss: int) -> int:
    """TCP_MAXSEG's limit."""
    user_mss = tp.rx_opt.user_mss
    return user_mss if 0 < user_mss < mss else mss


def tcp_net_header_len(sk: TcpSock) -> int:
    ops = sk.icsk_af_ops
    return 20 if ops is None else ops.net_header_len


def tcp_mtu_to_mss(sk: TcpSock, pmtu: int) -> int:
    """The payload of a segment on a path of that MTU, the timestamp taken off, other options not."""
    mss_now = pmtu - tcp_net_header_len(sk) - 20
    if mss_now > sk.rx_opt.mss_clamp:
        mss_now = sk.rx_opt.mss_clamp
    mss_now -= sk.icsk_ext_hdr_len
    mss_now = max(mss_now, sk.sk_net.ipv4.sysctl_tcp_min_snd_mss)
    return mss_now - (sk.tcp_header_len - 20)


def tcp_mss_to_mtu(sk: TcpSock, mss: int) -> int:
    return mss + sk.tcp_header_len + sk.icsk_ext_hdr_len + tcp_net_header_len(sk)


def tcp_mtup_init(sk: TcpSock) -> None:
    net = sk.sk_net.ipv4
    if sk.tcp_cold is not None:
        sk.tcp_cold.icsk_mtup = None
    if net.sysctl_tcp_mtu_probing > 1:
        tcp_cold(sk).icsk_mtup = IcskMtup(tcp_mtup_range(sk), tcp_mss_to_mtu(sk, net.sysctl_tcp_base_mss), sk.kernel.now)


def tcp_mtup_range(sk: TcpSock) -> int:
    """The largest MTU that the peer's MSS lets us use."""
    return sk.rx_opt.mss_clamp + 20 + tcp_net_header_len(sk)


def tcp_bound_to_half_wnd(tp: TcpSock, pktsize: int) -> int:
    """A segment is at most half the largest window of the peer, lest a small window be filled by one that cannot be sent."""
    cutoff = tp.max_window >> 1 if tp.max_window > TCP_MSS_DEFAULT else tp.max_window
    if cutoff and pktsize > cutoff:
        return max(cutoff, 68 - tp.tcp_header_len)
    return pktsize


def tcp_sync_mss(sk: TcpSock, pmtu: int) -> int:
    """The path's MTU is `pmtu`: set `mss_cache`."""
    mtup = None if sk.tcp_cold is None else sk.tcp_cold.icsk_mtup
    if mtup is not None and mtup.search_high > pmtu:
        mtup.search_high = pmtu
    mss_now = tcp_bound_to_half_wnd(sk, tcp_mtu_to_mss(sk, pmtu))
    sk.icsk_pmtu_cookie = pmtu
    if mtup is not None:
        mss_now = min(mss_now, tcp_mtu_to_mss(sk, mtup.search_low))
    sk.mss_cache = mss_now
    return mss_now


def tcp_current_mss(sk: TcpSock) -> int:
    """The payload of a segment sent now: what the path takes, less the SACK blocks that go along."""
    mss_now = sk.mss_cache
    dst = sk.sk_dst_cache
    if dst is not None:
        mtu = dst.mtu()
        if mtu != sk.icsk_pmtu_cookie:
            mss_now = tcp_sync_mss(sk, mtu)
    rx_opt = sk.rx_opt
    if rx_opt.num_sacks or sk.duplicate_sack is not None:
        mss_now -= tcp_sack_option_size(sk)
    if rx_opt.tstamp_ok != (sk.tcp_header_len > 20):
        mss_now -= (32 if rx_opt.tstamp_ok else 20) - sk.tcp_header_len
    return mss_now


def tcp_sack_option_size(sk: TcpSock) -> int:
    """Bytes that the SACK option of the next segment takes."""
    blocks = sk.rx_opt.num_sacks
    if sk.duplicate_sack is not None:
        blocks += 1
    if blocks == 0:
        return 0
    room = 3 if sk.rx_opt.tstamp_ok else 4
    return 4 + 8 * min(blocks, room)
