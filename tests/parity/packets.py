"""The other end of the wire: packets that a program puts in, and those that come out, one a line in packetdrill's spirit.

A program's peers live at 10.8.0.2, behind the TAP device t0 (10.8.0.1/24). What is put in and what came out is written

    FLAGS SEQ[(LEN)] [ack ACK] [win N] [urg N] [<option,option>]     TCP; flags are letters of SFRPUEW, "." for ACK, "-" for none
    udp SPORT>DPORT (LEN)
    icmp TYPE CODE [rest N]                                          quotes the last packet that came out
    echo ID SEQ (LEN), echoreply ID SEQ (LEN)
    ip PROTOCOL (LEN)

Numbers of TCP are relative: SEQ to the peer's initial number and ACK to the host's in what goes in, the other way round in what
comes out. Going in, they may be said in words that the host's own packets give a meaning to, with +N or -N: SEQ `nxt`, what the
host acknowledged, and `edge`, the right edge of the window it offered; ACK `snd`, the end of what it sent, and `una`, what was
acknowledged before. `TS V ecr E` takes `last` for E, the host's own last value. Options are put in as they are written, padded with
zeros; `raw HEX` is anything else.

Not shown of what comes out: ports and initial numbers nobody asked for, IP identifications, checksums (which must be right) and the
values of timestamps, which must not go backwards.
"""

from __future__ import annotations

import re
import struct
from socket import inet_aton, inet_ntoa

HOST, PEER = "10.8.0.1", "10.8.0.2"
PEER_ISN = 1_000_000
LETTERS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}
M32 = 0xFFFFFFFF
REOPENED = 65537  # so far beyond the old connection's numbers begins one that reopens it from TIME_WAIT
TCP_LINE = re.compile(
    r"(?P<flags>[-SFRPUEW.]+) (?P<seq>[a-z]*[-+]?\d*)(?:\((?P<len>\d+)\))?(?: ack (?P<ack>[a-z]*[-+]?\d*))?"
    r"(?: win (?P<win>\d+))?(?: urg (?P<urg>\d+))?(?: <(?P<opts>[^>]*)>)?$"
)


def checksum(data: bytes) -> int:
    if len(data) & 1:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def signed(n: int) -> int:
    n &= M32
    return n - (1 << 32) if n >> 31 else n


def body(n: int) -> bytes:
    return bytes([97 + i % 26 for i in range(n)])


class Conn:
    """One TCP connection as its peer knows it."""

    def __init__(self, name: str, peer_port: int, host_port: int) -> None:
        self.name = name
        self.peer_port = peer_port
        self.host_port = host_port  # 0 until the host chose it
        self.isn = -1  # the host's
        self.nxt = PEER_ISN  # what the host acknowledged
        self.edge = PEER_ISN + 1
        self.snd = 0  # the end of what it sent
        self.una = 0  # what was acknowledged to it
        self.wscale = 0  # of the windows it offers
        self.scaled = False  # whether the peer offered scaling too
        self.tsval = -1  # the host's last
        self.quote = b""


def number(text: str, words: dict[str, int], base: int) -> int:
    word = text.rstrip("-+0123456789")
    rest = text[len(word) :]
    return (words[word] if word else base) + (int(rest) if rest else 0) & M32


