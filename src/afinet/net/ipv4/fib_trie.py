"""net/ipv4/fib_trie.c: the FIB, a level-compressed trie of prefixes (Nilsson and Karlsson, "IP-address lookup using LC-tries").

A node is a `KeyVector`. An inner node (tnode) looks at `bits` bits of the address from bit `pos` up and has 2**bits children;
bits that all its routes share are skipped and checked afterwards. A leaf holds the routes (`FibAlias`) of one address value with
any prefix length that leaves no bits outside it. Nodes double (`inflate`) while they are full enough, halve when they are not:
a lookup in a full Internet table passes four or five nodes.

Lookup (`fib_table_lookup`): 1. go down by the address's bits; 2. at a mismatch or an empty child back up, clearing the lowest bit
of the index, which leads to the next shorter prefix; `slen` (the longest suffix, 32 - prefix length, below a node) spares what
cannot match; 3. at a leaf try its aliases in order: longest prefix, larger table id, larger DSCP, lower metric; one that does
not fit (scope, dead next hop, other device) sends us back to step 2.

While there are no policy rules the tables local and main share one trie (`FibTable.trie`), so that one lookup serves both;
`fib_trie_unmerge` separates them.

Left out: notifiers for offload, `fib_info_notify`, netlink dumps (fib_table_dump gives the routes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.ipv4 import fib_semantics, route
from afinet.net.ipv4.ip_fib import FIB_LOOKUP_IGNORE_LINKSTATE, FIB_LOOKUP_NOREF, RT_DSCP_MASK
from afinet.uapi.errno import EAGAIN, EEXIST, EINVAL, ENOENT, ESRCH
from afinet.uapi.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from afinet.uapi.rtnetlink import RT_SCOPE_NOWHERE, RTN_BLACKHOLE, RTNH_F_DEAD, RTNH_F_LINKDOWN

if TYPE_CHECKING:
    from afinet.net.core.flow import Flowi4
    from afinet.net.core.net_namespace import Net
    from afinet.net.ipv4.ip_fib import FibConfig, FibInfo, FibNh, FibResult

KEYLENGTH: Final = 32

# Percentages of children in use (those that are full inner nodes count twice) above which a node doubles, and below which it
# halves. The root may be emptier: every lookup passes it.
HALVE_THRESHOLD: Final = 25
INFLATE_THRESHOLD: Final = 50
HALVE_THRESHOLD_ROOT: Final = 15
INFLATE_THRESHOLD_ROOT: Final = 30
MAX_WORK: Final = 10


class FibAlias:
    """struct fib_alias: one route of a leaf. `fa_slen` is 32 minus the prefix length."""

    __slots__ = ("fa_default", "fa_dscp", "fa_info", "fa_slen", "fa_type", "tb_id")

    def __init__(self, fa_info: FibInfo, fa_slen: int, fa_dscp: int, fa_type: int, tb_id: int) -> None:
        self.fa_info: FibInfo = fa_info
        self.fa_slen: int = fa_slen
        self.fa_dscp: int = fa_dscp  # the DS field with its two low bits clear
        self.fa_type: int = fa_type  # RTN_*
        self.tb_id: int = tb_id
        self.fa_default: int = -1  # which of several default routes is in use (fib_select_default)


class KeyVector:
    """struct key_vector. `bits` is 0 in a leaf and in the trie's anchor, whose `pos` is 32 and whose only child is the root."""

    __slots__ = ("bits", "child", "empty_children", "full_children", "key", "leaf", "parent", "pos", "slen")

    def __init__(self, key: int, pos: int, bits: int, slen: int) -> None:
        self.key: int = key
        self.pos: int = pos
        self.bits: int = bits
        self.slen: int = slen  # the longest suffix below; at least pos in an inner node
        self.parent: KeyVector | None = None
        self.leaf: list[FibAlias] = []
        self.child: list[KeyVector | None] = []
        self.empty_children: int = 0
        self.full_children: int = 0  # inner nodes that skip no bits: what doubling this node would dissolve


