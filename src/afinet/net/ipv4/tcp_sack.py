"""net/ipv4/tcp_input.c, its part about SACK (RFC 2018, 2883, 6675): the blocks that an ACK brings, and those that ours tell.

Each segment of the retransmit queue has three tag bits: SACKED (delivered out of order), LOST, RETRANS (sent again); `sacked_out`,
`lost_out` and `retrans_out` count them. tcp_sacktag_write_queue tags what the blocks of an ACK newly cover. What earlier ACKs
covered is skipped by the blocks of the last ACK (`recv_sack_cache`) and by bisection, so a block costs what it adds, not what it
spans.

A block that lies below the ACK, or within the second block, is a D-SACK: data that arrived twice.

Left out: the merging of neighbouring SACKed segments (tcp_shift_skb_data), which saves Linux memory and walks.
"""

from __future__ import annotations

from typing import Final

from afinet.net.core.skbuff import SkBuff
from afinet.net.ipv4 import tcp_output, tcp_rcvq, tcp_recovery
from afinet.net.ipv4.tcp_fragment import TCP_FRAG_IN_RTX_QUEUE, tcp_fragment
from afinet.net.ipv4.tcp_inline import (
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ORIG_SACK_ACKED,
    TCP_MAX_QUICKACKS,
    tcp_highest_sack_reset,
    tcp_highest_sack_seq,
)
from afinet.net.ipv4.tcp_rate import TcpSacktagState, tcp_rate_skb_delivered
from afinet.net.ipv4.tcp_sock import (
    TCP_DSACK_SEEN,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TcpSock,
    after,
    before,
    tcp_loss_state,
)
from afinet.uapi.errno import EINVAL
from afinet.uapi.snmp import (
    LINUX_MIB_DELAYEDACKLOST,
    LINUX_MIB_TCPDSACKIGNOREDDUBIOUS,
    LINUX_MIB_TCPDSACKIGNOREDNOUNDO,
    LINUX_MIB_TCPDSACKIGNOREDOLD,
    LINUX_MIB_TCPDSACKOFORECV,
    LINUX_MIB_TCPDSACKOFOSENT,
    LINUX_MIB_TCPDSACKOLDSENT,
    LINUX_MIB_TCPDSACKRECV,
    LINUX_MIB_TCPDSACKRECVSEGS,
    LINUX_MIB_TCPSACKDISCARD,
    LINUX_MIB_TCPSACKREORDER,
    LINUX_MIB_TCPTSREORDER,
)
from afinet.uapi.tcp import TCP_CA_Loss

_TCP_SACK_BLOCKS_EXPECTED: Final = 2


# -- SACK blocks that came -------------------------------------------------------------------------------------------------


