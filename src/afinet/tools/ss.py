"""The TCP sockets of a namespace, as ss(8) of iproute2 shows them: `ss_tin` is `ss -tin`, `ss_tan` is `ss -tan`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from afinet.net.core.net_namespace import Net
from afinet.net.core.request_sock import RequestSock
from afinet.net.core.sock import SockCommon
from afinet.net.ipv4.inet_sock import ICSK_TIME_PROBE0
from afinet.net.ipv4.tcp_info import TcpInfo, tcp_get_info
from afinet.net.ipv4.tcp_sock import TcpSock, TcpTimewaitSock
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_NEW_SYN_RECV,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
    TCPI_OPT_ECN,
    TCPI_OPT_SACK,
    TCPI_OPT_TIMESTAMPS,
    TCPI_OPT_WSCALE,
)

STATES = {
    TCP_ESTABLISHED: "ESTAB",
    TCP_SYN_SENT: "SYN-SENT",
    TCP_SYN_RECV: "SYN-RECV",
    TCP_NEW_SYN_RECV: "SYN-RECV",
    TCP_FIN_WAIT1: "FIN-WAIT-1",
    TCP_FIN_WAIT2: "FIN-WAIT-2",
    TCP_TIME_WAIT: "TIME-WAIT",
    TCP_CLOSE: "UNCONN",
    TCP_CLOSE_WAIT: "CLOSE-WAIT",
    TCP_LAST_ACK: "LAST-ACK",
    TCP_LISTEN: "LISTEN",
    TCP_CLOSING: "CLOSING",
}


def tcp_socks(net: Net, listening: bool = False) -> Iterator[SockCommon]:
    """The TCP socks of `net`: connections, requests and TIME_WAIT socks; or the listeners."""
    hinfo = net.kernel.inet_hashinfo
    if hinfo is None:
        return
    if listening:
        for chain in hinfo.lhash2.values():
            yield from (sk for sk in chain if sk.sk_net is net)
        return
    for first in hinfo.ehash.values():
        sk: SockCommon | None = first
        while sk is not None:
            if sk.sk_net is net:
                yield sk
            sk = sk.sk_hash_next


def queues(sk: SockCommon) -> tuple[int, int]:
    """Recv-Q and Send-Q: bytes not read and not acknowledged; for a listener what waits to be accepted, and the limit."""
    if not isinstance(sk, TcpSock):
        return 0, 0
    if sk.sk_state == TCP_LISTEN:
        return sk.sk_ack_backlog, sk.sk_max_ack_backlog
    unread = (sk.rcv_nxt - sk.copied_seq) & 0xFFFFFFFF
    return (unread if unread < 1 << 31 else 0), (sk.write_seq - sk.snd_una) & 0xFFFFFFFF


def dotted(addr: int) -> str:
    return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


def rate(bytes_per_second: float) -> str:
    """As ss prints a rate: bits a second with three digits or so."""
    bps = bytes_per_second * 8
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if bps >= size:
            return f"{bps / size:.3g}{unit}bps" if bps / size < 1000 else f"{bps / size:.0f}{unit}bps"
    return f"{bps:.0f}bps"


def milliseconds(us: int) -> str:
    return f"{us / 1000:.3f}".rstrip("0").rstrip(".")


def tcp_stats(sk: TcpSock) -> str:
    """The line that `ss -i` adds."""
    info: TcpInfo = tcp_get_info(sk)
    words: list[str] = []
    for bit, word in ((TCPI_OPT_TIMESTAMPS, "ts"), (TCPI_OPT_SACK, "sack"), (TCPI_OPT_ECN, "ecn")):
        if info.tcpi_options & bit:
            words.append(word)
    if sk.icsk_ca_ops is not None:
        words.append(sk.icsk_ca_ops.name)
    if info.tcpi_options & TCPI_OPT_WSCALE:
        words.append(f"wscale:{info.tcpi_snd_wscale},{info.tcpi_rcv_wscale}")
    if info.tcpi_rto and info.tcpi_rto != 3_000_000:
        words.append(f"rto:{milliseconds(info.tcpi_rto)}")
    if info.tcpi_backoff:
        words.append(f"backoff:{info.tcpi_backoff}")
    if info.tcpi_rtt:
        words.append(f"rtt:{milliseconds(info.tcpi_rtt)}/{milliseconds(info.tcpi_rttvar)}")
    if info.tcpi_ato:
        words.append(f"ato:{milliseconds(info.tcpi_ato)}")
    for name, value in (
        ("mss", info.tcpi_snd_mss),
        ("pmtu", info.tcpi_pmtu),
        ("rcvmss", info.tcpi_rcv_mss),
        ("advmss", info.tcpi_advmss),
        ("cwnd", info.tcpi_snd_cwnd),
    ):
        if value:
            words.append(f"{name}:{value}")
    if info.tcpi_snd_ssthresh < 0xFFFF:
        words.append(f"ssthresh:{info.tcpi_snd_ssthresh}")
    for name, value in (
        ("bytes_sent", info.tcpi_bytes_sent),
        ("bytes_retrans", info.tcpi_bytes_retrans),
        ("bytes_acked", info.tcpi_bytes_acked),
        ("bytes_received", info.tcpi_bytes_received),
        ("segs_out", info.tcpi_segs_out),
        ("segs_in", info.tcpi_segs_in),
        ("data_segs_out", info.tcpi_data_segs_out),
        ("data_segs_in", info.tcpi_data_segs_in),
    ):
        if value:
            words.append(f"{name}:{value}")
    if info.tcpi_rtt and info.tcpi_snd_mss and info.tcpi_snd_cwnd:
        words.append(f"send {rate(info.tcpi_snd_cwnd * info.tcpi_snd_mss * 1e6 / info.tcpi_rtt)}")
    for name, value in (
        ("lastsnd", info.tcpi_last_data_sent),
        ("lastrcv", info.tcpi_last_data_recv),
        ("lastack", info.tcpi_last_ack_recv),
    ):
        if value and sk.sk_state != TCP_LISTEN:
            words.append(f"{name}:{value}")
    if info.tcpi_pacing_rate and info.tcpi_pacing_rate != 0xFFFFFFFFFFFFFFFF:
        words.append(f"pacing_rate {rate(info.tcpi_pacing_rate)}")
    if info.tcpi_delivery_rate:
        words.append(f"delivery_rate {rate(info.tcpi_delivery_rate)}")
    if info.tcpi_delivered:
        words.append(f"delivered:{info.tcpi_delivered}")
    if info.tcpi_delivery_rate_app_limited:
        words.append("app_limited")
    if info.tcpi_busy_time:
        words.append(f"busy:{info.tcpi_busy_time // 1000}ms")
        for name, us in (("rwnd_limited", info.tcpi_rwnd_limited), ("sndbuf_limited", info.tcpi_sndbuf_limited)):
            if us:
                words.append(f"{name}:{us // 1000}ms({100 * us / info.tcpi_busy_time:.1f}%)")
    if sk.sk_state != TCP_LISTEN:
        if info.tcpi_unacked:
            words.append(f"unacked:{info.tcpi_unacked}")
        if info.tcpi_retrans or info.tcpi_total_retrans:
            words.append(f"retrans:{info.tcpi_retrans}/{info.tcpi_total_retrans}")
        if info.tcpi_lost:
            words.append(f"lost:{info.tcpi_lost}")
        if info.tcpi_sacked:
            words.append(f"sacked:{info.tcpi_sacked}")
    if info.tcpi_dsack_dups:
        words.append(f"dsack_dups:{info.tcpi_dsack_dups}")
    if info.tcpi_reordering != 3 and info.tcpi_reordering:
        words.append(f"reordering:{info.tcpi_reordering}")
    if info.tcpi_reord_seen:
        words.append(f"reord_seen:{info.tcpi_reord_seen}")
    if info.tcpi_rcv_rtt:
        words.append(f"rcv_rtt:{milliseconds(info.tcpi_rcv_rtt)}")
    for name, value in (
        ("rcv_space", info.tcpi_rcv_space),
        ("rcv_ssthresh", info.tcpi_rcv_ssthresh),
        ("notsent", info.tcpi_notsent_bytes),
    ):
        if value:
            words.append(f"{name}:{value}")
    if info.tcpi_min_rtt and info.tcpi_min_rtt != 0xFFFFFFFF:
        words.append(f"minrtt:{milliseconds(info.tcpi_min_rtt)}")
    if info.tcpi_rcv_ooopack:
        words.append(f"rcv_ooopack:{info.tcpi_rcv_ooopack}")
    if info.tcpi_snd_wnd:
        words.append(f"snd_wnd:{info.tcpi_snd_wnd}")
    if sk.icsk_pending == ICSK_TIME_PROBE0 and info.tcpi_probes:
        words.append(f"probes:{info.tcpi_probes}")
    return "\t " + " ".join(words)


def addresses(sk: SockCommon) -> tuple[str, str]:
    """Local and peer, as address:port."""
    local_addr, local_port = sk.inet_rcv_saddr, sk.inet_num
    peer = f"{dotted(sk.inet_daddr)}:{sk.inet_dport or '*'}"
    if isinstance(sk, TcpTimewaitSock):
        local_port = sk.tw_sport or local_port
    elif isinstance(sk, RequestSock):
        local_port = sk.inet_num
    return f"{dotted(local_addr)}:{local_port}", peer


def listing(socks: list[SockCommon], info: bool) -> str:
    rows = [("State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port")]
    for sk in socks:
        recv_q, send_q = queues(sk)
        rows.append((STATES.get(sk.sk_state, "?"), str(recv_q), str(send_q), *addresses(sk)))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines: list[str] = []
    for n, row in enumerate(rows):
        lines.append(" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if n and info and isinstance(socks[n - 1], TcpSock):
            lines.append(tcp_stats(cast(TcpSock, socks[n - 1])))
    return "\n".join(lines)


def ss_tin(net: Net) -> str:
    """`ss -tin`: connections that are not over, with the state of TCP."""
    done = (TCP_TIME_WAIT, TCP_NEW_SYN_RECV)
    return listing([sk for sk in tcp_socks(net) if sk.sk_state not in done], True)


def ss_tan(net: Net) -> str:
    """`ss -tan`: all of them, listeners first."""
    return listing([*tcp_socks(net, listening=True), *tcp_socks(net)], False)