class FibTable:
    """struct fib_table with its struct trie: the `trie` is another table's if the two are merged."""

    __slots__ = ("net", "tb_id", "tb_num_default", "trie")

    def __init__(self, net: Net, tb_id: int, alias: FibTable | None) -> None:
        self.net: Net = net
        self.tb_id: int = tb_id
        self.tb_num_default: int = 0
        self.trie: KeyVector = trie_new() if alias is None else alias.trie


def trie_new() -> KeyVector:
    anchor = KeyVector(0, KEYLENGTH, 0, KEYLENGTH)
    anchor.child = [None]
    return anchor


# -- nodes ---------------------------------------------------------------------------------------------------------------------


def tnode_new(key: int, pos: int, bits: int) -> KeyVector:
    shift = pos + bits
    tn = KeyVector(key >> shift << shift, pos, bits, pos)
    tn.child = [None] * (1 << bits)
    tn.empty_children = 1 << bits
    return tn


def leaf_new(key: int, fa: FibAlias) -> KeyVector:
    leaf = KeyVector(key, 0, 0, fa.fa_slen)
    leaf.leaf = [fa]
    return leaf


def get_index(key: int, kv: KeyVector) -> int:
    """The child of `kv` that `key` belongs to; 0 in the anchor. A value of 2**bits or more: the skipped bits differ."""
    return (key ^ kv.key) >> kv.pos


def tnode_full(tn: KeyVector, n: KeyVector | None) -> bool:
    """Whether `n` is an inner node right below `tn`, without skipped bits."""
    return n is not None and n.bits > 0 and n.pos + n.bits == tn.pos


def put_child(tn: KeyVector, i: int, n: KeyVector | None) -> None:
    """Set a child, with the counts and the suffix of `tn` kept right."""
    old = tn.child[i]
    if n is None:
        if old is not None:
            tn.empty_children += 1
    elif old is None:
        tn.empty_children -= 1
    wasfull = tnode_full(tn, old)
    isfull = tnode_full(tn, n)
    if wasfull and not isfull:
        tn.full_children -= 1
    elif isfull and not wasfull:
        tn.full_children += 1
    if n is not None:
        if tn.slen < n.slen:
            tn.slen = n.slen
        n.parent = tn
    tn.child[i] = n


def node_parent(n: KeyVector) -> KeyVector:
    tp = n.parent
    assert tp is not None
    return tp


def put_child_root(tp: KeyVector, key: int, n: KeyVector | None) -> None:
    """Set the child of `tp` that `key` belongs to, be `tp` an inner node or the anchor."""
    if tp.bits:
        put_child(tp, get_index(key, tp), n)
    else:
        tp.child[0] = n
        if n is not None:
            n.parent = tp


# -- keeping the shape ---------------------------------------------------------------------------------------------------------


def update_suffix(tn: KeyVector) -> int:
    """Compute `slen` anew from the children. A child with index i can hold a suffix longer than pos only where i is even, and
    one longer by k more only where i is a multiple of 2**k: hence the stride."""
    slen = tn.pos
    slen_max = min(tn.pos + tn.bits - 1, tn.slen)
    stride = 2
    i = 0
    size = 1 << tn.bits
    while i < size:
        n = tn.child[i]
        if n is not None and n.slen > slen:
            stride <<= n.slen - slen
            slen = n.slen
            i &= ~(stride - 1)
            if slen >= slen_max:
                break
        i += stride
    tn.slen = slen
    return slen


def node_pull_suffix(tn: KeyVector, slen: int) -> None:
    """A route with a long suffix has gone from below `tn`, where `slen` is what is left: up, as long as that changes something."""
    node_slen = tn.slen
    while node_slen > tn.pos and node_slen > slen:
        slen = update_suffix(tn)
        if slen == node_slen:
            return
        tn = node_parent(tn)
        node_slen = tn.slen


def node_push_suffix(tn: KeyVector, slen: int) -> None:
    """A route with suffix `slen` has come below `tn`. The anchor's is 32, so the way up ends there."""
    while tn.slen < slen:
        tn.slen = slen
        tn = node_parent(tn)


