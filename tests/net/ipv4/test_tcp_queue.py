"""The ordered queues against a plain list, and the windowed minimum against the whole history."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.win_minmax import minmax_get, minmax_reset, minmax_running_max, minmax_running_min
from afinet.net.core.skbuff import SkBuff
from afinet.net.ipv4.tcp_queue import TcpSkbQueue, TsortedQueue
from afinet.net.ipv4.tcp_sock import TCPCB_LOST, TCPCB_SACKED_ACKED


def segment(seq: int, size: int) -> SkBuff:
    skb = SkBuff(b"", None, 0, 0)
    skb.seq = seq & 0xFFFFFFFF
    skb.end_seq = (seq + size) & 0xFFFFFFFF
    return skb


def in_order(q: TcpSkbQueue) -> list[int]:
    out = []
    skb = q.head
    prev = None
    while skb is not None:
        assert skb.prev is prev
        out.append(skb.seq)
        prev = skb
        skb = skb.next
    assert q.tail is prev
    return out


steps = st.lists(
    st.tuples(st.sampled_from(["append", "pop", "insert", "unlink", "find", "front"]), st.integers(0, 10_000)), max_size=200
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps, st.sampled_from([1000, 0xFFFFFF00, 0x7FFFFFF0]))
def test_the_queue_is_a_list_in_order_of_sequence_numbers(todo: list[tuple[str, int]], start: int) -> None:
    q = TcpSkbQueue()
    model: list[SkBuff] = []
    low = start
    end = start
    for what, arg in todo:
        if what == "append":
            skb = segment(end, 10)
            end += 20
            q.append(skb)
            model.append(skb)
        elif what == "front" and model:
            low = ((model[0].seq - start + 0x80000000) & 0xFFFFFFFF) - 0x80000000 + start - 20
            skb = segment(low, 10)
            q.insert_head(skb)
            model.insert(0, skb)
        elif not model:
            assert q.head is None and q.find(start) is None
        elif what == "pop":
            q.pop_head()
            model.pop(0)
        elif what == "insert":
            i = arg % len(model)
            skb = segment(model[i].seq + 5, 5)
            model[i].end_seq = skb.seq
            if model[i].end_seq == model[i].seq:
                continue
            q.insert_after(model[i], skb)
            model.insert(i + 1, skb)
        elif what == "unlink":
            q.unlink(model.pop(arg % len(model)))
        else:
            probe = (model[arg % len(model)].seq + arg % 25 - 3) & 0xFFFFFFFF
            expected = [s for s in model if (probe - s.seq) & 0xFFFFFFFF < (s.end_seq - s.seq) & 0xFFFFFFFF]
            assert q.find(probe) is (expected[0] if expected else None)
        assert in_order(q) == [s.seq for s in model]
        if not model:
            end = start


def test_the_tsorted_queue_holds_what_may_be_lost_in_the_order_it_was_sent() -> None:
    q = TcpSkbQueue()
    skbs = [segment(i * 10, 10) for i in range(6)]
    for i, skb in enumerate(skbs):
        skb.tstamp = 100 + i
        skb.gso_segs = 1
        q.append(skb)
    skbs[0].tstamp = 200  # sent again
    skbs[2].sacked = TCPCB_SACKED_ACKED
    skbs[3].sacked = TCPCB_LOST
    t = TsortedQueue(q)

    def order() -> list[int]:
        out = []
        node = t.head
        while node is not None:
            out.append(node.skb.seq // 10)
            node = node.next
        return out

    assert order() == [1, 4, 5, 0]
    t.move_tail(skbs[4])
    t.remove(skbs[1])
    t.remove(skbs[1])
    t.insert_after(skbs[5], segment(55, 5))
    assert order() == [5, 5, 0, 4]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 1000)), min_size=1, max_size=60))
def test_the_windowed_minimum_is_never_below_the_true_one_and_ages_out(samples: list[tuple[int, int]]) -> None:
    win = 100
    t = 0
    seen: list[tuple[int, int]] = []
    low = minmax_reset(0, samples[0][1])
    high = minmax_reset(0, samples[0][1])
    seen.append((0, samples[0][1]))
    for step, value in samples[1:]:
        t += step
        seen.append((t, value))
        low = minmax_running_min(low, win, t, value)
        high = minmax_running_max(high, win, t, value)
        m, n = minmax_get(low), minmax_get(high)
        recent = [v for when, v in seen if t - when <= win]
        assert min(recent) <= m <= value or m in recent
        assert value <= n
        assert m in [v for _, v in seen] and n in [v for _, v in seen]
        assert m >= min(recent) and n <= max(recent)
