"""net/ipv4/tcp.c: tcp_get_info and struct tcp_info (include/uapi/linux/tcp.h), what TCP_INFO and `ss -i` show of a connection.

Every field has its real value, but these, which nothing here can set: the bytes counted by accurate ECN, and fast open's
failures. """

from __future__ import annotations

from typing import Final

from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_USEC
from afinet.kernel.win_minmax import minmax_get
from afinet.net.ipv4.tcp_inline import TCP_CHRONO_RWND_LIMITED, TCP_CHRONO_SNDBUF_LIMITED, TCP_ECN_OK, TCP_ECN_SEEN, tcp_delack_max
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.uapi.tcp import (
    TCP_LISTEN,
    TCPI_OPT_ECN,
    TCPI_OPT_ECN_SEEN,
    TCPI_OPT_SACK,
    TCPI_OPT_TIMESTAMPS,
    TCPI_OPT_WSCALE,
)

SIZEOF_TCP_INFO: Final = 280

_U32_MAX: Final = 0xFFFFFFFF
_U64_MAX: Final = 0xFFFFFFFFFFFFFFFF


class TcpInfo:
    """struct tcp_info: times in microseconds or, where the field is called last_*, milliseconds; rates in bytes a second."""

    __slots__ = (
        "tcpi_advmss",
        "tcpi_ato",
        "tcpi_backoff",
        "tcpi_busy_time",
        "tcpi_bytes_acked",
        "tcpi_bytes_received",
        "tcpi_bytes_retrans",
        "tcpi_bytes_sent",
        "tcpi_ca_state",
        "tcpi_data_segs_in",
        "tcpi_data_segs_out",
        "tcpi_delivered",
        "tcpi_delivered_ce",
        "tcpi_delivery_rate",
        "tcpi_delivery_rate_app_limited",
        "tcpi_dsack_dups",
        "tcpi_last_ack_recv",
        "tcpi_last_data_recv",
        "tcpi_last_data_sent",
        "tcpi_lost",
        "tcpi_max_pacing_rate",
        "tcpi_min_rtt",
        "tcpi_notsent_bytes",
        "tcpi_options",
        "tcpi_pacing_rate",
        "tcpi_pmtu",
        "tcpi_probes",
        "tcpi_rcv_mss",
        "tcpi_rcv_ooopack",
        "tcpi_rcv_rtt",
        "tcpi_rcv_space",
        "tcpi_rcv_ssthresh",
        "tcpi_rcv_wnd",
        "tcpi_rcv_wscale",
        "tcpi_rehash",
        "tcpi_reord_seen",
        "tcpi_reordering",
        "tcpi_retrans",
        "tcpi_retransmits",
        "tcpi_rto",
        "tcpi_rtt",
        "tcpi_rttvar",
        "tcpi_rwnd_limited",
        "tcpi_sacked",
        "tcpi_segs_in",
        "tcpi_segs_out",
        "tcpi_snd_cwnd",
        "tcpi_snd_mss",
        "tcpi_snd_ssthresh",
        "tcpi_snd_wnd",
        "tcpi_snd_wscale",
        "tcpi_sndbuf_limited",
        "tcpi_state",
        "tcpi_total_retrans",
        "tcpi_total_rto",
        "tcpi_total_rto_recoveries",
        "tcpi_total_rto_time",
        "tcpi_unacked",
    )

    def __init__(self) -> None:
        self.tcpi_state: int = 0
        self.tcpi_ca_state: int = 0
        self.tcpi_retransmits: int = 0
        self.tcpi_probes: int = 0
        self.tcpi_backoff: int = 0
        self.tcpi_options: int = 0
        self.tcpi_snd_wscale: int = 0
        self.tcpi_rcv_wscale: int = 0
        self.tcpi_delivery_rate_app_limited: int = 0
        self.tcpi_rto: int = 0
        self.tcpi_ato: int = 0
        self.tcpi_snd_mss: int = 0
        self.tcpi_rcv_mss: int = 0
        self.tcpi_unacked: int = 0
        self.tcpi_sacked: int = 0
        self.tcpi_lost: int = 0
        self.tcpi_retrans: int = 0
        self.tcpi_last_data_sent: int = 0
        self.tcpi_last_data_recv: int = 0
        self.tcpi_last_ack_recv: int = 0
        self.tcpi_pmtu: int = 0
        self.tcpi_rcv_ssthresh: int = 0
        self.tcpi_rtt: int = 0
        self.tcpi_rttvar: int = 0
        self.tcpi_snd_ssthresh: int = 0
        self.tcpi_snd_cwnd: int = 0
        self.tcpi_advmss: int = 0
        self.tcpi_reordering: int = 0
        self.tcpi_rcv_rtt: int = 0
        self.tcpi_rcv_space: int = 0
        self.tcpi_total_retrans: int = 0
        self.tcpi_pacing_rate: int = 0
        self.tcpi_max_pacing_rate: int = 0
        self.tcpi_bytes_acked: int = 0
        self.tcpi_bytes_received: int = 0
        self.tcpi_segs_out: int = 0
        self.tcpi_segs_in: int = 0
        self.tcpi_notsent_bytes: int = 0
        self.tcpi_min_rtt: int = 0
        self.tcpi_data_segs_in: int = 0
        self.tcpi_data_segs_out: int = 0
        self.tcpi_delivery_rate: int = 0
        self.tcpi_busy_time: int = 0
        self.tcpi_rwnd_limited: int = 0
        self.tcpi_sndbuf_limited: int = 0
        self.tcpi_delivered: int = 0
        self.tcpi_delivered_ce: int = 0
        self.tcpi_bytes_sent: int = 0
        self.tcpi_bytes_retrans: int = 0
        self.tcpi_dsack_dups: int = 0
        self.tcpi_reord_seen: int = 0
        self.tcpi_rcv_ooopack: int = 0
        self.tcpi_snd_wnd: int = 0
        self.tcpi_rcv_wnd: int = 0
        self.tcpi_rehash: int = 0
        self.tcpi_total_rto: int = 0
        self.tcpi_total_rto_recoveries: int = 0
        self.tcpi_total_rto_time: int = 0