def replace(oldtnode: KeyVector, tn: KeyVector) -> KeyVector:
    """Put `tn` where `oldtnode` was; look at its full children anew. Returns the parent."""
    tp = node_parent(oldtnode)
    put_child_root(tp, tn.key, tn)
    for i in range((1 << tn.bits) - 1, -1, -1):
        inode = tn.child[i]
        if inode is not None and tnode_full(tn, inode):
            resize(inode)
    return tp


def inflate(oldtnode: KeyVector) -> KeyVector:
    """Double a node: its children's top bits become its own."""
    tn = tnode_new(oldtnode.key, oldtnode.pos - 1, oldtnode.bits + 1)
    m = 1 << tn.pos
    for i in range((1 << oldtnode.bits) - 1, -1, -1):
        inode = oldtnode.child[i]
        if inode is None:
            continue
        if not tnode_full(oldtnode, inode):
            # A leaf, or an inner node that skips the bit: it moves as it is.
            put_child(tn, get_index(inode.key, tn), inode)
            continue
        if inode.bits == 1:
            put_child(tn, 2 * i + 1, inode.child[1])
            put_child(tn, 2 * i, inode.child[0])
            continue
        # A larger one is cut in two by its top bit, which `tn` now looks at.
        node1 = tnode_new(inode.key | m, inode.pos, inode.bits - 1)
        node0 = tnode_new(inode.key, inode.pos, inode.bits - 1)
        half = 1 << node0.bits
        for j in range(half - 1, -1, -1):
            put_child(node1, j, inode.child[half + j])
            put_child(node0, j, inode.child[j])
        put_child(tn, 2 * i + 1, node1)
        put_child(tn, 2 * i, node0)
    return replace(oldtnode, tn)


def halve(oldtnode: KeyVector) -> KeyVector:
    """Halve a node: pairs of children go below nodes of one bit."""
    tn = tnode_new(oldtnode.key, oldtnode.pos + 1, oldtnode.bits - 1)
    for i in range((1 << oldtnode.bits) - 2, -1, -2):
        node1 = oldtnode.child[i + 1]
        node0 = oldtnode.child[i]
        if node1 is None or node0 is None:
            only = node1 if node1 is not None else node0
            if only is not None:
                put_child(tn, i >> 1, only)
            continue
        inode = tnode_new(node0.key, oldtnode.pos, 1)
        put_child(inode, 1, node1)
        put_child(inode, 0, node0)
        put_child(tn, i >> 1, inode)
    return replace(oldtnode, tn)


def collapse(oldtnode: KeyVector) -> KeyVector:
    """A node with one child is only skipped bits."""
    n: KeyVector | None = None
    for child in oldtnode.child:
        if child is not None:
            n = child
            break
    tp = node_parent(oldtnode)
    put_child_root(tp, oldtnode.key, n)
    return tp


def should_inflate(tp: KeyVector, tn: KeyVector) -> bool:
    size = 1 << tn.bits
    threshold = size * (INFLATE_THRESHOLD if tp.bits else INFLATE_THRESHOLD_ROOT)
    used = size - tn.empty_children + tn.full_children
    return used > 1 and tn.pos > 0 and 50 * used >= threshold


def should_halve(tp: KeyVector, tn: KeyVector) -> bool:
    size = 1 << tn.bits
    threshold = size * (HALVE_THRESHOLD if tp.bits else HALVE_THRESHOLD_ROOT)
    used = size - tn.empty_children
    return used > 1 and tn.bits > 1 and 100 * used < threshold


def should_collapse(tn: KeyVector) -> bool:
    return (1 << tn.bits) - tn.empty_children < 2


def resize(tn: KeyVector) -> KeyVector:
    """Give the node the size its filling deserves. Returns what is above it afterwards."""
    tp = node_parent(tn)
    cindex = get_index(tn.key, tp)
    max_work = MAX_WORK
    while max_work and should_inflate(tp, tn):
        tp = inflate(tn)
        max_work -= 1
        grown = tp.child[cindex]
        assert grown is not None
        tn = grown
    if max_work != MAX_WORK:
        return node_parent(tn)
    while max_work and should_halve(tp, tn):
        tp = halve(tn)
        max_work -= 1
        shrunk = tp.child[cindex]
        assert shrunk is not None
        tn = shrunk
    if should_collapse(tn):
        return collapse(tn)
    return node_parent(tn)