def tcp_check_sack_reordering(sk: TcpSock, low_seq: int, ts: bool) -> None:
    """`low_seq`, never retransmitted, arrived after the highest SACK: the path reorders at least that far."""
    fack = tcp_highest_sack_seq(sk)
    if not before(low_seq, fack):
        return
    metric = (fack - low_seq) & 0xFFFFFFFF
    mss = sk.mss_cache
    reordering: int = sk.reordering
    if mss and metric > reordering * mss:
        sk.reordering = min((metric + mss - 1) // mss, sk.sk_net.ipv4.sysctl_tcp_max_reordering)
    tcp_loss_state(sk).reord_seen += 1
    sk.sk_net.net_statistics[LINUX_MIB_TCPTSREORDER if ts else LINUX_MIB_TCPSACKREORDER] += 1


def tcp_dsack_seen(tp: TcpSock, start_seq: int, end_seq: int, state: TcpSacktagState) -> int:
    """How many segments a D-SACK tells of; 0 for one that cannot be meant for us."""
    if not before(start_seq, end_seq):
        return 0
    seq_len = (end_seq - start_seq) & 0xFFFFFFFF
    if seq_len > tp.max_window:
        return 0
    dup_segs = 1
    if seq_len > tp.mss_cache > 0:
        dup_segs = (seq_len + tp.mss_cache - 1) // tp.mss_cache
    elif tp.tlp_high_seq and tp.tlp_high_seq == end_seq:
        state.flag |= FLAG_DSACK_TLP
    stats = tcp_loss_state(tp)
    stats.dsack_dups += dup_segs
    # more duplicates than were ever sent twice: the network's doing
    if stats.dsack_dups > stats.total_retrans:
        return 0
    tp.rx_opt.sack_ok |= TCP_DSACK_SEEN
    if stats.reord_seen and not state.flag & FLAG_DSACK_TLP:
        tp.rack_dsack_seen = True
    state.flag |= FLAG_DSACKING_ACK
    state.sack_delivered += dup_segs
    return dup_segs


def tcp_check_dsack(sk: TcpSock, ack_seq: int, sacks: list[int], prior_snd_una: int, state: TcpSacktagState) -> bool:
    """Whether the first block is a D-SACK."""
    stats = sk.sk_net.net_statistics
    start0 = sacks[0]
    end0 = sacks[1]
    if before(start0, ack_seq):
        stats[LINUX_MIB_TCPDSACKRECV] += 1
    elif len(sacks) > 2:
        if after(end0, sacks[3]) or before(start0, sacks[2]):
            return False
        stats[LINUX_MIB_TCPDSACKOFORECV] += 1
    else:
        return False
    dup_segs = tcp_dsack_seen(sk, start0, end0, state)
    if not dup_segs:
        stats[LINUX_MIB_TCPDSACKIGNOREDDUBIOUS] += 1
        return False
    stats[LINUX_MIB_TCPDSACKRECVSEGS] += dup_segs
    # of data that has left the queue: count it against the retransmissions
    if sk.undo_marker and sk.undo_retrans > 0 and not after(end0, prior_snd_una) and after(end0, sk.undo_marker):
        sk.undo_retrans = max(0, sk.undo_retrans - dup_segs)
    return True


def tcp_is_sackblock_valid(tp: TcpSock, is_dsack: bool, start_seq: int, end_seq: int) -> bool:
    """A block must lie in what is in flight; a D-SACK may also lie below, not too far."""
    if after(end_seq, tp.snd_nxt) or not before(start_seq, end_seq):
        return False
    if not before(start_seq, tp.snd_nxt):
        return False
    if after(start_seq, tp.snd_una):
        return True
    if not is_dsack or not tp.undo_marker:
        return False
    if after(end_seq, tp.snd_una):
        return False
    if not before(start_seq, tp.undo_marker):
        return True
    if not after(end_seq, tp.undo_marker):
        return False
    return not before(start_seq, (end_seq - tp.max_window) & 0xFFFFFFFF)


def tcp_match_skb_to_sack(sk: TcpSock, skb: SkBuff, start_seq: int, end_seq: int) -> int:
    """1 when the block covers `skb`, which is cut at packet boundaries for it if need be; 0 when not; -errno."""
    in_sack = not after(start_seq, skb.seq) and not before(end_seq, skb.end_seq)
    if skb.gso_segs > 1 and not in_sack and after(skb.end_seq, start_seq):
        mss = skb.gso_size
        in_sack = not after(start_seq, skb.seq)
        if not in_sack:
            pkt_len = max((start_seq - skb.seq) & 0xFFFFFFFF, mss)
        else:
            pkt_len = (end_seq - skb.seq) & 0xFFFFFFFF
            if pkt_len < mss:
                return -EINVAL
        if pkt_len > mss:
            new_len = pkt_len // mss * mss
            if not in_sack and new_len < pkt_len:
                new_len += mss
            pkt_len = new_len
        if pkt_len >= skb.len and not in_sack:
            return 0
        if pkt_len < skb.len:
            err = tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, pkt_len, mss)
            if err < 0:
                return err
    return 1 if in_sack else 0