def tcp_compute_delivery_rate(tp: TcpSock) -> int:
    """Bytes a second, of the last sample; 0: none yet."""
    if not tp.rate_delivered or not tp.rate_interval_us:
        return 0
    return tp.rate_delivered * tp.mss_cache * 1_000_000 // tp.rate_interval_us


def tcp_min_rtt(tp: TcpSock) -> int:
    """Microseconds; ~0U: nothing measured yet."""
    return minmax_get(tp.rtt_min)


def tcp_get_info_chrono_stats(tp: TcpSock, info: TcpInfo) -> None:
    stat = tp.chrono_stat
    total = 0
    for i in range(3):
        us = 0 if stat is None else stat[i]
        if i + 1 == tp.chrono_type:
            us += tp.kernel.now - tp.chrono_start
        us //= NSEC_PER_USEC
        total += us
        if i + 1 == TCP_CHRONO_RWND_LIMITED:
            info.tcpi_rwnd_limited = us
        elif i + 1 == TCP_CHRONO_SNDBUF_LIMITED:
            info.tcpi_sndbuf_limited = us
    info.tcpi_busy_time = total


def tcp_get_info(tp: TcpSock) -> TcpInfo:
    """The connection as it is now."""
    info = TcpInfo()
    info.tcpi_state = tp.sk_state
    info.tcpi_pacing_rate = tp.sk_pacing_rate & _U64_MAX
    info.tcpi_max_pacing_rate = (-1 if tp.sk_cold is None else tp.sk_cold.sk_max_pacing_rate) & _U64_MAX
    info.tcpi_reordering = tp.reordering
    info.tcpi_snd_cwnd = tp.snd_cwnd
    if tp.sk_state == TCP_LISTEN:
        # A listener shows its accept queue: what waits in it, and how much may.
        info.tcpi_unacked = tp.sk_ack_backlog
        info.tcpi_sacked = tp.sk_max_ack_backlog
        return info
    rx_opt = tp.rx_opt
    info.tcpi_ca_state = tp.icsk_ca_state
    info.tcpi_retransmits = tp.icsk_retransmits
    info.tcpi_probes = tp.icsk_probes_out
    info.tcpi_backoff = tp.icsk_backoff
    options = 0
    if rx_opt.tstamp_ok:
        options |= TCPI_OPT_TIMESTAMPS
    if rx_opt.sack_ok:
        options |= TCPI_OPT_SACK
    if rx_opt.wscale_ok:
        options |= TCPI_OPT_WSCALE
        info.tcpi_snd_wscale = rx_opt.snd_wscale
        info.tcpi_rcv_wscale = rx_opt.rcv_wscale
    if tp.ecn_flags & TCP_ECN_OK:
        options |= TCPI_OPT_ECN
    if tp.ecn_flags & TCP_ECN_SEEN:
        options |= TCPI_OPT_ECN_SEEN
    info.tcpi_options = options
    info.tcpi_rto = tp.icsk_rto // NSEC_PER_USEC
    info.tcpi_ato = min(tp.icsk_ack_ato, tcp_delack_max(tp)) // NSEC_PER_USEC
    info.tcpi_snd_mss = tp.mss_cache
    info.tcpi_rcv_mss = tp.icsk_ack_rcv_mss
    info.tcpi_unacked = tp.packets_out
    info.tcpi_sacked = tp.sacked_out
    info.tcpi_lost = tp.lost_out
    info.tcpi_retrans = tp.retrans_out
    now = tp.kernel.now
    info.tcpi_last_data_sent = (now - tp.lsndtime) // NSEC_PER_MSEC & _U32_MAX
    info.tcpi_last_data_recv = (now - tp.icsk_ack_lrcvtime) // NSEC_PER_MSEC & _U32_MAX
    info.tcpi_last_ack_recv = (now - tp.rcv_tstamp) // NSEC_PER_MSEC & _U32_MAX
    info.tcpi_pmtu = tp.icsk_pmtu_cookie
    info.tcpi_rcv_ssthresh = tp.rcv_ssthresh
    info.tcpi_rtt = tp.srtt_us >> 3
    info.tcpi_rttvar = tp.mdev_us >> 2
    info.tcpi_snd_ssthresh = tp.snd_ssthresh
    info.tcpi_advmss = tp.advmss
    info.tcpi_rcv_rtt = tp.rcv_rtt_us >> 3
    info.tcpi_rcv_space = tp.rcvq_space_copied
    info.tcpi_bytes_acked = tp.bytes_acked
    info.tcpi_bytes_received = tp.bytes_received
    notsent = (tp.write_seq - tp.snd_nxt) & _U32_MAX
    info.tcpi_notsent_bytes = notsent if notsent < 0x80000000 else 0
    tcp_get_info_chrono_stats(tp, info)
    info.tcpi_segs_out = tp.segs_out
    info.tcpi_segs_in = tp.segs_in
    info.tcpi_data_segs_in = tp.data_segs_in
    info.tcpi_data_segs_out = tp.data_segs_out
    info.tcpi_min_rtt = tcp_min_rtt(tp)
    info.tcpi_delivery_rate_app_limited = 1 if tp.rate_app_limited else 0
    info.tcpi_delivery_rate = tcp_compute_delivery_rate(tp)
    info.tcpi_delivered = tp.delivered
    info.tcpi_delivered_ce = tp.delivered_ce
    info.tcpi_bytes_sent = tp.bytes_sent
    info.tcpi_snd_wnd = tp.snd_wnd
    info.tcpi_rcv_wnd = tp.rcv_wnd
    loss = tp.loss_state
    if loss is not None:
        info.tcpi_total_retrans = loss.total_retrans
        info.tcpi_bytes_retrans = loss.bytes_retrans
        info.tcpi_dsack_dups = loss.dsack_dups
        info.tcpi_reord_seen = loss.reord_seen
        info.tcpi_rcv_ooopack = loss.rcv_ooopack
        info.tcpi_rehash = loss.timeout_rehash
        info.tcpi_total_rto = loss.total_rto
        info.tcpi_total_rto_recoveries = loss.total_rto_recoveries
        info.tcpi_total_rto_time = loss.total_rto_time
        if loss.rto_stamp:
            info.tcpi_total_rto_time += now // NSEC_PER_MSEC - loss.rto_stamp
    return info