def trie_rebalance(tn: KeyVector) -> None:
    while tn.bits:
        tn = resize(tn)


# -- finding -------------------------------------------------------------------------------------------------------------------


def fib_find_node(trie: KeyVector, key: int) -> tuple[KeyVector | None, KeyVector]:
    """The leaf of exactly `key`, or None; and the node under which it is or would be."""
    tp = trie
    n = trie.child[0]
    while n is not None:
        index = (key ^ n.key) >> n.pos
        if index >= 1 << n.bits:
            return None, tp
        if n.bits == 0:
            return n, tp
        tp = n
        n = n.child[index]
    return None, tp


def fib_find_alias(leaf: list[FibAlias], slen: int, dscp: int, prio: int, tb_id: int) -> int:
    """The place of the first alias with this prefix length and table whose (DSCP, metric) is not before the given; -1: none."""
    for i, fa in enumerate(leaf):
        if fa.fa_slen >= slen:
            if fa.fa_slen != slen:
                return -1
            if fa.tb_id <= tb_id:
                if fa.tb_id != tb_id:
                    return -1
                if fa.fa_dscp <= dscp and (fa.fa_info.fib_priority >= prio or fa.fa_dscp < dscp):
                    return i
    return -1


# -- lookup --------------------------------------------------------------------------------------------------------------------


def fib_lookup_good_nhc(nhc: FibNh, fib_flags: int, flp: Flowi4) -> bool:
    """Whether a packet of this flow may take the next hop."""
    flags = nhc.nhc_flags
    if flags:
        if flags & RTNH_F_DEAD:
            return False
        if flags & RTNH_F_LINKDOWN and not fib_flags & FIB_LOOKUP_IGNORE_LINKSTATE and fib_semantics.ip_ignore_linkdown(nhc):
            return False
    oif = flp.flowi4_oif
    return oif == 0 or oif == nhc.nhc_oif


def fib_table_lookup(tb: FibTable, flp: Flowi4, res: FibResult, fib_flags: int) -> int:
    """Fill `res` with the best route for the flow. 0; -EAGAIN: this table has none, or says to look in the next one (throw);
    -EINVAL (blackhole), -EHOSTUNREACH (unreachable), -EACCES (prohibit)."""
    key = flp.daddr
    pn = tb.trie
    cindex = 0
    n = pn.child[0]
    exact = True  # step 1; False: only shorter prefixes can match (step 2)
    while True:
        if exact:
            while n is not None:
                index = (key ^ n.key) >> n.pos
                if index >> n.bits:
                    exact = False
                    break
                if n.bits == 0:
                    break
                # Remember the way back only where shorter prefixes are below.
                if n.slen > n.pos:
                    pn = n
                    cindex = index
                n = n.child[index]
        if not exact and n is not None:
            # Step 2: down by the zero children, as long as the node's own prefix matches the address.
            while n is not None:
                prefix = n.key
                if n.slen == n.pos or (key ^ prefix) & (prefix | -prefix) & 0xFFFFFFFF:
                    n = None
                elif n.bits == 0:
                    break
                else:
                    n = n.child[0]
                    if n is None:
                        break
        if n is not None:
            # Step 3
            diff = key ^ n.key
            for fa in n.leaf:
                if diff >> fa.fa_slen:
                    continue
                if fa.fa_dscp and fa.fa_dscp != flp.flowi4_dscp & RT_DSCP_MASK:
                    continue
                fi = fa.fa_info
                if fi.fib_dead or fi.fib_scope < flp.flowi4_scope:
                    continue
                if fa.fa_type >= RTN_BLACKHOLE:
                    err = fib_semantics.fib_error(fa.fa_type)
                    if tb.net.kernel.trace.fib_table_lookup:
                        trace_fib_table_lookup(tb, flp, None, err)
                    return err
                if fi.fib_flags & RTNH_F_DEAD:
                    continue
                for nhsel, nhc in enumerate(fi.fib_nh):
                    if fib_lookup_good_nhc(nhc, fib_flags, flp):
                        if not fib_flags & FIB_LOOKUP_NOREF:
                            fi.fib_clntref += 1
                        res.prefix = n.key
                        res.prefixlen = KEYLENGTH - fa.fa_slen
                        res.nh_sel = nhsel
                        res.nhc = nhc
                        res.type = fa.fa_type
                        res.scope = fi.fib_scope
                        res.dscp = fa.fa_dscp
                        res.fi = fi
                        res.table = tb
                        res.fa_head = n.leaf
                        if tb.net.kernel.trace.fib_table_lookup:
                            trace_fib_table_lookup(tb, flp, nhc, 0)
                        return 0
        # Back: the next shorter prefix is where the lowest set bit of the index is cleared; at 0 one level up.
        exact = False
        while cindex == 0:
            if pn.pos >= KEYLENGTH:
                if tb.net.kernel.trace.fib_table_lookup:
                    trace_fib_table_lookup(tb, flp, None, -EAGAIN)
                return -EAGAIN
            pkey = pn.key
            parent = pn.parent
            assert parent is not None
            pn = parent
            cindex = (pkey ^ pn.key) >> pn.pos if pn.pos < KEYLENGTH else 0
        cindex &= cindex - 1
        n = pn.child[cindex]