def tcp_sacktag_one(sk: TcpSock, state: TcpSacktagState, skb: SkBuff, dup_sack: bool) -> None:
    """A block covers `skb`."""
    sacked = skb.sacked
    pcount = skb.gso_segs
    start_seq = skb.seq
    end_seq = skb.end_seq
    if dup_sack and sacked & TCPCB_RETRANS:
        if sk.undo_marker and sk.undo_retrans > 0 and after(end_seq, sk.undo_marker):
            sk.undo_retrans = max(0, sk.undo_retrans - pcount)
        if sacked & TCPCB_SACKED_ACKED and before(start_seq, state.reord):
            state.reord = start_seq
    if not after(end_seq, sk.snd_una):
        return
    if not sacked & TCPCB_SACKED_ACKED:
        tcp_recovery.tcp_rack_advance(sk, skb, sacked)
        if sacked & TCPCB_SACKED_RETRANS:
            # Not marked lost: the retransmission is taken to be in flight still.
            if sacked & TCPCB_LOST:
                sacked &= ~(TCPCB_LOST | TCPCB_SACKED_RETRANS)
                sk.lost_out -= pcount
                sk.retrans_out -= pcount
        else:
            if not sacked & TCPCB_RETRANS:
                # Never sent again, and behind what was SACKed before: it came late.
                if before(start_seq, tcp_highest_sack_seq(sk)) and before(start_seq, state.reord):
                    state.reord = start_seq
                if not after(end_seq, sk.high_seq):
                    state.flag |= FLAG_ORIG_SACK_ACKED
                if state.first_sackt == 0:
                    state.first_sackt = skb.tstamp
                state.last_sackt = skb.tstamp
            if sacked & TCPCB_LOST:
                sacked &= ~TCPCB_LOST
                sk.lost_out -= pcount
        sacked |= TCPCB_SACKED_ACKED
        state.flag |= FLAG_DATA_SACKED
        sk.sacked_out += pcount
        state.sack_delivered += pcount
    if dup_sack and sacked & TCPCB_SACKED_RETRANS:
        # Delivered twice, so the retransmission is not in flight any more.
        sacked &= ~TCPCB_SACKED_RETRANS
        sk.retrans_out -= pcount
    skb.sacked = sacked


def tcp_sacktag_walk(
    sk: TcpSock,
    skb: SkBuff | None,
    state: TcpSacktagState,
    start_seq: int,
    end_seq: int,
    dup_sack_in: bool,
    next_start: int,
    next_end: int,
) -> SkBuff | None:
    """Tag from `skb` on what the block covers; (next_start, next_end) is a D-SACK within it, equal for none."""
    while skb is not None:
        if not before(skb.seq, end_seq):
            break
        dup_sack = dup_sack_in
        in_sack = 0
        if next_start != next_end and before(skb.seq, next_end):
            in_sack = tcp_match_skb_to_sack(sk, skb, next_start, next_end)
            if in_sack > 0:
                dup_sack = True
        if in_sack <= 0:
            in_sack = tcp_match_skb_to_sack(sk, skb, start_seq, end_seq)
        if in_sack < 0:
            break
        if in_sack:
            tcp_sacktag_one(sk, state, skb, dup_sack)
            tcp_rate_skb_delivered(sk, skb, state.rate)
            tsorted = sk.tsorted_sent_queue
            if tsorted is not None and skb.sacked & TCPCB_SACKED_ACKED:
                tsorted.remove(skb)
            if not before(skb.seq, tcp_highest_sack_seq(sk)):
                sk.highest_sack = skb.next
        skb = skb.next
    return skb


def tcp_sacktag_skip(sk: TcpSock, skb: SkBuff | None, seq: int) -> SkBuff | None:
    """The segment that contains `seq`; `skb`, if that is beyond."""
    if skb is not None and after(skb.seq, seq):
        return skb
    rtx = sk.tcp_rtx_queue
    return None if rtx is None else rtx.find(seq)


