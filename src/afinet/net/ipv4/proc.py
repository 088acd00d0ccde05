"""net/ipv4/proc.c: the counters of a namespace as /proc/net shows them: snmp, netstat, sockstat.

`snmp_counters` gives the same numbers under the names that nstat(8) prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core.sock import sock_inuse_get, sock_prot_inuse_get
from afinet.uapi.icmp import (
    ICMP_ADDRESS,
    ICMP_ADDRESSREPLY,
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    ICMP_TIMESTAMP,
    ICMP_TIMESTAMPREPLY,
)
from afinet.uapi.snmp import (
    SNMP4_ICMP_LIST,
    SNMP4_IPSTATS_LIST,
    SNMP4_NET_LIST,
    SNMP4_TCP_LIST,
    SNMP4_UDP_LIST,
)

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.sock import Proto

IPSTATS_SNMP: Final = 18  # so many of the IP counters are in snmp (RFC 4293's), the rest in netstat
# tcp_mib_init: RFC 4022's constants of an implementation. The algorithm is "other", the times are in ms, MaxConn is open.
TCP_MIB_CONSTANTS: Final = (1, 200, 120_000, -1)


# icmpmibmap: the counters of snmp that the statistics by message type supply.
ICMPMIBMAP: Final = (
    ("DestUnreachs", ICMP_DEST_UNREACH),
    ("TimeExcds", ICMP_TIME_EXCEEDED),
    ("ParmProbs", ICMP_PARAMETERPROB),
    ("SrcQuenchs", ICMP_SOURCE_QUENCH),
    ("Redirects", ICMP_REDIRECT),
    ("Echos", ICMP_ECHO),
    ("EchoReps", ICMP_ECHOREPLY),
    ("Timestamps", ICMP_TIMESTAMP),
    ("TimestampReps", ICMP_TIMESTAMPREPLY),
    ("AddrMasks", ICMP_ADDRESS),
    ("AddrMaskReps", ICMP_ADDRESSREPLY),
)


def snmp_ip(net: Net) -> tuple[list[str], list[int]]:
    ipv4 = net.ipv4
    names = ["Forwarding", "DefaultTTL"]
    values = [1 if ipv4.devconf_all.forwarding else 2, ipv4.sysctl_ip_default_ttl]
    for i in range(IPSTATS_SNMP):
        names.append(SNMP4_IPSTATS_LIST[i])
        values.append(net.ip_statistics[i])
    return names, values


def snmp_icmp(net: Net) -> tuple[list[str], list[int]]:
    names = list(SNMP4_ICMP_LIST)
    values = net.icmp_statistics[:]
    for name, type in ICMPMIBMAP:
        values[names.index("In" + name)] = net.icmpmsg_in.get(type, 0)
        values[names.index("Out" + name)] = net.icmpmsg_out.get(type, 0)
    return names, values


def snmp_icmpmsg(net: Net) -> tuple[list[str], list[int]]:
    """Only the types that were seen."""
    names: list[str] = []
    values: list[int] = []
    for type in sorted(net.icmpmsg_in):
        names.append(f"InType{type}")
        values.append(net.icmpmsg_in[type])
    for type in sorted(net.icmpmsg_out):
        names.append(f"OutType{type}")
        values.append(net.icmpmsg_out[type])
    return names, values


def snmp_tcp(net: Net) -> tuple[list[str], list[int]]:
    values = net.tcp_statistics[:]
    for i, constant in enumerate(TCP_MIB_CONSTANTS):
        values[i] = constant
    return list(SNMP4_TCP_LIST), values


def netstat_ip(net: Net) -> tuple[list[str], list[int]]:
    return list(SNMP4_IPSTATS_LIST[IPSTATS_SNMP:]), net.ip_statistics[IPSTATS_SNMP:]


def snmp_groups(net: Net) -> list[tuple[str, list[str], list[int]]]:
    """The groups of /proc/net/snmp: (prefix, names, values)."""
    groups: list[tuple[str, list[str], list[int]]] = []
    names, values = snmp_ip(net)
    groups.append(("Ip", names, values))
    names, values = snmp_icmp(net)
    groups.append(("Icmp", names, values))
    names, values = snmp_icmpmsg(net)
    if names:
        groups.append(("IcmpMsg", names, values))
    names, values = snmp_tcp(net)
    groups.append(("Tcp", names, values))
    groups.append(("Udp", list(SNMP4_UDP_LIST), net.udp_statistics[:]))
    return groups


def netstat_groups(net: Net) -> list[tuple[str, list[str], list[int]]]:
    """The groups of /proc/net/netstat."""
    names, values = netstat_ip(net)
    return [("TcpExt", list(SNMP4_NET_LIST), net.net_statistics[:]), ("IpExt", names, values)]


def groups_show(groups: list[tuple[str, list[str], list[int]]]) -> str:
    """Two lines a group: its names, its values."""
    out: list[str] = []
    for prefix, names, values in groups:
        out.append(f"{prefix}: {' '.join(names)}\n")
        out.append(f"{prefix}: {' '.join([str(v) for v in values])}\n")
    return "".join(out)


def snmp_seq_show(net: Net) -> str:
    """The text of /proc/net/snmp, without UdpLite, which is not here."""
    return groups_show(snmp_groups(net))


def netstat_seq_show(net: Net) -> str:
    """The text of /proc/net/netstat, without MPTCP."""
    return groups_show(netstat_groups(net))


def find_proto(net: Net, name: str) -> Proto | None:
    for prot in net.kernel.proto_list:
        if prot.name == name:
            return prot
    return None


def sockstat_seq_show(net: Net) -> str:
    """The text of /proc/net/sockstat; memory in pages. `alloc`, `orphan` and memory are those of the whole machine."""
    out = [f"sockets: used {sock_inuse_get(net)}\n"]
    tcp = find_proto(net, "TCP")
    if tcp is not None:
        out.append(
            f"TCP: inuse {sock_prot_inuse_get(net, tcp)} orphan {tcp.orphan_count} tw {net.ipv4.tw_count} "
            f"alloc {tcp.sockets_allocated} mem {tcp.memory_allocated}\n"
        )
    udp = find_proto(net, "UDP")
    if udp is not None:
        out.append(f"UDP: inuse {sock_prot_inuse_get(net, udp)} mem {udp.memory_allocated}\n")
    raw = find_proto(net, "RAW")
    if raw is not None:
        out.append(f"RAW: inuse {sock_prot_inuse_get(net, raw)}\n")
    fqdir = net.ipv4.fqdir
    if fqdir is not None:
        out.append(f"FRAG: inuse {len(fqdir.queues)} memory {fqdir.mem}\n")
    return "".join(out)


def snmp_counters(net: Net) -> dict[str, int]:
    """Every counter under nstat's name: "IpInReceives", "TcpExtTCPTimeouts", "IpExtInOctets"."""
    counters: dict[str, int] = {}
    for prefix, names, values in snmp_groups(net) + netstat_groups(net):
        for i, name in enumerate(names):
            counters[prefix + name] = values[i]
    return counters
