"""Time stamps of packets for programs: SO_TIMESTAMP, SO_TIMESTAMPNS and SO_TIMESTAMPING. In Linux these stand in net/core/sock.c
(sock_set_timestamping, sock_cmsg_send), skbuff.c (__skb_tstamp_tx), net/socket.c and net/ipv4/tcp.c.

Received: the device layer stamps every packet; recvmsg tells it to whoever asked (sock_recv_timestamp, tcp_recv_timestamp).
Sent: a packet whose sender wants to know carries an SkbTxTstamp. It comes by __dev_queue_xmit (TX_SCHED), the driver (TX_SOFTWARE)
and, for a segment, its acknowledgement (TX_ACK); at each, a copy of the packet, or an empty one (OPT_TSONLY), is put on the error
queue with the time.

Left out: hardware stamps and their clocks (no device here has one: the flags are taken, nothing ever comes of them, as with a Linux
device without), SOF_TIMESTAMPING_OPT_STATS, TX_COMPLETION (Bluetooth), SO_TXTIME.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.time import NSEC_PER_SEC, NSEC_PER_USEC
from afinet.net.core import datagram
from afinet.net.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED
from afinet.net.core.scm import put_cmsg
from afinet.net.core.skbuff import SkbTxTstamp, SkBuff, alloc_skb, kfree_skb_reason, skb_clone
from afinet.net.core.sock import (
    SOCK_RCVTSTAMP,
    SOCK_RCVTSTAMPNS,
    SOCK_TIMESTAMP,
    SOCK_TIMESTAMPING_ANY,
    SOCK_TSTAMP_NEW,
    sock_flag,
    sock_reset_flag,
    sock_set_flag,
    sock_valbool_flag,
)
from afinet.uapi.errno import EINVAL, ENOMSG, EOPNOTSUPP
from afinet.uapi.errqueue import SCM_TSTAMP_SCHED, SCM_TSTAMP_SND, SO_EE_ORIGIN_TIMESTAMPING
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.net_tstamp import (
    SOF_TIMESTAMPING_BIND_PHC,
    SOF_TIMESTAMPING_MASK,
    SOF_TIMESTAMPING_OPT_ID,
    SOF_TIMESTAMPING_OPT_ID_TCP,
    SOF_TIMESTAMPING_OPT_STATS,
    SOF_TIMESTAMPING_OPT_TSONLY,
    SOF_TIMESTAMPING_RAW_HARDWARE,
    SOF_TIMESTAMPING_RX_SOFTWARE,
    SOF_TIMESTAMPING_SOFTWARE,
    SOF_TIMESTAMPING_TX_RECORD_MASK,
    SOF_TIMESTAMPING_TX_SCHED,
    SOF_TIMESTAMPING_TX_SOFTWARE,
)
from afinet.uapi.sockaddr import get_s32, get_u32, pack_timespec, pack_timeval
from afinet.uapi.socket import (
    SCM_TIMESTAMP,
    SCM_TIMESTAMPING,
    SCM_TIMESTAMPNS,
    SO_TIMESTAMP_NEW,
    SO_TIMESTAMPING_NEW,
    SO_TIMESTAMPNS_NEW,
    SOCK_STREAM,
    SOL_SOCKET,
)
from afinet.uapi.tcp import TCP_CLOSE, TCP_LISTEN

if TYPE_CHECKING:
    from afinet.net.core.sock import Sock
    from afinet.net.socket import MsgHdr

# SkbTxTstamp.flags: SKBTX_* of skb_shinfo(skb)->tx_flags
SKBTX_SW_TSTAMP: Final = 1
SKBTX_SCHED_TSTAMP: Final = 2

TSFLAGS_ANY: Final = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RAW_HARDWARE


# -- options ---------------------------------------------------------------------------------------------------------------


def sock_set_timestamps(sk: Sock, val: bool, new: bool, ns: bool) -> None:
    """SO_TIMESTAMP and SO_TIMESTAMPNS."""
    if val:
        sock_valbool_flag(sk, SOCK_TSTAMP_NEW, new)
        sock_valbool_flag(sk, SOCK_RCVTSTAMPNS, ns)
        sock_set_flag(sk, SOCK_RCVTSTAMP)
        sock_set_flag(sk, SOCK_TIMESTAMP)
    else:
        sock_reset_flag(sk, SOCK_RCVTSTAMP)
        sock_reset_flag(sk, SOCK_RCVTSTAMPNS)


def is_tcp(sk: Sock) -> bool:
    return sk.sk_type == SOCK_STREAM and sk.sk_protocol == IPPROTO_TCP


def sock_set_timestamping(sk: Sock, optval: bytes, new: bool) -> int:
    """SO_TIMESTAMPING: an int of flags, or struct so_timestamping. 0 or -errno."""
    val = get_s32(optval, 0)
    if val & ~SOF_TIMESTAMPING_MASK:
        return -EINVAL
    if val & SOF_TIMESTAMPING_OPT_ID_TCP and not val & SOF_TIMESTAMPING_OPT_ID:
        return -EINVAL
    cold = datagram.sk_cold(sk)
    if val & SOF_TIMESTAMPING_OPT_ID and not cold.sk_tsflags & SOF_TIMESTAMPING_OPT_ID:
        # The numbers begin here: datagrams from 0, bytes of a stream where it stands.
        if is_tcp(sk):
            if sk.sk_state == TCP_CLOSE or sk.sk_state == TCP_LISTEN:
                return -EINVAL
            cold.sk_tskey = sk.tstamp_key(val & SOF_TIMESTAMPING_OPT_ID_TCP != 0)
        else:
            cold.sk_tskey = 0
    if val & SOF_TIMESTAMPING_OPT_STATS:
        return -EINVAL if not val & SOF_TIMESTAMPING_OPT_TSONLY else -EOPNOTSUPP
    if val & SOF_TIMESTAMPING_BIND_PHC:
        # A clock of the device that the sock is bound to; no device has one.
        return -EINVAL if sk.sk_bound_dev_if in sk.sk_net.dev_by_index else -EOPNOTSUPP
    cold.sk_tsflags = val
    sock_valbool_flag(sk, SOCK_TSTAMP_NEW, new)
    sock_valbool_flag(sk, SOCK_TIMESTAMPING_ANY, val & TSFLAGS_ANY != 0)
    return 0


def sk_tsflags(sk: Sock) -> int:
    return 0 if sk.sk_cold is None else sk.sk_cold.sk_tsflags


def cmsg_timestamping(sk: Sock, tsflags: int, data: bytes) -> int:
    """The flags of one sending call, after a control message SO_TIMESTAMPING: what is to be stamped in place of the sock's, or
    -EINVAL."""
    if len(data) != 4:
        return -EINVAL
    wanted = get_u32(data, 0)
    if wanted & ~SOF_TIMESTAMPING_TX_RECORD_MASK:
        return -EINVAL
    return tsflags & ~SOF_TIMESTAMPING_TX_RECORD_MASK | wanted


# -- sent packets ----------------------------------------------------------------------------------------------------------


def sock_tx_timestamp(tsflags: int) -> int:
    """SKBTX_* for a packet, of the flags of the call."""
    flags = 0
    if tsflags & SOF_TIMESTAMPING_TX_SOFTWARE:
        flags |= SKBTX_SW_TSTAMP
    if tsflags & SOF_TIMESTAMPING_TX_SCHED:
        flags |= SKBTX_SCHED_TSTAMP
    return flags


def skb_setup_tx_timestamp(skb: SkBuff, sk: Sock, tsflags: int, key: int) -> None:
    """A datagram of a sock that may want to know. `key` is its number if the call gave one (SCM_TS_OPT_ID), -1 else."""
    flags = sock_tx_timestamp(tsflags)
    if not flags:
        return
    if key < 0:
        key = 0
        cold = sk.sk_cold
        if cold is not None and cold.sk_tsflags & SOF_TIMESTAMPING_OPT_ID:
            key = cold.sk_tskey
            cold.sk_tskey = (key + 1) & 0xFFFFFFFF
    skb.tx_tstamp = SkbTxTstamp(flags, key)


def skb_tx_timestamp(skb: SkBuff) -> None:
    """The driver takes the packet."""
    stamp = skb.tx_tstamp
    if stamp is not None and stamp.flags & SKBTX_SW_TSTAMP and skb.sk is not None:
        __skb_tstamp_tx(skb, skb.sk, SCM_TSTAMP_SND)


def skb_sched_timestamp(skb: SkBuff) -> None:
    """The packet comes to the queue of a device."""
    stamp = skb.tx_tstamp
    if stamp is not None and stamp.flags & SKBTX_SCHED_TSTAMP and skb.sk is not None:
        __skb_tstamp_tx(skb, skb.sk, SCM_TSTAMP_SCHED)


def __skb_tstamp_tx(orig: SkBuff, sk: Sock, tstype: int) -> None:
    """Put the time on the error queue of the sender, with the packet or without."""
    cold = sk.sk_cold
    stamp = orig.tx_tstamp
    if cold is None or stamp is None:
        return
    skb = alloc_skb(b"") if cold.sk_tsflags & SOF_TIMESTAMPING_OPT_TSONLY else skb_clone(orig)
    skb.tstamp = sk.kernel.ktime_get_real()
    serr = datagram.SockExterrSkb(ENOMSG, SO_EE_ORIGIN_TIMESTAMPING, 0, 0, tstype)
    serr.iif = 0 if skb.dev is None else skb.dev.ifindex
    skb.dev = None
    if cold.sk_tsflags & SOF_TIMESTAMPING_OPT_ID:
        serr.ee_data = stamp.key
        if is_tcp(sk):
            serr.ee_data = (stamp.key - cold.sk_tskey) & 0xFFFFFFFF
    skb.cb = serr
    if datagram.sock_queue_err_skb(sk, skb):
        kfree_skb_reason(sk.sk_net, skb, SKB_DROP_REASON_NOT_SPECIFIED)


# -- received packets ------------------------------------------------------------------------------------------------------


def put_timestamp(msg: MsgHdr, sk: Sock, tstamp: int) -> None:
    """The control message of SO_TIMESTAMP or SO_TIMESTAMPNS."""
    sec, nsec = divmod(tstamp, NSEC_PER_SEC)
    new = sock_flag(sk, SOCK_TSTAMP_NEW)
    if sock_flag(sk, SOCK_RCVTSTAMPNS):
        put_cmsg(msg, SOL_SOCKET, SO_TIMESTAMPNS_NEW if new else SCM_TIMESTAMPNS, pack_timespec(sec, nsec))
    else:
        put_cmsg(msg, SOL_SOCKET, SO_TIMESTAMP_NEW if new else SCM_TIMESTAMP, pack_timeval(sec, nsec // NSEC_PER_USEC))


def put_timestamping(msg: MsgHdr, sk: Sock, tstamp: int) -> None:
    """struct scm_timestamping: software, nothing, hardware."""
    new = sock_flag(sk, SOCK_TSTAMP_NEW)
    data = pack_timespec(tstamp // NSEC_PER_SEC, tstamp % NSEC_PER_SEC) + bytes(32)
    put_cmsg(msg, SOL_SOCKET, SO_TIMESTAMPING_NEW if new else SCM_TIMESTAMPING, data)


def wants_rx_timestamp(sk: Sock) -> bool:
    """Whether somebody had the packets of this sock stamped. (In Linux one who did has those of the whole machine stamped.)"""
    return sock_flag(sk, SOCK_TIMESTAMP) or sk_tsflags(sk) & SOF_TIMESTAMPING_RX_SOFTWARE != 0


def sock_recv_timestamp(msg: MsgHdr, sk: Sock, skb: SkBuff) -> None:
    """What was asked for as control messages, else only remembered for SIOCGSTAMP."""
    tsflags = sk_tsflags(sk)
    rcvtstamp = sock_flag(sk, SOCK_RCVTSTAMP)
    if not rcvtstamp and not tsflags & (SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE):
        sk.sk_stamp = skb.tstamp
        return
    if rcvtstamp:
        if skb.tstamp == 0:
            skb.tstamp = sk.kernel.ktime_get_real()  # received before anybody asked for timestamps
        put_timestamp(msg, sk, skb.tstamp)
    sent = isinstance(skb.cb, datagram.SockExterrSkb) and skb.cb.ee_origin == SO_EE_ORIGIN_TIMESTAMPING
    if tsflags & SOF_TIMESTAMPING_SOFTWARE and skb.tstamp and (sent or wants_rx_timestamp(sk)):
        put_timestamping(msg, sk, skb.tstamp)


def tcp_recv_timestamp(msg: MsgHdr, sk: Sock, tstamp: int) -> None:
    """The time of the last segment that the bytes just read came in."""
    if sock_flag(sk, SOCK_RCVTSTAMP):
        put_timestamp(msg, sk, tstamp)
    if sk_tsflags(sk) & SOF_TIMESTAMPING_SOFTWARE and wants_rx_timestamp(sk):
        put_timestamping(msg, sk, tstamp)