def tcp_sacktag_write_queue(sk: TcpSock, ack_seq: int, sacks: list[int], prior_snd_una: int, state: TcpSacktagState) -> int:
    """Tag what the blocks (start, end, start, end, ...) of an ACK cover. Returns FLAG_*."""
    state.flag = 0
    state.reord = sk.snd_nxt
    if not sk.sacked_out:
        tcp_highest_sack_reset(sk)
    found_dup_sack = tcp_check_dsack(sk, ack_seq, sacks, prior_snd_una, state)
    # Much too old an ACK; fresher ones may tell something even if they were overtaken.
    if before(ack_seq, (prior_snd_una - sk.max_window) & 0xFFFFFFFF):
        return 0
    if not sk.packets_out:
        return state.flag

    # 1. Throw out what makes no sense or is old, remembering where the D-SACK goes.
    stats = sk.sk_net.net_statistics
    blocks: list[tuple[int, int]] = []
    dup_block = -1
    i = 0
    while i + 1 < len(sacks) and i < 8:
        start_seq = sacks[i]
        end_seq = sacks[i + 1]
        dup_sack = i == 0 and found_dup_sack
        i += 2
        if not tcp_is_sackblock_valid(sk, dup_sack, start_seq, end_seq):
            if dup_sack:
                stats[LINUX_MIB_TCPDSACKIGNOREDOLD if sk.undo_marker else LINUX_MIB_TCPDSACKIGNOREDNOUNDO] += 1
            elif ack_seq != sk.snd_una and not after(end_seq, sk.snd_una):
                continue  # an ACK that was overtaken
            else:
                stats[LINUX_MIB_TCPSACKDISCARD] += 1
            continue
        if not after(end_seq, prior_snd_una):
            continue
        if dup_sack:
            dup_block = 0
        blocks.append((start_seq, end_seq))

    # 2. In order of sequence numbers.
    n = len(blocks)
    for i in range(n - 1, 0, -1):
        for j in range(i):
            if after(blocks[j][0], blocks[j + 1][0]):
                blocks[j], blocks[j + 1] = blocks[j + 1], blocks[j]
                if j == dup_block:
                    dup_block = j + 1
                elif j + 1 == dup_block:
                    dup_block = j

    # 3. Tag, skipping what the last ACK told already.
    cache = None if sk.loss_state is None else sk.loss_state.recv_sack_cache
    if not sk.sacked_out or cache is None:
        cache = []
    c = 0
    skb: SkBuff | None = None
    i = 0
    start_seq = end_seq = 0
    if n:
        start_seq, end_seq = blocks[0]
    while i < n:
        dup_sack = i == dup_block
        next_start = next_end = 0
        if dup_block == i + 1:
            next_start, next_end = blocks[i + 1]
        while c < len(cache) and not before(start_seq, cache[c + 1]):
            c += 2
        if c < len(cache) and not dup_sack and after(end_seq, cache[c]):
            cache_start = cache[c]
            cache_end = cache[c + 1]
            if before(start_seq, cache_start):
                # the part before what is known
                skb = tcp_sacktag_skip(sk, skb, start_seq)
                skb = tcp_sacktag_walk(sk, skb, state, start_seq, cache_start, dup_sack, next_start, next_end)
            if not after(end_seq, cache_end):
                i += 1
                if i < n:
                    start_seq, end_seq = blocks[i]
                continue
            if next_start != next_end and before(next_start, cache_end):
                # a D-SACK within what is skipped
                skb = tcp_sacktag_skip(sk, skb, next_start)
                skb = tcp_sacktag_walk(sk, skb, state, next_start, next_end, True, 0, 0)
            if tcp_highest_sack_seq(sk) == cache_end:
                # the part behind begins where the highest SACK ended
                skb = sk.highest_sack
                if skb is None:
                    break
                c += 2
            else:
                skb = tcp_sacktag_skip(sk, skb, cache_end)
                c += 2
                start_seq = cache_end  # go on behind it, perhaps into the next known block
                continue
        else:
            if not before(start_seq, tcp_highest_sack_seq(sk)):
                skb = sk.highest_sack
                if skb is None:
                    break
            skb = tcp_sacktag_skip(sk, skb, start_seq)
        skb = tcp_sacktag_walk(sk, skb, state, start_seq, end_seq, dup_sack, next_start, next_end)
        i += 1
        if i < n:
            start_seq, end_seq = blocks[i]

    # 4. Remember the blocks for the next ACK.
    flat: list[int] = []
    for block in blocks:
        flat.append(block[0])
        flat.append(block[1])
    tcp_loss_state(sk).recv_sack_cache = flat
    if sk.icsk_ca_state != TCP_CA_Loss or sk.undo_marker:
        tcp_check_sack_reordering(sk, state.reord, False)
    return state.flag


# -- SACK and D-SACK, to be sent -------------------------------------------------------------------------------------------


