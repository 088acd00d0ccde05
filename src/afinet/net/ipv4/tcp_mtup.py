"""net/ipv4/tcp_output.c, tcp_input.c and tcp_timer.c, their part that probes the path's MTU (RFC 4821): net.ipv4.tcp_mtu_probing.

With 1 a connection begins to probe when a black hole is suspected: large segments vanish and no ICMP error tells. With 2 it probes
from the start, beginning at tcp_base_mss. A probe is one segment of new data, larger than all others; between what is known to pass
(`search_low`) and what the path may take (`search_high`) the sizes are halved. A probe that is lost costs no congestion window.

Call order: tcp_write_xmit -> tcp_mtu_probe; tcp_clean_rtx_queue -> tcp_mtup_probe_success; tcp_fastretrans_alert ->
tcp_mtup_probe_failed; tcp_write_timeout -> tcp_mtu_probing. The state of a sock that probes is among its cold fields (`icsk_mtup`).
"""

from __future__ import annotations

from typing import Final

from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core.skbuff import skb_pieces, skb_queue_head, skb_unlink
from afinet.net.core.sock import SK_PACING_NONE, sk_mem_charge
from afinet.net.ipv4 import tcp, tcp_output, tcp_pacing
from afinet.net.ipv4.inet_sock import IcskMtup
from afinet.net.ipv4.tcp_fragment import (
    tcp_current_mss,
    tcp_mss_to_mtu,
    tcp_mtu_to_mss,
    tcp_mtup_range,
    tcp_set_skb_tso_segs,
    tcp_sync_mss,
    tcp_trim_head,
)
from afinet.net.ipv4.tcp_inline import (
    tcp_current_ssthresh,
    tcp_packets_in_flight,
    tcp_wmem_free_skb,
    tcp_wnd_end,
)
from afinet.net.ipv4.tcp_sock import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH, TcpSock, after, tcp_cold, tcp_write_queue
from afinet.uapi.snmp import LINUX_MIB_TCPMTUPFAIL, LINUX_MIB_TCPMTUPSUCCESS
from afinet.uapi.tcp import TCP_CA_Open

_MIN_CWND: Final = 11  # below it the loss of a probe could not be told by duplicates
_MAX_SKB_FRAGS: Final = 17


def tcp_mtup(sk: TcpSock) -> IcskMtup | None:
    """None: the sock does not probe."""
    return None if sk.tcp_cold is None else sk.tcp_cold.icsk_mtup


def tcp_mtu_check_reprobe(sk: TcpSock, mtup: IcskMtup) -> None:
    """The search is over; the path may have changed since (tcp_probe_interval)."""
    if sk.kernel.now - mtup.probe_timestamp >= sk.sk_net.ipv4.sysctl_tcp_probe_interval * NSEC_PER_SEC:
        mss = tcp_current_mss(sk)
        mtup.probe_size = 0
        mtup.search_high = tcp_mtup_range(sk)
        mtup.search_low = tcp_mss_to_mtu(sk, mss)
        mtup.probe_timestamp = sk.kernel.now


def tcp_can_coalesce_send_queue_head(sk: TcpSock, size: int) -> bool:
    """The first `size` bytes that wait may become one segment."""
    skb = sk.sk_write_queue.head
    while skb is not None and size > skb.len:
        if skb.eor or skb.tx_tstamp is not None:
            return False
        size -= skb.len
        skb = skb.next
    return skb is not None


