"""Programs about time stamps and the error queue: SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING both ways, on every kind of socket.

Times lose their value (programs.show_control); who is told what, when, with which number and with how much of the packet, does not.
"""

from __future__ import annotations

import struct

from tests.parity.programs import MSG_DONTWAIT, MSG_ERRQUEUE, MSG_PEEK, Program, cmsg, i32, icmp, iphdr, sa

LO, V0, V1 = "127.0.0.1", "10.9.0.1", "10.9.0.2"
SOL_SOCKET, SOL_IP = 1, 0
SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW, SO_TIMESTAMPING_NEW = 29, 35, 37, 63, 64, 65
SCM_TS_OPT_ID = 81
IP_PKTINFO, IP_RECVERR, IP_RECVTTL, IP_RECVTOS = 8, 11, 12, 13
TX_SOFTWARE, RX_SOFTWARE, SOFTWARE, OPT_ID, TX_SCHED, TX_ACK = 1 << 1, 1 << 3, 1 << 4, 1 << 7, 1 << 8, 1 << 9
OPT_CMSG, OPT_TSONLY, OPT_ID_TCP, OPT_RX_FILTER = 1 << 10, 1 << 11, 1 << 16, 1 << 17
ECHO = icmp(8, 0, 0x1234, 1, b"payload")
PAYLOAD = {"udp": b"payload", "ping": ECHO, "rawicmp": ECHO, "raw253": b"payload"}


# Linux turns the stamping of received packets on from a work queue, a moment after it is asked to.
PATIENCE: Program = [("socket", "w", "udp"), *[("recv", "w", 0, MSG_DONTWAIT)] * 3]


def on(slot: str, level: int, name: int, value: int = 1) -> tuple[object, ...]:
    return ("setsockopt", slot, level, name, i32(value))


def errors(slot: str, size: int = 0, times: int = 3) -> Program:
    return [("recv", slot, size, MSG_ERRQUEUE | MSG_DONTWAIT, 300)] * times