def trace_fib_table_lookup(tb: FibTable, flp: Flowi4, nhc: FibNh | None, err: int) -> None:
    dev = None if nhc is None else nhc.nhc_dev
    tb.net.kernel.trace.fire(
        "fib:fib_table_lookup",
        {
            "tb_id": tb.tb_id,
            "err": err,
            "oif": flp.flowi4_oif,
            "iif": flp.flowi4_iif,
            "tos": flp.flowi4_dscp,
            "scope": flp.flowi4_scope,
            "src": flp.saddr,
            "dst": flp.daddr,
            "gw4": 0 if nhc is None else nhc.nhc_gw,
            "dev": "-" if dev is None else dev.name,
        },
    )


# -- changing ------------------------------------------------------------------------------------------------------------------


def fib_valid_key_len(key: int, plen: int) -> bool:
    """A prefix is at most 32 bits long and has no bits beyond its length."""
    return 0 <= plen <= KEYLENGTH and (plen == KEYLENGTH or (key << plen) & 0xFFFFFFFF == 0)


def fib_insert_node(tp: KeyVector, new: FibAlias, key: int) -> None:
    """A leaf for a key that has none yet, below `tp`."""
    leaf = leaf_new(key, new)
    n = tp.child[get_index(key, tp)] if tp.bits else tp.child[0]
    if n is not None:
        # Something with other bits is there: a node of one bit, where they first differ, holds both.
        tn = tnode_new(key, (key ^ n.key).bit_length() - 1, 1)
        put_child_root(tp, key, tn)
        put_child(tn, get_index(key, tn) ^ 1, n)
        node_push_suffix(tp, tn.slen)
        tp = tn
    node_push_suffix(tp, new.fa_slen)
    put_child_root(tp, key, leaf)
    trie_rebalance(tp)


def fib_insert_alias(tp: KeyVector, leaf: KeyVector | None, new: FibAlias, place: int, key: int) -> None:
    """Put `new` at `place` of the leaf; -1: behind all of its prefix length and table."""
    if leaf is None:
        fib_insert_node(tp, new, key)
        return
    if place < 0:
        place = 0
        for fa in leaf.leaf:
            if new.fa_slen < fa.fa_slen or (new.fa_slen == fa.fa_slen and new.tb_id > fa.tb_id):
                break
            place += 1
    leaf.leaf.insert(place, new)
    if leaf.slen < new.fa_slen:
        leaf.slen = new.fa_slen
        node_push_suffix(tp, new.fa_slen)