def tcp_mtu_probe(sk: TcpSock, mtup: IcskMtup) -> int:
    """Send a probe if it is time for one. 1: sent; 0: wait, so that one can be sent; -1: go on without."""
    if mtup.probe_size or sk.icsk_ca_state != TCP_CA_Open or sk.snd_cwnd < _MIN_CWND:
        return -1
    if sk.rx_opt.num_sacks or sk.duplicate_sack is not None:
        return -1  # options of varying length
    mss_now = tcp_current_mss(sk)
    probe_size = tcp_mtu_to_mss(sk, (mtup.search_high + mtup.search_low) >> 1)
    reordering: int = sk.reordering
    size_needed = probe_size + (reordering + 1) * sk.mss_cache
    interval = mtup.search_high - mtup.search_low
    if probe_size > tcp_mtu_to_mss(sk, mtup.search_high) or interval < sk.sk_net.ipv4.sysctl_tcp_probe_threshold:
        tcp_mtu_check_reprobe(sk, mtup)
        return -1
    # Enough has to follow that the probe's loss shows.
    if (sk.write_seq - sk.snd_nxt) & 0xFFFFFFFF < size_needed or sk.snd_wnd < size_needed:
        return -1
    if after((sk.snd_nxt + size_needed) & 0xFFFFFFFF, tcp_wnd_end(sk)):
        return 0
    in_flight = tcp_packets_in_flight(sk)
    if in_flight + 2 > sk.snd_cwnd:
        return 0 if in_flight else -1
    if not tcp_can_coalesce_send_queue_head(sk, probe_size):
        return -1
    if sk.sk_pacing_status != SK_PACING_NONE and tcp_pacing.tcp_pacing_check(sk):
        return -1
    nskb = tcp.tcp_stream_alloc_skb(sk, False)
    if nskb is None:
        return -1
    queue = tcp_write_queue(sk)
    first = queue.head
    assert first is not None
    nskb.seq = first.seq
    nskb.end_seq = (first.seq + probe_size) & 0xFFFFFFFF
    nskb.tcp_flags = TCPHDR_ACK
    nskb.truesize += probe_size
    sk.sk_wmem_queued += nskb.truesize
    sk_mem_charge(sk, nskb.truesize)
    left = probe_size
    pieces = []
    while left:
        skb = queue.head
        assert skb is not None
        if skb.len <= left:
            left -= skb.len
            pieces += skb_pieces(skb, 0, skb.len)
            nskb.tcp_flags |= skb.tcp_flags
            nskb.eor = skb.eor
            skb_unlink(queue, skb)
            tcp_wmem_free_skb(sk, skb)
        else:
            pieces += skb_pieces(skb, 0, left)
            nskb.tcp_flags |= skb.tcp_flags & ~(TCPHDR_FIN | TCPHDR_PSH)
            tcp_trim_head(sk, skb, left)
            tcp_set_skb_tso_segs(skb, mss_now)
            left = 0
    nskb.frags = pieces if len(pieces) <= _MAX_SKB_FRAGS else [b"".join(pieces)]
    nskb.len = probe_size
    nskb.data_len = probe_size
    skb_queue_head(queue, nskb)
    tcp_set_skb_tso_segs(nskb, probe_size)
    # Should it fail, it is cut into usual segments.
    if tcp_output.tcp_transmit_skb(sk, nskb):
        return -1
    sk.snd_cwnd -= 1  # it is worth two packets
    tcp_output.tcp_event_new_data_sent(sk, nskb)
    mtup.probe_size = tcp_mss_to_mtu(sk, nskb.len)
    mtup.probe_seq_start = nskb.seq
    mtup.probe_seq_end = nskb.end_seq
    return 1


def tcp_mtup_probe_success(sk: TcpSock, mtup: IcskMtup) -> None:
    """The probe was acknowledged: the path takes segments of its size. The window keeps its bytes."""
    sk.snd_cwnd = max(1, sk.snd_cwnd * tcp_mss_to_mtu(sk, sk.mss_cache) // mtup.probe_size)
    sk.snd_cwnd_cnt = 0
    sk.snd_cwnd_stamp = sk.kernel.now
    sk.snd_ssthresh = tcp_current_ssthresh(sk)
    mtup.search_low = mtup.probe_size
    mtup.probe_size = 0
    tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    sk.sk_net.net_statistics[LINUX_MIB_TCPMTUPSUCCESS] += 1


def tcp_mtup_probe_failed(sk: TcpSock, mtup: IcskMtup) -> None:
    """Only the probe was lost: it was too large."""
    mtup.search_high = mtup.probe_size - 1
    mtup.probe_size = 0
    sk.sk_net.net_statistics[LINUX_MIB_TCPMTUPFAIL] += 1


def tcp_mtu_probing(sk: TcpSock) -> None:
    """Nothing gets through (RFC 4821, 7.7): begin to probe at tcp_base_mss, or try half of what was thought to pass."""
    net = sk.sk_net.ipv4
    if not net.sysctl_tcp_mtu_probing:
        return
    mtup = tcp_mtup(sk)
    if mtup is None:
        high = min(tcp_mtup_range(sk), sk.icsk_pmtu_cookie)
        mtup = IcskMtup(high, tcp_mss_to_mtu(sk, net.sysctl_tcp_base_mss), sk.kernel.now)
        tcp_cold(sk).icsk_mtup = mtup
    else:
        mss = min(net.sysctl_tcp_base_mss, tcp_mtu_to_mss(sk, mtup.search_low) >> 1)
        mss = max(mss, net.sysctl_tcp_mtu_probe_floor, net.sysctl_tcp_min_snd_mss)
        mtup.search_low = tcp_mss_to_mtu(sk, mss)
    tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