def sending() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for kind, data in PAYLOAD.items():
        for where, host in (("lo", LO), ("v1", V1)):
            for label, flags in {
                "software": TX_SOFTWARE | SOFTWARE,
                "not reported": TX_SOFTWARE,
                "sched": TX_SCHED | SOFTWARE,
                "both": TX_SCHED | TX_SOFTWARE | SOFTWARE,
                "id": TX_SCHED | TX_SOFTWARE | SOFTWARE | OPT_ID,
                "tsonly": TX_SOFTWARE | SOFTWARE | OPT_ID | OPT_TSONLY,
                "cmsg": TX_SOFTWARE | SOFTWARE | OPT_ID | OPT_CMSG,
                "tsonly cmsg": TX_SOFTWARE | SOFTWARE | OPT_ID | OPT_CMSG | OPT_TSONLY,
                "hardware": 1 | 1 << 6,
                "ack": TX_ACK | SOFTWARE,
            }.items():
                programs[f"{kind} to {where}: {label}"] = [
                    ("socket", "s", kind),
                    # A stream of neighbours' packets would not do: the first one waits for ARP.
                    ("send", "s", data, 0, sa(host, 5001)),
                    on("s", SOL_IP, IP_PKTINFO),
                    on("s", SOL_IP, IP_RECVTTL),
                    on("s", SOL_SOCKET, SO_TIMESTAMPING, flags),
                    ("send", "s", data, 0, sa(host, 5001)),
                    ("send", "s", data, 0, sa(host, 5001)),
                    ("poll", "s", 0x7FFA),
                    *errors("s", 16 if where == "v1" else 0, 5),
                    ("poll", "s", 0x7FFA),
                ]
        programs[f"{kind}: asked for by a control message"] = [
            ("socket", "s", kind),
            on("s", SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | OPT_ID | OPT_TSONLY),
            ("send", "s", data, 0, sa(LO, 5001)),
            *errors("s", 0, 1),
            ("send", "s", data, 0, sa(LO, 5001), cmsg(SOL_SOCKET, SO_TIMESTAMPING, i32(TX_SOFTWARE))),
            *errors("s", 0, 2),
            ("send", "s", data, 0, sa(LO, 5001), cmsg(SOL_SOCKET, SO_TIMESTAMPING_NEW, i32(TX_SOFTWARE | TX_SCHED))),
            *errors("s", 0, 3),
            ("send", "s", data, 0, sa(LO, 5001), cmsg(SOL_SOCKET, SO_TIMESTAMPING, i32(RX_SOFTWARE))),
            ("send", "s", data, 0, sa(LO, 5001), cmsg(SOL_SOCKET, SO_TIMESTAMPING, b"\2\0")),
            ("send", "s", data, 0, sa(LO, 5001), cmsg(SOL_SOCKET, SCM_TS_OPT_ID, i32(77))),
            (
                "send",
                "s",
                data,
                0,
                sa(LO, 5001),
                cmsg(SOL_SOCKET, SCM_TS_OPT_ID, i32(78)) + cmsg(SOL_SOCKET, SO_TIMESTAMPING, i32(TX_SOFTWARE)),
            ),
            ("send", "s", data, 0, sa(LO, 5001), cmsg(SOL_SOCKET, SCM_TS_OPT_ID, b"\1")),
            *errors("s", 0, 3),
        ]
    programs["udp: a number needs OPT_ID"] = [
        ("socket", "s", "udp"),
        ("send", "s", b"x", 0, sa(LO, 5001), cmsg(SOL_SOCKET, SCM_TS_OPT_ID, i32(77))),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SOFTWARE | OPT_ID | OPT_ID_TCP),
        ("send", "s", b"x", 0, sa(LO, 5001)),
        *errors("s"),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SOFTWARE),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SOFTWARE | OPT_ID),
        ("send", "s", b"x", 0, sa(LO, 5001)),
        *errors("s"),
    ]
    programs["udp: fragments"] = [
        ("socket", "s", "udp"),
        ("send", "s", b"x", 0, sa(V1, 5001)),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SOFTWARE | OPT_ID),
        ("send", "s", bytes(4000), 0, sa(V1, 5001)),
        *errors("s", 0, 5),
    ]
    programs["udp: corked"] = [
        ("socket", "s", "udp"),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SOFTWARE | OPT_ID | OPT_TSONLY),
        ("send", "s", b"one", 0x8000, sa(LO, 5001)),
        ("send", "s", b"two", 0x8000),
        ("send", "s", b"three", 0, sa(LO, 5001)),
        ("send", "s", b"four", 0, sa(LO, 5001)),
        *errors("s", 0, 4),
    ]
    programs["udp: SO_SELECT_ERR_QUEUE, SO_TIMESTAMP and IP_RECVERR beside it"] = [
        ("socket", "s", "udp"),
        on("s", SOL_SOCKET, 45),
        on("s", SOL_SOCKET, SO_TIMESTAMP),
        on("s", SOL_IP, IP_RECVERR),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | TX_SOFTWARE | OPT_TSONLY),
        ("send", "s", b"x", 0, sa(LO, 5001)),
        ("poll", "s"),
        *errors("s", 100, 3),
        ("poll", "s"),
        ("getsockopt", "s", SOL_SOCKET, 4, 4),
    ]
    return programs


STREAM: Program = [
    ("socket", "l", "tcp"),
    ("setsockopt", "l", SOL_SOCKET, 2, i32(1)),
    ("bind", "l", sa(LO, 6040)),
    ("listen", "l", 8),
    ("socket", "s", "tcp"),
    ("connect", "s", sa(LO, 6040)),
    ("poll", "s"),
]


