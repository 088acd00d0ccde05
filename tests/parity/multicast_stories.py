"""Stories about multicast, told to the running kernel (linux_multicast.py) and to afinet (test_multicast.py): system calls of socks
s0, s1, ... and IGMP messages that arrive, one step each. A step's answer is its return value or the packets that follow from it.

    ("socket",)                   the next sock, UDP, bound to port 5000 with SO_REUSEADDR
    ("opt", sock, name, hex)      setsockopt of level IPPROTO_IP
    ("heard", hex, daddr)         an IGMP message from 10.0.0.9 arrives
    ("udp", group, source)        a datagram to the group arrives: which socks get it
    ("reports",)                  time goes by: the IGMP packets sent since, without repetitions of the last one
    ("close", sock)
    ("sysctl", name, value)
"""

from __future__ import annotations

import socket
import struct

Step = tuple[str, ...] | tuple[str, int] | tuple[str, int, str, str]

ME = "10.0.0.1"
G1, G2, G3, LL = "239.1.1.1", "239.2.2.2", "232.3.3.3", "224.0.0.251"
S1, S2, S3 = "10.0.0.5", "10.0.0.6", "198.51.100.7"
# How long the reports of a change may take: with these sysctls, not long.
QUICK = {
    "net.ipv4.conf.wire0.igmpv3_unsolicited_report_interval": "4",
    "net.ipv4.conf.wire0.igmpv2_unsolicited_report_interval": "4",
}


def a4(address: str) -> bytes:
    return socket.inet_aton(address)


def storage(address: str, family: int = socket.AF_INET) -> bytes:
    return struct.pack("=HH4s120x", family, 0, a4(address))


def mreq(group: str, interface: str = ME) -> str:
    return (a4(group) + a4(interface)).hex()


def mreqn(group: str, ifindex: int) -> str:
    return (a4(group) + a4("0.0.0.0") + struct.pack("=i", ifindex)).hex()


def source(group: str, src: str, interface: str = ME) -> str:
    return (a4(group) + a4(interface) + a4(src)).hex()


def group_req(group: str, ifindex: int, family: int = socket.AF_INET) -> str:
    return (struct.pack("=I4x", ifindex) + storage(group, family)).hex()


def group_source(group: str, src: str, ifindex: int, family: int = socket.AF_INET) -> str:
    return (struct.pack("=I4x", ifindex) + storage(group) + storage(src, family)).hex()


def msfilter(group: str, mode: int, *sources: str, claim: int = -1, interface: str = ME) -> str:
    number = len(sources) if claim < 0 else claim
    return (a4(group) + a4(interface) + struct.pack("=II", mode, number) + b"".join(map(a4, sources))).hex()


def group_filter(group: str, mode: int, *sources: str, ifindex: int, claim: int = -1) -> str:
    number = len(sources) if claim < 0 else claim
    head = struct.pack("=I4x", ifindex) + storage(group) + struct.pack("=II", mode, number)
    return (head + b"".join(map(storage, sources))).hex()


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def message(type: int, code: int, group: str, rest: bytes = b"") -> str:
    body = bytes([type, code, 0, 0]) + a4(group) + rest
    return (body[:2] + checksum(body).to_bytes(2, "big") + body[4:]).hex()


def query3(group: str = "0.0.0.0", *sources: str, code: int = 1, qrv: int = 2, qqic: int = 125, claim: int = -1) -> str:
    number = len(sources) if claim < 0 else claim
    return message(0x11, code, group, bytes([qrv, qqic]) + number.to_bytes(2, "big") + b"".join(map(a4, sources)))


# Option numbers, as <linux/in.h> has them.
ADD, DROP, UNBLOCK, BLOCK, ADD_S, DROP_S, MSF, ALL = "35", "36", "37", "38", "39", "40", "41", "49"
JOIN_G, BLOCK_G, UNBLOCK_G, LEAVE_G, JOIN_SG, LEAVE_SG, GSF = "42", "43", "44", "45", "46", "47", "48"
INCLUDE, EXCLUDE = 1, 0
WIRE = 2  # the ifindex of wire0


def opt(sock: int, name: str, value: str) -> Step:
    return ("opt", sock, name, value)


def udps(*groups: str) -> list[Step]:
    return [("udp", group, src) for group in groups for src in (S1, S2, S3)]


R: Step = ("reports",)
S: Step = ("socket",)