def fib_remove_alias(tp: KeyVector, leaf: KeyVector, place: int) -> None:
    last = place == len(leaf.leaf) - 1
    del leaf.leaf[place]
    if not leaf.leaf:
        put_child_root(tp, leaf.key, None)
        if tp.slen == leaf.slen:
            node_pull_suffix(tp, tp.pos)
        trie_rebalance(tp)
    elif last:
        # The longest suffix is last in a leaf.
        leaf.slen = leaf.leaf[-1].fa_slen
        node_pull_suffix(tp, leaf.slen)


def fib_table_insert(net: Net, tb: FibTable, cfg: FibConfig) -> int:
    """RTM_NEWROUTE in this table. 0; -EINVAL, -EEXIST, -ENOENT (nothing to replace), and fib_create_info's errors."""
    key = cfg.fc_dst
    plen = cfg.fc_dst_len
    if not fib_valid_key_len(key, plen):
        cfg.extack = "Invalid prefix length" if plen > KEYLENGTH else "Invalid prefix for given prefix length"
        return -EINVAL
    err, fi = fib_semantics.fib_create_info(net, cfg)
    if fi is None:
        return err
    slen = KEYLENGTH - plen
    dscp = cfg.fc_dscp
    nlflags = cfg.fc_nlflags
    trie = tb.trie
    leaf, tp = fib_find_node(trie, key)
    place = -1 if leaf is None else fib_find_alias(leaf.leaf, slen, dscp, fi.fib_priority, tb.tb_id)
    if leaf is not None and place >= 0:
        fa = leaf.leaf[place]
        if fa.fa_dscp == dscp and fa.fa_info.fib_priority == fi.fib_priority:
            # There are routes of this key already. NLM_F_EXCL: that is an error. NLM_F_REPLACE: the first gives way.
            # NLM_F_APPEND: behind them; else before them, if none of them is the very same.
            if nlflags & NLM_F_EXCL:
                fib_semantics.fib_release_info(fi)
                return -EEXIST
            match = -1
            end = place
            while end < len(leaf.leaf):
                fa = leaf.leaf[end]
                if (
                    fa.fa_slen != slen
                    or fa.tb_id != tb.tb_id
                    or fa.fa_dscp != dscp
                    or fa.fa_info.fib_priority != fi.fib_priority
                ):
                    break
                if fa.fa_type == cfg.fc_type and fa.fa_info is fi:
                    match = end
                    break
                end += 1
            if nlflags & NLM_F_REPLACE:
                if match >= 0:
                    fib_semantics.fib_release_info(fi)
                    return 0 if match == place else -EEXIST
                old = leaf.leaf[place]
                leaf.leaf[place] = FibAlias(fi, slen, dscp, cfg.fc_type, tb.tb_id)
                fib_semantics.fib_release_info(old.fa_info)
                route.rt_cache_flush(net)
                return 0
            if match >= 0:
                fib_semantics.fib_release_info(fi)
                return -EEXIST
            if nlflags & NLM_F_APPEND:
                place = end if end < len(leaf.leaf) else -1
    if not nlflags & NLM_F_CREATE:
        fib_semantics.fib_release_info(fi)
        return -ENOENT
    fib_insert_alias(tp, leaf, FibAlias(fi, slen, dscp, cfg.fc_type, tb.tb_id), place, key)
    if plen == 0:
        tb.tb_num_default += 1
    route.rt_cache_flush(net)
    return 0


