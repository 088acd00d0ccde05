"""net/ipv4/route.c's part about multipath: the hash by which a flow chooses among the next hops of a route.

fib_multipath_hash takes what net.ipv4.fib_multipath_hash_policy names of a packet, or of a flow that has none yet, and hashes it
with the namespace's key; fib_semantics.fib_select_multipath finds the next hop whose share of the numbers holds the result. Both
directions of a flow hash alike (FlowKeys.consistentify), as in Linux, and an ICMP error goes with the packets it is about.

The policies: 0 addresses; 1 addresses, protocol and ports; 2 as 0, of the packet inside a tunnel; 3 the fields that
fib_multipath_hash_fields names, of the packet and of the one inside.

The hash is `siphash` of kernel/random.py; Linux's key is random, so no two machines choose alike anyhow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.random import siphash
from afinet.kernel.sysctl import UINT_MAX, CtlTable
from afinet.net.core.flow import FLOWI_FLAG_ANY_SPORT
from afinet.net.core.flow_dissector import FLOW_DISSECTOR_F_STOP_AT_ENCAP, FlowKeys, skb_flow_dissect_flow_keys
from afinet.net.core.skbuff import skb_header_pointer
from afinet.net.ipv4 import icmp, rtable
from afinet.uapi.in_ import IPPROTO_ICMP
from afinet.wire import be, ip

if TYPE_CHECKING:
    from afinet.net.core.flow import Flowi4
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff

FIB_MULTIPATH_HASH_FIELD_SRC_IP: Final = 1 << 0
FIB_MULTIPATH_HASH_FIELD_DST_IP: Final = 1 << 1
FIB_MULTIPATH_HASH_FIELD_IP_PROTO: Final = 1 << 2
FIB_MULTIPATH_HASH_FIELD_SRC_PORT: Final = 1 << 4
FIB_MULTIPATH_HASH_FIELD_DST_PORT: Final = 1 << 5
FIB_MULTIPATH_HASH_FIELD_INNER_SHIFT: Final = 6  # the same fields of the packet inside a tunnel
FIB_MULTIPATH_HASH_FIELD_OUTER_MASK: Final = 0x03F
FIB_MULTIPATH_HASH_FIELD_INNER_MASK: Final = 0xFC0
FIB_MULTIPATH_HASH_FIELD_ALL_MASK: Final = 0xFFF
FIB_MULTIPATH_HASH_FIELD_DEFAULT_MASK: Final = 0x007


def fib_multipath_hash_from_keys(net: Net, keys: FlowKeys) -> int:
    """32 bits."""
    keys.consistentify()
    key = (keys.src << 32 | keys.dst) << 40 | keys.ip_proto << 32 | keys.sport << 16 | keys.dport
    return siphash(net.ipv4.route.hash_key, key.to_bytes(13, "big")) & 0xFFFFFFFF


def flowi4_keys(fl4: Flowi4) -> FlowKeys:
    keys = FlowKeys()
    keys.src = fl4.saddr
    keys.dst = fl4.daddr
    keys.ip_proto = fl4.flowi4_proto
    # A port that is not chosen yet does not count.
    keys.sport = 0 if fl4.flowi4_flags & FLOWI_FLAG_ANY_SPORT else fl4.fl4_sport
    keys.dport = fl4.fl4_dport
    return keys


def ip_multipath_l3_keys(skb: SkBuff) -> FlowKeys:
    """The addresses; for an ICMP error those of the packet that it quotes."""
    keys = FlowKeys()
    head = skb.head
    nh = skb.network_header
    keys.src = be.get_u32(head, nh + ip.IP_SADDR)
    keys.dst = be.get_u32(head, nh + ip.IP_DADDR)
    if head[nh + ip.IP_PROTOCOL] == IPPROTO_ICMP and not be.get_u16(head, nh + ip.IP_FRAG_OFF) & ip.IP_OFFSET:
        th = nh + (head[nh] & 15) * 4
        message = skb_header_pointer(skb, th, icmp.ICMP_HLEN + ip.IP_HLEN)
        if len(message) == icmp.ICMP_HLEN + ip.IP_HLEN and icmp.icmp_is_error(message[0]):
            keys.src = be.get_u32(message, icmp.ICMP_HLEN + ip.IP_SADDR)
            keys.dst = be.get_u32(message, icmp.ICMP_HLEN + ip.IP_DADDR)
    return keys


def fib_multipath_l3_only(keys: FlowKeys) -> FlowKeys:
    keys.ip_proto = keys.sport = keys.dport = 0
    return keys


def fib_multipath_custom_keys(keys: FlowKeys, fields: int) -> FlowKeys:
    """What `fields` (FIB_MULTIPATH_HASH_FIELD_*) leaves of the keys."""
    if not fields & FIB_MULTIPATH_HASH_FIELD_SRC_IP:
        keys.src = 0
    if not fields & FIB_MULTIPATH_HASH_FIELD_DST_IP:
        keys.dst = 0
    if not fields & FIB_MULTIPATH_HASH_FIELD_IP_PROTO:
        keys.ip_proto = 0
    if not fields & FIB_MULTIPATH_HASH_FIELD_SRC_PORT:
        keys.sport = 0
    if not fields & FIB_MULTIPATH_HASH_FIELD_DST_PORT:
        keys.dport = 0
    return keys


def fib_multipath_custom_hash_skb(net: Net, skb: SkBuff) -> int:
    """Policy 3 for a packet: the fields outside and, if there is a tunnel, those inside."""
    fields = net.ipv4.sysctl_fib_multipath_hash_fields
    outer = 0
    has_inner = True
    if fields & FIB_MULTIPATH_HASH_FIELD_OUTER_MASK:
        keys = skb_flow_dissect_flow_keys(skb, FLOW_DISSECTOR_F_STOP_AT_ENCAP)
        has_inner = keys.encapsulation
        outer = fib_multipath_hash_from_keys(net, fib_multipath_custom_keys(keys, fields))
    if not has_inner or not fields & FIB_MULTIPATH_HASH_FIELD_INNER_MASK:
        return outer
    keys = skb_flow_dissect_flow_keys(skb, 0)
    if not keys.encapsulation:
        return outer
    fib_multipath_custom_keys(keys, fields >> FIB_MULTIPATH_HASH_FIELD_INNER_SHIFT)
    both = outer << 32 | fib_multipath_hash_from_keys(net, keys)
    return siphash(net.ipv4.route.hash_key, both.to_bytes(8, "big")) & 0xFFFFFFFF


def fib_multipath_hash(net: Net, fl4: Flowi4 | None, skb: SkBuff | None, flkeys: FlowKeys | None) -> int:
    """31 bits that choose among next hops: of the packet if there is one, else of the flow. `flkeys` is what policy rules have read
    of the packet already."""
    policy = net.ipv4.sysctl_fib_multipath_hash_policy
    if skb is None:
        assert fl4 is not None
        keys = flowi4_keys(fl4)
        if policy == 0 or policy == 2:
            fib_multipath_l3_only(keys)
        elif policy == 3:
            fib_multipath_custom_keys(keys, net.ipv4.sysctl_fib_multipath_hash_fields)
        mhash = fib_multipath_hash_from_keys(net, keys)
    elif policy == 0:
        mhash = fib_multipath_hash_from_keys(net, ip_multipath_l3_keys(skb))
    elif policy == 1:
        if flkeys is None:
            flkeys = skb_flow_dissect_flow_keys(skb, FLOW_DISSECTOR_F_STOP_AT_ENCAP)
        mhash = fib_multipath_hash_from_keys(net, flkeys)
    elif policy == 2:
        keys = skb_flow_dissect_flow_keys(skb, 0)
        if not keys.encapsulation:
            keys = ip_multipath_l3_keys(skb)
        mhash = fib_multipath_hash_from_keys(net, fib_multipath_l3_only(keys))
    else:
        mhash = fib_multipath_custom_hash_skb(net, skb)
    return mhash >> 1


class FibMultipathHashSeedCtl(CtlTable):
    """proc_fib_multipath_hash_seed: a number of the user's own instead of the machine's secret; 0 goes back to that."""

    __slots__ = ("net",)

    def __init__(self, net: Net) -> None:
        super().__init__("fib_multipath_hash_seed", net.ipv4, "sysctl_fib_multipath_hash_seed", 0, UINT_MAX)
        self.net: Net = net

    def write(self, text: str) -> int:
        err = super().write(text)
        if err == 0:
            seed = self.net.ipv4.sysctl_fib_multipath_hash_seed
            secret = self.net.kernel.siphash_key
            self.net.ipv4.route.hash_key = seed.to_bytes(4, "big") if seed else secret
            rtable.rt_cache_flush(self.net)
        return err