def streams() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for label, flags in {
        "software": TX_SOFTWARE | SOFTWARE,
        "id": TX_SOFTWARE | SOFTWARE | OPT_ID,
        "id and all": TX_SOFTWARE | TX_SCHED | TX_ACK | SOFTWARE | OPT_ID | OPT_TSONLY,
        "id of the stream": TX_SOFTWARE | TX_ACK | SOFTWARE | OPT_ID | OPT_ID_TCP | OPT_TSONLY,
        "ack": TX_ACK | SOFTWARE | OPT_ID,
        "ack, tsonly, cmsg": TX_ACK | SOFTWARE | OPT_ID | OPT_TSONLY | OPT_CMSG,
    }.items():
        programs[f"tcp: {label}"] = [
            *STREAM,
            on("s", SOL_IP, IP_PKTINFO),
            on("s", SOL_SOCKET, SO_TIMESTAMPING, flags),
            ("send", "s", b"hello", 0x4000),
            *errors("s", 0, 5),
            ("send", "s", b"x" * 1000, 0x4000),
            *errors("s", 0, 5),
        ]
    programs["tcp: asked for by a control message"] = [
        *STREAM,
        on("s", SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE | OPT_ID | OPT_TSONLY),
        ("send", "s", b"hello", 0x4000),
        *errors("s", 0, 1),
        ("send", "s", b"hello", 0x4000, b"", cmsg(SOL_SOCKET, SO_TIMESTAMPING, i32(TX_ACK | TX_SOFTWARE))),
        *errors("s", 0, 3),
        ("send", "s", b"hello", 0x4000, b"", cmsg(SOL_SOCKET, SO_TIMESTAMPING, i32(RX_SOFTWARE))),
        ("send", "s", b"hello", 0x4000, b"", cmsg(SOL_SOCKET, SCM_TS_OPT_ID, i32(5))),
        ("send", "s", b"hello", 0x4000, b"", cmsg(SOL_SOCKET, 99, i32(5))),
        ("send", "s", b"hello", 0x4000, b"", cmsg(SOL_IP, 99, i32(5))),
    ]
    programs["tcp: OPT_ID when closed and listening"] = [
        ("socket", "s", "tcp"),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, OPT_ID),
        ("bind", "s", sa(LO, 6041)),
        ("listen", "s", 1),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, OPT_ID),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, OPT_ID_TCP),
        on("s", SOL_SOCKET, SO_TIMESTAMPING, SOFTWARE),
        ("getsockopt", "s", SOL_SOCKET, SO_TIMESTAMPING, 8),
    ]
    return programs


def receiving() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for kind, data in {"udp": b"hello", "raw253": b"hello"}.items():
        for label, options in {
            "timestamp": [(SO_TIMESTAMP, 1)],
            "timestampns": [(SO_TIMESTAMPNS, 1)],
            "timestamp new": [(SO_TIMESTAMP_NEW, 1)],
            "timestampns new": [(SO_TIMESTAMPNS_NEW, 1)],
            "timestamping": [(SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)],
            "timestamping new": [(SO_TIMESTAMPING_NEW, RX_SOFTWARE | SOFTWARE)],
            "unreported": [(SO_TIMESTAMPING, RX_SOFTWARE)],
            "filtered": [(SO_TIMESTAMPING, SOFTWARE | OPT_RX_FILTER)],
            "filtered, received": [(SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE | OPT_RX_FILTER)],
            "all": [(SO_TIMESTAMPNS, 1), (SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)],
            "ns, then us": [(SO_TIMESTAMPNS, 1), (SO_TIMESTAMP, 1)],
            "us, then none of ns": [(SO_TIMESTAMP, 1), (SO_TIMESTAMPNS, 0)],
            "new, then old timestamping": [(SO_TIMESTAMP_NEW, 1), (SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)],
            "hardware": [(SO_TIMESTAMPING, 1 << 2 | 1 << 6)],
        }.items():
            programs[f"{kind} receives: {label}"] = [
                ("socket", "r", kind),
                ("bind", "r", sa(LO, 5002)),
                *[on("r", SOL_SOCKET, name, value) for name, value in options],
                *PATIENCE,
                ("socket", "s", kind),
                ("send", "s", data, 0, sa(LO, 5002)),
                ("recv", "r", 0, MSG_DONTWAIT, 300),
                *[("getsockopt", "r", SOL_SOCKET, name, 8) for name in (29, 35, 37, 63, 64, 65)],
            ]
    return programs