class Wire:
    """All peers of one program."""

    def __init__(self, port: int) -> None:
        self.conns: dict[str, Conn] = {}
        self.port = port  # for peers that open connections: one that no earlier program of this run had
        self.quote = b""

    def peer(self, name: str, host_port: int) -> None:
        """A peer that will open connections to `host_port`."""
        self.conns[name] = Conn(name, self.port, host_port)
        self.port += 1

    def target(self, name: str, peer_port: int) -> None:
        """A peer that listens on `peer_port`."""
        self.conns[name] = Conn(name, peer_port, 0)

    # -- in ----------------------------------------------------------------------------------------------------------------

    def emit(self, name: str, line: str) -> bytes:
        """The packet of a line, from the peer `name` if it is TCP."""
        kind, _, rest = line.partition(" ")
        if kind == "udp":
            ports, _, size = rest.partition(" ")
            sport, dport = ports.split(">")
            data = body(int(size.strip("()")))
            head = struct.pack("!HHHH", int(sport), int(dport), 8 + len(data), 0)
            pseudo = inet_aton(PEER) + inet_aton(HOST) + struct.pack("!HH", 17, 8 + len(data))
            return self.ip(17, head[:6] + struct.pack("!H", checksum(pseudo + head + data) or 0xFFFF) + data)
        if kind == "icmp":
            words = rest.split()
            conn = self.conns.get(name)
            quote = conn.quote if conn is not None and conn.quote else self.quote
            return self.icmp(int(words[0]), int(words[1]), int(words[3]) if len(words) > 3 else 0, quote[:48])
        if kind in ("echo", "echoreply"):
            ident, seq, size = rest.split()
            return self.icmp(8 if kind == "echo" else 0, 0, int(ident) << 16 | int(seq), body(int(size.strip("()"))))
        if kind == "ip":
            protocol, size = rest.split()
            return self.ip(int(protocol), body(int(size.strip("()"))))
        return self.emit_tcp(self.conns[name], line)

    @staticmethod
    def ip(protocol: int, payload: bytes) -> bytes:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, protocol, 0)
        tail = inet_aton(PEER) + inet_aton(HOST)
        return head[:10] + struct.pack("!H", checksum(head + tail)) + tail + payload

    def icmp(self, type: int, code: int, rest: int, data: bytes) -> bytes:
        message = struct.pack("!BBHI", type, code, 0, rest) + data
        return self.ip(1, message[:2] + struct.pack("!H", checksum(message)) + message[4:])

    def emit_tcp(self, conn: Conn, line: str) -> bytes:
        found = TCP_LINE.match(line)
        assert found is not None, f"not a packet: {line!r}"
        flags = sum([LETTERS[c] for c in found["flags"] if c != "-"])
        seq = number(found["seq"], {"nxt": conn.nxt, "edge": conn.edge}, PEER_ISN)
        ack = 0
        if found["ack"]:
            ack = number(found["ack"], {"snd": conn.snd, "una": conn.una}, max(conn.isn, 0))
            if flags & 16 and conn.isn >= 0 and signed(ack - conn.una) > 0 and signed(ack - conn.snd) <= 0:
                conn.una = ack
        options = self.options(conn, found["opts"] or "")
        if flags & 2:
            conn.scaled = "ws " in line
        data = body(int(found["len"] or 0))
        words = len(options) // 4 + 5
        head = struct.pack(
            "!HHIIBBHHH", conn.peer_port, conn.host_port, seq, ack, words << 4, flags, int(found["win"] or 65535), 0,
            int(found["urg"] or 0),
        )  # fmt: skip
        pseudo = inet_aton(PEER) + inet_aton(HOST) + struct.pack("!HH", 6, len(head) + len(options) + len(data))
        csum = checksum(pseudo + head + options + data)
        return self.ip(6, head[:16] + struct.pack("!H", csum) + head[18:] + options + data)

    def options(self, conn: Conn, text: str) -> bytes:
        out = b""
        for option in [o.strip() for o in text.split(",") if o.strip()]:
            words = option.split()
            if words[0] == "mss":
                out += struct.pack("!BBH", 2, 4, int(words[1]))
            elif words[0] == "ws":
                out += bytes([3, 3, int(words[1])])
            elif words[0] == "sackOK":
                out += b"\4\2"
            elif words[0] == "nop":
                out += b"\1"
            elif words[0] == "TS":
                ecr = number(words[3], {"last": max(conn.tsval, 0)}, 0)
                out += struct.pack("!BBII", 8, 10, int(words[1]) & M32, ecr)
            elif words[0] == "sack":
                blocks = [number(n, {"snd": conn.snd, "una": conn.una}, max(conn.isn, 0)) for w in words[1:] for n in w.split(":")]
                out += bytes([5, 2 + 4 * len(blocks)]) + struct.pack(f"!{len(blocks)}I", *blocks)
            else:
                assert words[0] == "raw", option
                out += bytes.fromhex(words[1])
        out = out[:40]
        return out + bytes(-len(out) % 4)

    # -- out ---------------------------------------------------------------------------------------------------------------

    def show(self, packet: bytes) -> str:
        """A packet that came out, with what it says about its connection remembered."""
        hlen = (packet[0] & 15) * 4
        _, tos, total, _id, frag, ttl, protocol, _csum = struct.unpack_from("!BBHHHBBH", packet)
        self.quote = packet
        payload = packet[hlen:]
        extra = "" if checksum(packet[:hlen]) == 0 and total == len(packet) else " BAD-IP"
        extra += f" tos {tos}" if tos else ""
        extra += f" ttl {ttl}" if ttl != 64 else ""
        extra += "" if frag == 0x4000 else f" frag {frag:#x}"
        extra += f" ipopt {packet[20:hlen].hex()}" if hlen > 20 else ""
        if packet[16:20] != inet_aton(PEER):
            extra += f" to {inet_ntoa(packet[16:20])}"
        if len(payload) < (20 if protocol == 6 else 8):
            return f"ip {protocol} ({len(payload)}){extra}"
        if protocol == 6 and not frag & 0x3FFF:
            return self.show_tcp(packet, payload) + extra
        if protocol == 17 and not frag & 0x3FFF:
            sport, dport, length, csum = struct.unpack_from("!HHHH", payload)
            pseudo = packet[12:20] + struct.pack("!HH", 17, len(payload))
            good = length == len(payload) and (csum == 0 or checksum(pseudo + payload) == 0)
            return f"udp {sport if sport < 32768 else 'EPH'}>{dport} ({length - 8}){'' if good else ' BAD'}{extra}"
        if protocol == 1 and not frag & 0x3FFF:
            type, code, _c, rest = struct.unpack_from("!BBHI", payload)
            shown = f"rest {rest & 0xFFFF} " if type in (0, 8) else f"rest {rest} "
            return f"icmp {type} {code} {shown}({len(payload) - 8}){'' if checksum(payload) == 0 else ' BAD'}{extra}"
        return f"ip {protocol} ({len(payload)}){extra}"

    def show_tcp(self, packet: bytes, th: bytes) -> str:
        sport, dport, seq, ack, off, flags, win, _csum, urg = struct.unpack_from("!HHIIBBHHH", th)
        good = checksum(packet[12:20] + struct.pack("!HH", 6, len(th)) + th) == 0
        conn = None
        for c in self.conns.values():
            if c.peer_port == dport and c.host_port in (0, sport):
                conn = c
        doff = (off >> 4) * 4
        size = len(th) - doff
        names = "".join([c for c, bit in LETTERS.items() if flags & bit]) or "-"
        if conn is None:
            return f"?: {names} ({size}){'' if good else ' BAD'}"
        conn.host_port = sport
        conn.quote = packet
        shown = self.show_seq(conn, seq, flags)
        end = seq + size + (flags & 1) + (flags >> 1 & 1) & M32
        if not flags & 4 and signed(end - conn.snd) > 0:
            conn.snd = end
        line = f"{conn.name}: {names} {shown}"
        if size:
            line += f"({size})"
        options = self.show_options(conn, th[20:doff], flags)
        if flags & 16:
            line += f" ack {signed(ack - PEER_ISN)}"
            if not flags & 4:
                conn.nxt = ack
                conn.edge = ack + (win << (conn.wscale if conn.scaled and not flags & 2 else 0)) & M32
        elif ack:
            line += f" noack {ack}"
        line += f" win {win}"
        if urg or flags & 32:
            line += f" urg {urg}"
        if options:
            line += f" <{options}>"
        return line + ("" if good else " BAD")

    @staticmethod
    def show_seq(conn: Conn, seq: int, flags: int) -> str:
        if flags & 2:
            # A first number of its own, or the old connection's.
            old, before = conn.isn, conn.snd
            if old < 0 or seq != old:
                conn.isn, conn.snd, conn.una = seq, seq, seq
                conn.wscale, conn.tsval = 0, -1
                return "new" if old < 0 or seq != (before + REOPENED) & M32 else "reopened"
            return "0"
        if seq == 0 or conn.isn < 0:
            return f"abs {seq}"
        return str(signed(seq - conn.isn))

    @staticmethod
    def show_options(conn: Conn, options: bytes, flags: int) -> str:
        out = []
        i = 0
        while i < len(options):
            kind = options[i]
            if kind <= 1:
                out.append(("eol", "nop")[kind])
                i += 1
                continue
            size = options[i + 1] if i + 1 < len(options) else 0
            value = options[i + 2 : i + size]
            if size < 2:
                return "BAD"
            if kind == 2:
                out.append(f"mss {struct.unpack('!H', value)[0]}")
            elif kind == 3:
                out.append(f"ws {value[0]}")
                if flags & 2:
                    conn.wscale = value[0]
            elif kind == 4:
                out.append("sackOK")
            elif kind == 5:
                numbers = [signed(n - PEER_ISN) for n in struct.unpack(f"!{len(value) // 4}I", value)]
                out.append("sack " + " ".join([f"{a}:{b}" for a, b in zip(numbers[::2], numbers[1::2], strict=True)]))
            elif kind == 8:
                val, ecr = struct.unpack("!II", value)
                back = conn.tsval >= 0 and signed(val - conn.tsval) < 0
                conn.tsval = val
                out.append(f"TS{' backwards' if back else ''} ecr {ecr}")
            else:
                out.append(f"{kind}:{value.hex()}")
            i += size
        return ",".join(out)