def fib_table_delete(net: Net, tb: FibTable, cfg: FibConfig) -> int:
    """RTM_DELROUTE in this table: the first route that has all that `cfg` names. 0, -EINVAL, -ESRCH."""
    key = cfg.fc_dst
    plen = cfg.fc_dst_len
    if not fib_valid_key_len(key, plen):
        return -EINVAL
    slen = KEYLENGTH - plen
    leaf, tp = fib_find_node(tb.trie, key)
    if leaf is None:
        return -ESRCH
    place = fib_find_alias(leaf.leaf, slen, cfg.fc_dscp, 0, tb.tb_id)
    if place < 0:
        return -ESRCH
    while place < len(leaf.leaf):
        fa = leaf.leaf[place]
        fi = fa.fa_info
        if fa.fa_slen != slen or fa.tb_id != tb.tb_id or fa.fa_dscp != cfg.fc_dscp:
            return -ESRCH
        if (
            (cfg.fc_type == 0 or fa.fa_type == cfg.fc_type)
            and (cfg.fc_scope == RT_SCOPE_NOWHERE or fi.fib_scope == cfg.fc_scope)
            and (cfg.fc_prefsrc == 0 or fi.fib_prefsrc == cfg.fc_prefsrc)
            and (cfg.fc_protocol == 0 or fi.fib_protocol == cfg.fc_protocol)
            and fib_semantics.fib_nh_match(cfg, fi)
            and fib_semantics.fib_metrics_match(cfg, fi)
        ):
            if plen == 0:
                tb.tb_num_default -= 1
            fib_remove_alias(tp, leaf, place)
            fib_semantics.fib_release_info(fi)
            route.rt_cache_flush(net)
            return 0
        place += 1
    return -ESRCH


def leaf_walk(trie: KeyVector) -> list[KeyVector]:
    """All leaves, by rising key."""
    leaves: list[KeyVector] = []
    root = trie.child[0]
    if root is None:
        return leaves
    stack = [root]
    while stack:
        n = stack.pop()
        if n.bits == 0:
            leaves.append(n)
            continue
        for i in range((1 << n.bits) - 1, -1, -1):
            child = n.child[i]
            if child is not None:
                stack.append(child)
    return leaves


def fib_table_flush(tb: FibTable, flush_all: bool) -> int:
    """Remove the routes whose next hops are all dead; with `flush_all`, those that are errors (blackhole, ...) too: the
    namespace goes. How many went."""
    found = 0
    trie = tb.trie
    for n in leaf_walk(trie):
        i = 0
        while i < len(n.leaf):
            fa = n.leaf[i]
            fi = fa.fa_info
            if fa.tb_id != tb.tb_id:
                i += 1
                continue
            if fib_semantics.fib_error(fa.fa_type):
                if not flush_all:
                    i += 1
                    continue
            elif not fi.fib_flags & RTNH_F_DEAD:
                i += 1
                continue
            if fa.fa_slen == KEYLENGTH:
                tb.tb_num_default -= 1
            leaf, tp = fib_find_node(trie, n.key)
            assert leaf is n
            fib_remove_alias(tp, leaf, i)
            fib_semantics.fib_release_info(fi)
            found += 1
    return found


def fib_table_dump(tb: FibTable) -> list[tuple[int, FibAlias]]:
    """The routes of this table as (prefix, alias), in the order in which `ip route show` gives them."""
    routes: list[tuple[int, FibAlias]] = []
    for n in leaf_walk(tb.trie):
        for fa in n.leaf:
            if fa.tb_id == tb.tb_id:
                routes.append((n.key, fa))
    return routes


def fib_trie_unmerge(oldtb: FibTable) -> FibTable:
    """A table of its own for routes that shared another's trie: the new local table."""
    tb = FibTable(oldtb.net, oldtb.tb_id, None)
    for key, fa in fib_table_dump(oldtb):
        leaf, tp = fib_find_node(tb.trie, key)
        copy = FibAlias(fa.fa_info, fa.fa_slen, fa.fa_dscp, fa.fa_type, fa.tb_id)
        fib_insert_alias(tp, leaf, copy, -1, key)
        if fa.fa_slen == KEYLENGTH:
            tb.tb_num_default += 1
    return tb


def fib_table_flush_external(tb: FibTable) -> None:
    """Remove the routes of other tables from the trie, after they have got their own."""
    for n in leaf_walk(tb.trie):
        i = 0
        while i < len(n.leaf):
            if n.leaf[i].tb_id == tb.tb_id:
                i += 1
                continue
            leaf, tp = fib_find_node(tb.trie, n.key)
            assert leaf is n
            fib_remove_alias(tp, leaf, i)