def received_streams() -> dict[str, Program]:
    """The end that is read is the client's own: it connects to itself."""
    programs: dict[str, Program] = {}
    for label, options in {
        "timestamp": [(SO_TIMESTAMP, 1)],
        "timestampns": [(SO_TIMESTAMPNS, 1)],
        "timestamping": [(SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)],
        "timestamping new": [(SO_TIMESTAMPING_NEW, RX_SOFTWARE | SOFTWARE)],
        "unreported": [(SO_TIMESTAMPING, RX_SOFTWARE)],
        "all": [(SO_TIMESTAMP, 1), (SO_TIMESTAMPING, RX_SOFTWARE | SOFTWARE)],
    }.items():
        programs[f"tcp receives: {label}"] = [
            ("socket", "s", "tcp"),
            ("setsockopt", "s", SOL_SOCKET, 2, i32(1)),
            ("bind", "s", sa(LO, 6050)),
            *[on("s", SOL_SOCKET, name, value) for name, value in options],
            *PATIENCE,
            ("connect", "s", sa(LO, 6050)),
            ("poll", "s"),
            ("send", "s", b"hello", 0x4000),
            ("recv", "s", 2, MSG_DONTWAIT | MSG_PEEK, 300),
            ("recv", "s", 2, MSG_DONTWAIT, 300),
            ("recv", "s", 2, MSG_DONTWAIT, 20),
            ("recv", "s", 0, MSG_DONTWAIT, 300),
            ("recv", "s", 10, MSG_DONTWAIT, 300),
            ("recv", "s", 10, MSG_DONTWAIT, 300),
            # An end that ends itself: nothing of this connection is to remain for the next program.
            ("setsockopt", "s", SOL_SOCKET, 13, i32(1) + i32(0)),
        ]
    return programs


def extension(version: int = 2, objects: bytes = b"", check: int | None = None) -> bytes:
    """RFC 4884's extension structure, with its checksum unless another is given."""
    head = bytes([version << 4, 0])
    if check is None:
        words = head + b"\0\0" + objects
        words += bytes(len(words) % 2)
        total = sum(struct.unpack(f"!{len(words) // 2}H", words))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        check = total ^ 0xFFFF
    return head + struct.pack("!H", check) + objects


def extended_errors() -> dict[str, Program]:
    """ICMP errors with RFC 4884 extensions about a datagram of 10.9.0.1:5001, told by IP_RECVERR_RFC4884."""
    quoted = iphdr(V0, V1, 17, struct.pack("!HHHH", 5001, 5002, 208, 0) + bytes(range(200)))
    mpls = struct.pack("!HBB", 8, 1, 1) + b"\0\1\2\3"
    cases = {
        "none": (3, 1, 0, quoted[:28], b""),
        "plain 128": (3, 1, 32, quoted[:128], extension(objects=mpls)),
        "time exceeded": (11, 0, 32, quoted[:128], extension(objects=mpls)),
        "parameter problem": (12, 0, 32, quoted[:128], extension(objects=mpls)),
        "source quench": (4, 0, 32, quoted[:128], extension(objects=mpls)),
        "140 bytes": (3, 1, 35, quoted[:140], extension(objects=mpls)),
        "too short a datagram": (3, 1, 31, quoted[:124], extension(objects=mpls)),
        "length beyond": (3, 1, 40, quoted[:128], extension(objects=mpls)),
        "only a header": (3, 1, 32, quoted[:128], extension()),
        "no checksum": (3, 1, 32, quoted[:128], extension(objects=mpls, check=0)),
        "bad checksum": (3, 1, 32, quoted[:128], extension(objects=mpls, check=0x1234)),
        "another version": (3, 1, 32, quoted[:128], extension(version=1, objects=mpls, check=0x1234)),
        "two objects": (3, 1, 32, quoted[:128], extension(objects=mpls * 2)),
        "object too short": (3, 1, 32, quoted[:128], extension(objects=struct.pack("!HBB", 3, 1, 1))),
        "object beyond": (3, 1, 32, quoted[:128], extension(objects=struct.pack("!HBB", 20, 1, 1))),
        "half an object": (3, 1, 32, quoted[:128], extension(objects=b"\0\1")),
        "header cut": (3, 1, 32, quoted[:128], b"\x20\0"),
    }
    programs: dict[str, Program] = {}
    for label, (type, code, words, datagram, ext) in cases.items():
        for asked in (1, 0):
            programs[f"rfc4884 {label}, asked {asked}"] = [
                ("socket", "s", "udp"),
                ("bind", "s", sa(V0, 5001)),
                # The two ends learn of each other first.
                ("send", "s", b"x", 0, sa(V1, 5002)),
                on("s", SOL_IP, IP_RECVERR),
                ("recv", "s", 0, MSG_ERRQUEUE | MSG_DONTWAIT, 300),
                on("s", SOL_IP, 26, asked),  # IP_RECVERR_RFC4884
                ("socket", "r", "rawicmp", 1),
                ("send", "r", icmp(type, code, words, 0, datagram + ext), 0, sa(V0)),
                ("recv", "s", 200, MSG_ERRQUEUE | MSG_DONTWAIT, 300),
                ("getsockopt", "s", SOL_SOCKET, 4, 4),
            ]
    return programs