STORIES: dict[str, list[Step]] = {
    "join and leave": [S, opt(0, ADD, mreq(G1)), R, *udps(G1, G2), opt(0, ADD, mreq(G1)), R, opt(0, DROP, mreq(G1)), R,
                       opt(0, DROP, mreq(G1)), R],
    "joined twice, told once": [S, S, opt(0, ADD, mreq(G1)), R, opt(1, ADD, mreqn(G1, WIRE)), R, opt(0, DROP, mreq(G1)), R,
                                ("close", 1), R],
    "two groups in one report": [S, opt(0, ADD, mreq(G1)), opt(0, ADD, mreq(G2)), R, ("close", 0), R],
    "all hosts are never told, the link's groups are": [S, opt(0, ADD, mreq("224.0.0.1")), R, opt(0, ADD, mreq(LL)), R,
                                                        ("close", 0), R],
    "unless they are not": [("sysctl", "net.ipv4.igmp_link_local_mcast_reports", "0"), S, opt(0, ADD, mreq(LL)), R,
                            ("heard", query3(), "224.0.0.1"), R, ("close", 0), R],
    "sources included": [S, opt(0, ADD_S, source(G3, S1)), R, *udps(G3), opt(0, ADD_S, source(G3, S2)), R, *udps(G3),
                         opt(0, ADD_S, source(G3, S2)), opt(0, DROP_S, source(G3, S3)), opt(0, DROP_S, source(G3, S1)), R,
                         *udps(G3), opt(0, DROP_S, source(G3, S2)), R, *udps(G3), opt(0, DROP_S, source(G3, S2))],
    "sources blocked": [S, opt(0, BLOCK, source(G1, S1)), opt(0, ADD, mreq(G1)), R, opt(0, BLOCK, source(G1, S1)), R, *udps(G1),
                        opt(0, BLOCK, source(G1, S1)), opt(0, BLOCK, source(G1, S2)), R, *udps(G1),
                        opt(0, UNBLOCK, source(G1, S3)), opt(0, UNBLOCK, source(G1, S1)), R, *udps(G1),
                        opt(0, UNBLOCK, source(G1, S2)), R, *udps(G1), opt(0, ADD_S, source(G1, S1)), R, ("close", 0), R],
    "an empty filter changes its kind": [S, opt(0, ADD, mreq(G1)), R, opt(0, ADD_S, source(G1, S1)), R, *udps(G1),
                                         opt(0, BLOCK, source(G1, S2)), opt(0, DROP, mreq(G1)), R],
    "a block and an include add up": [S, S, opt(0, ADD, mreq(G1)), opt(0, BLOCK, source(G1, S1)), R,
                                      opt(1, ADD_S, source(G1, S1)), R, *udps(G1), ("close", 0), R, *udps(G1), ("close", 1), R],
    "two blocks block what both block": [S, S, opt(0, ADD, mreq(G1)), opt(0, BLOCK, source(G1, S1)),
                                         opt(0, BLOCK, source(G1, S2)), R,
                                         opt(1, ADD, mreq(G1)), R, opt(1, BLOCK, source(G1, S2)), R, *udps(G1), ("close", 0), R,
                                         ("close", 1), R],
    "two includes": [S, S, opt(0, ADD_S, source(G3, S1)), R, opt(1, ADD_S, source(G3, S1)), R, opt(1, ADD_S, source(G3, S2)), R,
                     ("close", 1), R, opt(1, ADD, mreq(G3)), ("close", 0), R],
    "an include meets a join": [S, S, opt(0, ADD_S, source(G1, S1)), R, opt(1, ADD, mreq(G1)), R, *udps(G1), ("close", 1), R,
                                ("close", 0), R],
    "filters as a whole": [S, opt(0, MSF, msfilter(G1, INCLUDE, S1)), opt(0, ADD, mreq(G1)), R,
                           opt(0, MSF, msfilter(G1, INCLUDE, S1, S2)), R, *udps(G1), opt(0, MSF, msfilter(G1, EXCLUDE, S1)), R,
                           *udps(G1), opt(0, MSF, msfilter(G1, EXCLUDE)), R, *udps(G1),
                           opt(0, MSF, msfilter(G1, EXCLUDE, S3, S2)), R,
                           opt(0, MSF, msfilter(G1, INCLUDE)), R, *udps(G1), opt(0, MSF, msfilter(G1, INCLUDE))],
    "filters refused": [S, opt(0, ADD, mreq(G1)), opt(0, MSF, msfilter(G1, 2, S1)), opt(0, MSF, msfilter(ME, INCLUDE, S1)),
                        opt(0, MSF, msfilter(G1, INCLUDE, S1, claim=2)), opt(0, MSF, msfilter(G1, INCLUDE, claim=11)),
                        opt(0, MSF, msfilter(G1, INCLUDE, claim=0xFFFFFFFF)), opt(0, MSF, msfilter(G1, INCLUDE, S1)[:28]),
                        opt(0, MSF, msfilter(G1, INCLUDE, S1, interface="9.9.9.9")), opt(0, MSF, "00" * 140000),
                        opt(0, MSF, msfilter(G1, INCLUDE, S1, claim=0)), R],
    "by interface index": [S, opt(0, JOIN_G, group_req(G1, WIRE)), R, opt(0, JOIN_G, group_req(G1, WIRE)),
                           opt(0, BLOCK_G, group_source(G1, S1, WIRE)), R, *udps(G1),
                           opt(0, UNBLOCK_G, group_source(G1, S1, WIRE)), R,
                           opt(0, LEAVE_G, group_req(G1, WIRE)), R, opt(0, JOIN_SG, group_source(G3, S1, WIRE)), R, *udps(G3),
                           opt(0, JOIN_SG, group_source(G3, S2, WIRE)), opt(0, LEAVE_SG, group_source(G3, S1, WIRE)), R, *udps(G3),
                           opt(0, LEAVE_SG, group_source(G3, S2, WIRE)), R],
    "by interface index, refused": [
        S, opt(0, JOIN_G, group_req(G1, 77)), opt(0, JOIN_G, group_req(G1, WIRE, socket.AF_UNIX)),
        opt(0, JOIN_G, group_req(ME, WIRE)),
        opt(0, JOIN_G, group_req(G1, WIRE)[:-2]), opt(0, JOIN_SG, group_source(G1, S1, WIRE)[:-2]),
        opt(0, JOIN_SG, group_source(G1, S1, WIRE, socket.AF_UNIX)), opt(0, LEAVE_SG, group_source(G1, S1, WIRE)),
        opt(0, BLOCK_G, group_source(G1, S1, WIRE)), opt(0, LEAVE_G, group_req(G1, WIRE)), opt(0, LEAVE_G, group_req(G1, 0)),
        opt(0, JOIN_SG, group_source(G1, S1, 0)), R,
    ],
    "group filters": [S, opt(0, JOIN_G, group_req(G1, WIRE)), R, opt(0, GSF, group_filter(G1, EXCLUDE, S1, S2, ifindex=WIRE)), R,
                      *udps(G1), opt(0, GSF, group_filter(G1, INCLUDE, S2, ifindex=WIRE)), R, *udps(G1),
                      opt(0, GSF, group_filter(G1, INCLUDE, S2, ifindex=WIRE, claim=2)),
                      opt(0, GSF, group_filter(G1, INCLUDE, S2, ifindex=WIRE, claim=11)),
                      opt(0, GSF, group_filter(G1, INCLUDE, S2, ifindex=77)), opt(0, GSF, group_filter(G1, 7, S2, ifindex=WIRE)),
                      opt(0, GSF, "00" * 143), opt(0, GSF, group_filter(G1, INCLUDE, ifindex=WIRE)), R],
    "limits": [("sysctl", "net.ipv4.igmp_max_memberships", "2"), ("sysctl", "net.ipv4.igmp_max_msf", "2"), S,
               opt(0, ADD, mreq(G1)), opt(0, ADD, mreq(G2)), opt(0, ADD, mreq(G3)), opt(0, ADD_S, source(G3, S1)),
               opt(0, DROP, mreq(G2)), opt(0, ADD_S, source(G3, S1)), opt(0, ADD_S, source(G3, S2)),
               opt(0, ADD_S, source(G3, S3)), R],
    "lengths": [S, opt(0, ADD, mreq(G1)[:-2]), opt(0, ADD, mreq(G1) + "00"), opt(0, ADD_S, source(G3, S1)[:-2]),
                opt(0, ADD_S, source(G3, S1) + "00"), opt(0, ADD, mreq("1.2.3.4")), opt(0, ADD, mreq(G2, "9.9.9.9")),
                opt(0, ADD, mreq(G2, "0.0.0.0")), opt(0, ADD, mreqn(G2, 99)), opt(0, DROP, mreq(G1)[:-2]), opt(0, ADD, "")],
    "a general query": [S, opt(0, ADD, mreq(G1)), opt(0, ADD, mreq(LL)), opt(0, ADD_S, source(G3, S1)), R,
                        ("heard", query3(), "224.0.0.1"), R],
    "a query for a group": [S, opt(0, ADD, mreq(G1)), opt(0, ADD, mreq(G2)), opt(0, BLOCK, source(G2, S1)), R,
                            ("heard", query3(G2), G2), R, ("heard", query3("239.9.9.9"), G2), R],
    "queries for sources": [S, opt(0, ADD, mreq(G1)), opt(0, BLOCK, source(G1, S1)), opt(0, ADD_S, source(G3, S1)),
                            opt(0, ADD_S, source(G3, S2)), R, ("heard", query3(G3, S1), G3), R, ("heard", query3(G3, S3), G3), R,
                            ("heard", query3(G3, S2, S1, S3), G3), R, ("heard", query3(G1, S1), G1),
                            R, ("heard", query3(G1, S2), G1),
                            R, ("heard", query3(G1, S1, S2), G1), R],
    "queries that say nothing": [S, opt(0, ADD, mreq(G1)), R, ("heard", query3(claim=3), "224.0.0.1"),
                                 ("heard", query3("0.0.0.0", S1), "224.0.0.1"), ("heard", query3(G1, claim=2), "224.0.0.1"),
                                 ("heard", query3()[:20], "224.0.0.1"), ("heard", "1101" + query3()[4:], "224.0.0.1"),
                                 ("heard", "11", "224.0.0.1"), R],
    "robustness": [("sysctl", "net.ipv4.igmp_qrv", "5"), S, opt(0, ADD, mreq(G1)), R, ("heard", query3(qrv=0), "224.0.0.1"), R,
                   opt(0, BLOCK, source(G1, S1)), R],
    "an old querier of version 2": [S, opt(0, ADD, mreq(G1)), R, ("heard", message(0x11, 1, "0.0.0.0"), "224.0.0.1"), R,
                                    opt(0, ADD_S, source(G3, S1)), R, opt(0, DROP, mreq(G1)), R, ("heard", query3(),
                                    "224.0.0.1"), R,
                                    ("close", 0), R],
    "somebody else reports": [("sysctl", "net.ipv4.conf.all.force_igmp_version", "2"), S, opt(0, ADD, mreq(G1)), R,
                              ("heard", message(0x16, 0, G1), G1), opt(0, DROP, mreq(G1)), R],
    "version 2 by force": [("sysctl", "net.ipv4.conf.wire0.force_igmp_version", "2"), S, opt(0, ADD, mreq(G1)), R,
                           ("heard", message(0x11, 1, G1), G1), R, ("heard", query3(), "224.0.0.1"), R, ("close", 0), R],
    "version 1 by force": [("sysctl", "net.ipv4.conf.wire0.force_igmp_version", "1"), S, opt(0, ADD, mreq(G1)), R, ("close", 0), R],
    "an option for all groups": [S, S, opt(0, ADD, mreq(G1)), *udps(G1), opt(1, ALL, "00000000"), *udps(G1),
                                 opt(1, ALL, "02000000"),
                                 opt(1, ALL, ""), opt(0, ALL, "00000000"), *udps(G1)],
    "more sources than a report holds": [
        ("sysctl", "net.ipv4.igmp_max_msf", "40"), ("mtu", "100"), S,
        opt(0, ADD, mreq(G1)), R, opt(0, MSF, msfilter(G1, EXCLUDE, *(f"10.9.9.{i}" for i in range(40)))), R,
        ("heard", query3(), "224.0.0.1"), R, opt(0, MSF, msfilter(G1, INCLUDE, *(f"10.9.9.{i}" for i in range(30)))), R,
        ("heard", query3(), "224.0.0.1"), R, opt(0, DROP, mreq(G1)), R,
    ],
    "the device goes down and comes back": [S, opt(0, ADD, mreq(G1)), R, ("link", "down"), R, opt(0, ADD, mreqn(G2, WIRE)), R,
                                            ("link", "up"), R],
}  # fmt: skip