def tcp_sack_reset(sk: TcpSock) -> None:
    sk.rx_opt.num_sacks = 0
    sk.selective_acks = None
    sk.duplicate_sack = None


def tcp_dsack_set(sk: TcpSock, seq: int, end_seq: int) -> None:
    """[seq, end_seq) came twice: say so in the next ACK (RFC 2883)."""
    if sk.rx_opt.sack_ok and sk.sk_net.ipv4.sysctl_tcp_dsack:
        mib = LINUX_MIB_TCPDSACKOLDSENT if before(seq, sk.rcv_nxt) else LINUX_MIB_TCPDSACKOFOSENT
        sk.sk_net.net_statistics[mib] += 1
        sk.duplicate_sack = [seq, end_seq]


def tcp_dsack_extend(sk: TcpSock, seq: int, end_seq: int) -> None:
    block = sk.duplicate_sack
    if block is None:
        tcp_dsack_set(sk, seq, end_seq)
    elif not after(seq, block[1]) and not after(block[0], end_seq):
        if before(seq, block[0]):
            block[0] = seq
        if after(end_seq, block[1]):
            block[1] = end_seq


def tcp_sack_new_ofo_skb(sk: TcpSock, seq: int, end_seq: int) -> None:
    """[seq, end_seq) came out of order: its block, grown by it, is the first of the next ACK (RFC 2018, 4)."""
    sacks = sk.selective_acks
    if sacks is None:
        sk.selective_acks = [seq, end_seq]
        sk.rx_opt.num_sacks = 1
        return
    n = len(sacks)
    i = 0
    while i < n:
        start = sacks[i]
        end = sacks[i + 1]
        if not after(seq, end) and not after(start, end_seq):
            if i >= 2 * _TCP_SACK_BLOCKS_EXPECTED:
                tcp_rcvq.tcp_sack_compress_send_ack(sk)
            if before(seq, start):
                start = seq
            if after(end_seq, end):
                end = end_seq
            del sacks[i : i + 2]
            # It may touch others now.
            j = 0
            while j < len(sacks):
                if not after(sacks[j], end) and not after(start, sacks[j + 1]):
                    if before(sacks[j], start):
                        start = sacks[j]
                    if after(sacks[j + 1], end):
                        end = sacks[j + 1]
                    del sacks[j : j + 2]
                    j = 0
                else:
                    j += 2
            sk.selective_acks = [start, end, *sacks]
            sk.rx_opt.num_sacks = len(sacks) // 2 + 1
            return
        i += 2
    if i >= 2 * _TCP_SACK_BLOCKS_EXPECTED:
        tcp_rcvq.tcp_sack_compress_send_ack(sk)
    sk.selective_acks = [seq, end_seq, *sacks[:6]]
    sk.rx_opt.num_sacks = min(n // 2 + 1, 4)


def tcp_sack_remove(sk: TcpSock) -> None:
    """Blocks that rcv_nxt has reached are told no more."""
    sacks = sk.selective_acks
    if sacks is None or sk.out_of_order_queue is None:
        sk.selective_acks = None
        sk.rx_opt.num_sacks = 0
        return
    left: list[int] = []
    rcv_nxt = sk.rcv_nxt
    i = 0
    while i < len(sacks):
        if before(rcv_nxt, sacks[i]):
            left.append(sacks[i])
            left.append(sacks[i + 1])
        i += 2
    sk.selective_acks = left or None
    sk.rx_opt.num_sacks = len(left) // 2


def tcp_send_dupack(sk: TcpSock, skb: SkBuff) -> None:
    """A segment that is not acceptable: tell the peer where we are."""
    if skb.end_seq != skb.seq and before(skb.seq, sk.rcv_nxt):
        sk.sk_net.net_statistics[LINUX_MIB_DELAYEDACKLOST] += 1
        tcp_rcvq.tcp_enter_quickack_mode(sk, TCP_MAX_QUICKACKS)
        if sk.rx_opt.sack_ok and sk.sk_net.ipv4.sysctl_tcp_dsack:
            end_seq = sk.rcv_nxt if after(skb.end_seq, sk.rcv_nxt) else skb.end_seq
            tcp_dsack_set(sk, skb.seq, end_seq)
    tcp_output.tcp_send_ack(sk)