def icmp_errors() -> dict[str, Program]:
    """What goes with an ICMP error when control messages were asked for."""
    programs: dict[str, Program] = {}
    for where, host in (("lo", LO), ("v1", V1), ("its own address", V0)):
        for label, name in (("pktinfo", IP_PKTINFO), ("ttl", IP_RECVTTL), ("tos", IP_RECVTOS), ("origdstaddr", 20)):
            programs[f"port unreachable at {where}: {label}"] = [
                ("socket", "s", "udp"),
                ("bind", "s", sa("0.0.0.0", 5011)),
                ("send", "s", b"x", 0, sa(host, 5999)),
                ("recv", "s", 0, MSG_DONTWAIT),
                on("s", SOL_IP, IP_RECVERR),
                on("s", SOL_IP, name),
                ("send", "s", b"payload", 0, sa(host, 5999)),
                ("recv", "s", 3, MSG_ERRQUEUE | MSG_DONTWAIT, 300),
                ("recv", "s", 3, MSG_ERRQUEUE | MSG_DONTWAIT, 300),
            ]
    return programs


MSG_ZEROCOPY, SO_ZEROCOPY = 0x4000000, 60


def zerocopy() -> dict[str, Program]:
    """Notices that the program's memory is its own again; over lo Linux has to copy, too."""
    programs: dict[str, Program] = {}
    for label, before in {"asked": [on("s", SOL_SOCKET, SO_ZEROCOPY)], "not asked": []}.items():
        programs[f"zerocopy udp, {label}"] = [
            ("socket", "r", "udp"),
            ("bind", "r", sa(LO, 5007)),
            ("socket", "s", "udp"),
            *before,
            ("send", "s", b"one", MSG_ZEROCOPY, sa(LO, 5007)),
            *errors("s", 0, 2),
            ("send", "s", b"two", MSG_ZEROCOPY, sa(LO, 5007)),
            ("send", "s", b"three", MSG_ZEROCOPY, sa(LO, 5007)),
            ("send", "s", b"", MSG_ZEROCOPY, sa(LO, 5007)),
            ("send", "s", b"copied", 0, sa(LO, 5007)),
            ("send", "s", b"four", MSG_ZEROCOPY, sa(LO, 5007)),
            ("poll", "s", 0x7FFA),
            *errors("s", 0, 3),
            ("poll", "s", 0x7FFA),
            ("getsockopt", "s", SOL_SOCKET, 4, 4),
        ]
        programs[f"zerocopy tcp, {label}"] = [
            *STREAM,
            *before,
            ("send", "s", b"one", 0x4000 | MSG_ZEROCOPY),
            # Linux waits for the acknowledgement.
            ("recv", "w", 0, MSG_DONTWAIT),
            *errors("s", 0, 2),
            ("send", "s", b"two", 0x4000 | MSG_ZEROCOPY),
            ("send", "s", b"", 0x4000 | MSG_ZEROCOPY),
            ("send", "s", b"three", 0x4000 | MSG_ZEROCOPY),
            *errors("s", 0, 2),
        ]
    return programs


def all_programs() -> dict[str, Program]:
    return {**sending(), **streams(), **receiving(), **received_streams(), **extended_errors(), **icmp_errors(), **zerocopy()}