def _u32(*values: int) -> bytes:
    return b"".join([(v & _U32_MAX).to_bytes(4, "little") for v in values])


def _u64(*values: int) -> bytes:
    return b"".join([(v & _U64_MAX).to_bytes(8, "little") for v in values])


def pack_tcp_info(i: TcpInfo) -> bytes:
    """struct tcp_info of Linux 6.18 on a little-endian machine, 280 bytes."""
    head = bytes(
        [
            i.tcpi_state,
            i.tcpi_ca_state,
            min(i.tcpi_retransmits, 255),
            min(i.tcpi_probes, 255),
            min(i.tcpi_backoff, 255),
            i.tcpi_options,
            i.tcpi_snd_wscale | i.tcpi_rcv_wscale << 4,
            i.tcpi_delivery_rate_app_limited,
        ]
    )
    return b"".join(
        [
            head,
            _u32(i.tcpi_rto, i.tcpi_ato, i.tcpi_snd_mss, i.tcpi_rcv_mss),
            _u32(i.tcpi_unacked, i.tcpi_sacked, i.tcpi_lost, i.tcpi_retrans, 0),
            _u32(i.tcpi_last_data_sent, 0, i.tcpi_last_data_recv, i.tcpi_last_ack_recv),
            _u32(i.tcpi_pmtu, i.tcpi_rcv_ssthresh, i.tcpi_rtt, i.tcpi_rttvar),
            _u32(i.tcpi_snd_ssthresh, i.tcpi_snd_cwnd, i.tcpi_advmss, i.tcpi_reordering),
            _u32(i.tcpi_rcv_rtt, i.tcpi_rcv_space, i.tcpi_total_retrans),
            _u64(i.tcpi_pacing_rate, i.tcpi_max_pacing_rate, i.tcpi_bytes_acked, i.tcpi_bytes_received),
            _u32(i.tcpi_segs_out, i.tcpi_segs_in),
            _u32(i.tcpi_notsent_bytes, i.tcpi_min_rtt, i.tcpi_data_segs_in, i.tcpi_data_segs_out),
            _u64(i.tcpi_delivery_rate, i.tcpi_busy_time, i.tcpi_rwnd_limited, i.tcpi_sndbuf_limited),
            _u32(i.tcpi_delivered, i.tcpi_delivered_ce),
            _u64(i.tcpi_bytes_sent, i.tcpi_bytes_retrans),
            _u32(i.tcpi_dsack_dups, i.tcpi_reord_seen, i.tcpi_rcv_ooopack, i.tcpi_snd_wnd, i.tcpi_rcv_wnd, i.tcpi_rehash),
            _u32((i.tcpi_total_rto & 0xFFFF) | (i.tcpi_total_rto_recoveries & 0xFFFF) << 16, i.tcpi_total_rto_time),
            bytes(32),
        ]
    )
