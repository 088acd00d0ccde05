"""The LC-trie against a linear scan, its shape, and its answers to changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.trace import TraceProbe
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.ipv4 import fib_frontend, fib_trie
from afinet.net.ipv4.fib_trie import FibTable, KeyVector
from afinet.net.ipv4.ip_fib import FIB_LOOKUP_NOREF, FibConfig, FibResult
from afinet.uapi.errno import EACCES, EAGAIN, EEXIST, EHOSTUNREACH, EINVAL, ENOENT, ESRCH
from afinet.uapi.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from afinet.uapi.rtnetlink import (
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RTN_BLACKHOLE,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from tests.net.ipv4.routing import A, add_dev, boot, ip_route_show

TABLE = 100
ERRORS = {RTN_BLACKHOLE: -EINVAL, RTN_UNREACHABLE: -EHOSTUNREACH, RTN_PROHIBIT: -EACCES, RTN_THROW: -EAGAIN}


def config(
    dst: int,
    plen: int,
    oif: int = 2,
    type: int = RTN_UNICAST,
    metric: int = 0,
    dscp: int = 0,
    nlflags: int = NLM_F_CREATE | NLM_F_EXCL,
    scope: int = RT_SCOPE_LINK,
) -> FibConfig:
    cfg = FibConfig()
    cfg.fc_dst = dst
    cfg.fc_dst_len = plen
    cfg.fc_type = type
    cfg.fc_oif = 0 if type in ERRORS else oif
    cfg.fc_scope = RT_SCOPE_UNIVERSE if type in ERRORS else scope
    cfg.fc_priority = metric
    cfg.fc_dscp = dscp
    cfg.fc_table = TABLE
    cfg.fc_nlflags = nlflags
    return cfg


def lookup(tb: FibTable, daddr: int, oif: int = 0, dscp: int = 0, scope: int = 0) -> tuple[int, FibResult]:
    res = FibResult()
    return fib_trie.fib_table_lookup(tb, Flowi4(daddr=daddr, oif=oif, dscp=dscp, scope=scope), res, FIB_LOOKUP_NOREF), res


def check_shape(tb: FibTable) -> int:
    """Assert the invariants of every node; return how many leaves there are."""

    def walk(n: KeyVector, parent: KeyVector) -> tuple[int, int]:
        assert n.parent is parent
        if n.bits == 0:
            assert n.leaf and n.pos == 0
            assert [fa.fa_slen for fa in n.leaf] == sorted(fa.fa_slen for fa in n.leaf)
            assert n.slen == n.leaf[-1].fa_slen
            return 1, n.slen
        assert len(n.child) == 1 << n.bits
        assert n.key & ((1 << (n.pos + n.bits)) - 1) == 0
        empty = full = leaves = 0
        slen = n.pos
        for i, c in enumerate(n.child):
            if c is None:
                empty += 1
                continue
            assert (c.key ^ n.key) >> n.pos == i
            if c.bits and c.pos + c.bits == n.pos:
                full += 1
            count, below = walk(c, n)
            leaves += count
            slen = max(slen, below)
        assert (n.empty_children, n.full_children) == (empty, full)
        assert n.slen == slen
        return leaves, slen

    root = tb.trie.child[0]
    return 0 if root is None else walk(root, tb.trie)[0]


@dataclass
class Scan:
    """The model: a list of (plen, dscp, metric, prefix, type, oif, scope), best first when sorted as the kernel orders."""

    routes: list[tuple[int, int, int, int, int, int, int]] = field(default_factory=list)

    def find(self, prefix: int, plen: int, dscp: int, metric: int) -> int:
        for i, r in enumerate(self.routes):
            if (r[0], r[1], r[2], r[3]) == (plen, dscp, metric, prefix):
                return i
        return -1

    def lookup(self, daddr: int, oif: int, dscp: int, scope: int) -> tuple[int, tuple[int, ...] | None]:
        for r in sorted(self.routes, key=lambda r: (-r[0], -r[1], r[2])):
            plen, rdscp, _metric, prefix, type, roif, rscope = r
            if plen and (daddr ^ prefix) >> (32 - plen):
                continue
            if (rdscp and rdscp != dscp & 0x1C) or rscope < scope:
                continue
            if type in ERRORS:
                return ERRORS[type], None
            if oif and oif != roif:
                continue
            return 0, r
        return -EAGAIN, None


NET = boot()
OIFS = [add_dev(NET, "e0").ifindex, add_dev(NET, "e1").ifindex]

# Few distinct prefixes, so that routes nest, share leaves and meet again; and some far away.
lengths = st.sampled_from([0, 0, 1, 4, 8, 15, 16, 17, 23, 24, 25, 30, 31, 32, 32])
addresses = st.one_of(
    st.integers(0, 15).map(lambda i: 0x0A000000 + i),
    st.integers(0, 255).map(lambda i: 0x0A000000 + (i << 12)),
    st.integers(0, 0xFFFFFFFF),
)
types = st.sampled_from([RTN_UNICAST] * 6 + [RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW])


@st.composite
def operations(draw: st.DrawFn) -> list[tuple[bool, int, int, int, int, int, int, int]]:
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from([True, True, True, False]),
                addresses,
                lengths,
                types,
                st.sampled_from([0, 0, 4, 8, 0x10]),
                st.sampled_from([0, 0, 0, 100, 200]),
                st.sampled_from(OIFS),
                st.sampled_from([RT_SCOPE_LINK, RT_SCOPE_UNIVERSE]),
            ),
            max_size=60,
        )
    )


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    operations(),
    st.lists(st.tuples(addresses, st.sampled_from([0, 0, *OIFS]), st.sampled_from([0, 4, 8, 0x10, 0xE4]),
                       st.sampled_from([0, 0, RT_SCOPE_LINK])), max_size=30),
)  # fmt: skip
def test_any_sequence_of_changes_answers_as_a_linear_scan(
    ops: list[tuple[bool, int, int, int, int, int, int, int]], queries: list[tuple[int, int, int, int]]
) -> None:
    net = NET
    tb = FibTable(net, TABLE, None)
    model = Scan()
    for add, addr, plen, type, dscp, metric, oif, scope in ops:
        prefix = addr >> (32 - plen) << (32 - plen)
        at = model.find(prefix, plen, dscp, metric)
        if add:
            cfg = config(prefix, plen, oif, type, metric, dscp, scope=scope)
            err = fib_trie.fib_table_insert(net, tb, cfg)
            assert err == (0 if at < 0 else -EEXIST)
            if at < 0:
                model.routes.append((plen, dscp, metric, prefix, type, 0 if type in ERRORS else oif, cfg.fc_scope))
        else:
            cfg = config(prefix, plen, 0, 0, metric, dscp)
            cfg.fc_scope = RT_SCOPE_NOWHERE
            err = fib_trie.fib_table_delete(net, tb, cfg)
            # A metric of 0 in a deletion means any: the lowest goes first.
            if metric == 0:
                same = [r for r in model.routes if (r[0], r[1], r[3]) == (plen, dscp, prefix)]
                at = model.routes.index(min(same, key=lambda r: r[2])) if same else -1
            assert err == (0 if at >= 0 else -ESRCH)
            if at >= 0:
                del model.routes[at]
    assert check_shape(tb) == len({r[3] for r in model.routes})
    for daddr, oif, dscp, scope in queries + [(r[3] ^ bit, 0, 0, 0) for r in model.routes for bit in (0, 1, 256)]:
        err, res = lookup(tb, daddr, oif, dscp, scope)
        want, route = model.lookup(daddr, oif, dscp, scope)
        assert err == want, hex(daddr)
        if route is not None:
            assert res.fi is not None and res.nhc is not None
            assert (res.prefix, res.prefixlen, res.type, res.scope) == (route[3], route[0], route[4], route[6])
            assert (res.dscp, res.fi.fib_priority, res.nhc.nhc_oif) == (route[1], route[2], route[5])
    # Away with all of it: the trie is empty again, and no info is left behind.
    for plen, dscp, metric, prefix, type, _oif, _scope in model.routes:
        cfg = config(prefix, plen, 0, type, metric, dscp)
        cfg.fc_scope = RT_SCOPE_NOWHERE
        assert fib_trie.fib_table_delete(net, tb, cfg) == 0
    assert tb.trie.child[0] is None
    assert tb.tb_num_default == 0


def test_twenty_thousand_prefixes_make_a_shallow_trie_and_all_are_found() -> None:
    net = boot()
    oif = add_dev(net, "e0").ifindex
    tb = FibTable(net, TABLE, None)
    prefixes: dict[int, int] = {}
    x = 12345
    while len(prefixes) < 20_000:
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        plen = 16 + x % 9
        prefix = (x * 2654435761 & 0xFFFFFFFF) >> (32 - plen) << (32 - plen)
        prefixes.setdefault(prefix, plen)
    for prefix, plen in prefixes.items():
        assert fib_trie.fib_table_insert(net, tb, config(prefix, plen, oif)) == 0
    assert check_shape(tb) == len(prefixes)
    deepest = 0
    stack = [(tb.trie.child[0], 1)]
    while stack:
        n, depth = stack.pop()
        if n is None:
            continue
        deepest = max(deepest, depth)
        stack.extend((c, depth + 1) for c in n.child)
    assert deepest <= 8
    for prefix, plen in prefixes.items():
        err, res = lookup(tb, prefix | ((1 << (32 - plen)) - 1))
        assert err == 0 and res.prefixlen >= plen
    # They share their meaning: one info for all.
    assert sum(len(v) for v in net.ipv4.fib.fib_info_hash.values()) == net.ipv4.fib.fib_info_cnt
    info = res.fi
    assert info is not None and info.fib_treeref == len(prefixes)
    for prefix, plen in prefixes.items():
        assert fib_trie.fib_table_delete(net, tb, config(prefix, plen, oif)) == 0
    assert tb.trie.child[0] is None


def table() -> tuple[Net, FibTable]:
    net = boot()
    add_dev(net, "e0")
    add_dev(net, "e1")
    return net, fib_frontend.fib_new_table(net, TABLE)


def test_a_prefix_with_bits_beyond_its_length_is_refused() -> None:
    net, tb = table()
    cfg = config(A("10.0.0.1"), 24)
    assert fib_trie.fib_table_insert(net, tb, cfg) == -EINVAL
    assert cfg.extack == "Invalid prefix for given prefix length"
    assert fib_trie.fib_table_insert(net, tb, config(A("10.0.0.0"), 33)) == -EINVAL
    assert fib_trie.fib_table_delete(net, tb, config(A("10.0.0.1"), 24)) == -EINVAL


def test_replace_append_and_prepend_keep_linux_order() -> None:
    net, tb = table()
    ten = A("10.0.0.0")
    assert fib_trie.fib_table_insert(net, tb, config(ten, 8, 2)) == 0
    assert fib_trie.fib_table_insert(net, tb, config(ten, 8, 3)) == -EEXIST
    # append: behind; prepend (neither EXCL nor APPEND nor REPLACE): before
    assert fib_trie.fib_table_insert(net, tb, config(ten, 8, 3, nlflags=NLM_F_CREATE | NLM_F_APPEND)) == 0
    assert ip_route_show(net, TABLE) == ["10.0.0.0/8 dev e0 scope link", "10.0.0.0/8 dev e1 scope link"]
    assert fib_trie.fib_table_insert(net, tb, config(ten, 8, 3, nlflags=NLM_F_CREATE | NLM_F_APPEND)) == -EEXIST
    cfg = config(ten, 8, type=RTN_BLACKHOLE, nlflags=NLM_F_CREATE)
    assert fib_trie.fib_table_insert(net, tb, cfg) == 0
    assert ip_route_show(net, TABLE)[0] == "blackhole 10.0.0.0/8"
    # replace: the first gives way, unless the new one is there already, further behind
    replace = NLM_F_CREATE | NLM_F_REPLACE
    assert fib_trie.fib_table_insert(net, tb, config(ten, 8, 3, nlflags=replace)) == -EEXIST
    assert fib_trie.fib_table_insert(net, tb, config(ten, 8, type=RTN_PROHIBIT, nlflags=replace)) == 0
    assert ip_route_show(net, TABLE)[0] == "prohibit 10.0.0.0/8"
    assert fib_trie.fib_table_insert(net, tb, config(ten, 8, type=RTN_PROHIBIT, nlflags=replace)) == 0
    assert len(ip_route_show(net, TABLE)) == 3
    # change (REPLACE without CREATE) needs something to change
    assert fib_trie.fib_table_insert(net, tb, config(ten, 16, 3, nlflags=NLM_F_REPLACE)) == -ENOENT


def test_a_deletion_takes_the_first_route_that_has_what_it_names() -> None:
    net, tb = table()
    ten = A("10.0.0.0")
    for oif, metric in ((2, 10), (3, 10), (2, 20)):
        cfg = config(ten, 8, oif, metric=metric, nlflags=NLM_F_CREATE | NLM_F_APPEND)
        assert fib_trie.fib_table_insert(net, tb, cfg) == 0
    delete = config(ten, 8, 3)
    assert fib_trie.fib_table_delete(net, tb, delete) == 0
    assert ip_route_show(net, TABLE) == [
        "10.0.0.0/8 dev e0 scope link metric 10",
        "10.0.0.0/8 dev e0 scope link metric 20",
    ]
    assert fib_trie.fib_table_delete(net, tb, delete) == -ESRCH
    assert fib_trie.fib_table_delete(net, tb, config(ten, 8, 0, metric=20)) == 0
    assert fib_trie.fib_table_delete(net, tb, config(ten, 8, 0, type=RTN_BLACKHOLE)) == -ESRCH
    assert fib_trie.fib_table_delete(net, tb, config(ten, 8, 0, dscp=4)) == -ESRCH
    assert fib_trie.fib_table_delete(net, tb, config(ten, 8, 0)) == 0


def test_local_and_main_share_a_trie_until_they_are_unmerged() -> None:
    net = boot()
    add_dev(net, "e0", "10.0.0.1/24")
    local, main = net.ipv4.fib.tables[255], net.ipv4.fib.tables[254]
    assert local.trie is main.trie
    before = ip_route_show(net, 255), ip_route_show(net, 254)
    fib_frontend.fib_unmerge(net)
    local, main = net.ipv4.fib.tables[255], net.ipv4.fib.tables[254]
    assert local.trie is not main.trie
    assert (ip_route_show(net, 255), ip_route_show(net, 254)) == before
    assert check_shape(local) and check_shape(main) == 1
    err, _ = lookup(main, A("10.0.0.1"))
    assert err == 0
    err, _ = lookup(local, A("10.0.0.9"))
    assert err == -EAGAIN


class Log(TraceProbe):
    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []

    def probe(self, kernel: object, name: str, fields: dict[str, object]) -> None:
        self.seen.append(fields)


def test_the_tracepoint_tells_what_was_found_and_what_was_not() -> None:
    net, tb = table()
    assert fib_trie.fib_table_insert(net, tb, config(A("10.0.0.0"), 8)) == 0
    assert fib_trie.fib_table_insert(net, tb, config(A("11.0.0.0"), 8, type=RTN_PROHIBIT)) == 0
    log = Log()
    net.kernel.trace.register("fib:fib_table_lookup", log)
    lookup(tb, A("10.1.1.1"))
    lookup(tb, A("11.1.1.1"))
    lookup(tb, A("12.1.1.1"))
    assert [(f["err"], f["dev"]) for f in log.seen] == [(0, "e0"), (-EACCES, "-"), (-EAGAIN, "-")]
    assert log.seen[0]["tb_id"] == TABLE
    net.kernel.trace.unregister("fib:fib_table_lookup", log)
    lookup(tb, A("10.1.1.1"))
    assert len(log.seen) == 3
