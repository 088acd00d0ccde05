"""What does this Linux make of ARP packets? Two namespaces on a veth: one is asked, the other speaks ARP by hand (AF_PACKET).

Run as root. Prints one line a case: the answers, then the neighbour table.
"""

import os
import socket
import struct
import subprocess
import sys
import time

ASKED, ASKER = "arp-asked", "arp-asker"
CLONE_NEWNET = 0x40000000
ALL, ZERO = b"\xff" * 6, bytes(6)
OTHER = bytes.fromhex("020101010101")


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout


def build() -> None:
    for name in (ASKED, ASKER):
        sh(f"ip netns del {name}; ip netns add {name}")
    sh(f"ip link add v0 netns {ASKED} type veth peer name v1 netns {ASKER}")
    sh(f"ip -n {ASKED} addr add 10.0.0.1/24 dev v0; ip -n {ASKED} link set v0 up; ip -n {ASKED} link set lo up")
    sh(f"ip -n {ASKED} addr add 10.0.1.1/24 dev lo")
    sh(f"ip -n {ASKER} link set v1 up; ip -n {ASKER} link set v1 arp off")
    time.sleep(0.3)


def mac(name: str, dev: str) -> bytes:
    return bytes.fromhex(sh(f"ip -n {name} -br link show {dev}").split()[2].replace(":", ""))


def packet(op: int, sha: bytes, spa: str, tha: bytes, tpa: str, dst: bytes = ALL) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, op) + sha + socket.inet_aton(spa) + tha + socket.inet_aton(tpa)
    return dst + sha + b"\x08\x06" + body


def answer(s: socket.socket) -> str:
    try:
        while True:
            frame, source = s.recvfrom(2000)
            if source[2] != socket.PACKET_OUTGOING:
                break
    except TimeoutError:
        return "silence"
    op = "request" if frame[21] == 1 else "reply"
    spa, tpa = socket.inet_ntoa(frame[28:32]), socket.inet_ntoa(frame[38:42])
    return f"{op} to {frame[:6].hex(':')}: {spa} is at {frame[22:28].hex(':')}, for {tpa} at {frame[32:38].hex(':')}"


def main() -> None:
    build()
    me, us = mac(ASKER, "v1"), mac(ASKED, "v0")
    ns = os.open(f"/var/run/netns/{ASKER}", os.O_RDONLY)
    if sys.version_info >= (3, 12):
        os.setns(ns, CLONE_NEWNET)
    else:
        import ctypes

        ctypes.CDLL(None).setns(ns, CLONE_NEWNET)
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    s.bind(("v1", 0x0806))
    s.settimeout(0.4)

    def case(name: str, *steps: bytes | float, **conf: int) -> None:
        sh(f"ip -n {ASKED} neigh flush nud all")
        for key, value in conf.items():
            sh(f"ip netns exec {ASKED} sysctl -w net.ipv4.conf.v0.{key}={value}")
        answers = []
        for step in steps:
            if isinstance(step, float):
                time.sleep(step)
            else:
                s.send(step)
                answers.append(answer(s))
        known = sh(f"ip -n {ASKED} -4 neigh show nud all").strip().replace("\n", "; ")
        print(f"{name}\n    {' | '.join(answers)}\n    {known or '(no entry)'}")
        for key in conf:
            sh(f"ip netns exec {ASKED} sysctl -w net.ipv4.conf.v0.{key}=0")

    ask = packet(1, me, "10.0.0.2", ZERO, "10.0.0.1")
    case("a question for us", ask)
    case("for another", packet(1, me, "10.0.0.2", ZERO, "10.0.0.9"))
    for tpa in ("127.0.0.1", "10.0.0.255", "224.0.0.1", "10.0.1.1"):
        case(f"for {tpa}", packet(1, me, "10.0.0.2", ZERO, tpa))
    answered = ("0.0.0.0", "10.9.9.9", "0.0.0.7", "241.0.0.7", "10.0.0.255")
    for spa in (*answered, "10.0.0.1", "255.255.255.255", "224.0.0.1", "127.0.0.5"):
        case(f"from {spa}", packet(1, me, spa, ZERO, "10.0.0.1"))
    for sha in (ZERO, bytes.fromhex("01005e000001")):
        case(f"from hardware address {sha.hex(':')}", packet(1, sha, "10.0.0.2", ZERO, "10.0.0.1"))
    reply = packet(2, me, "10.0.0.2", us, "10.0.0.1", us)
    garp = packet(1, OTHER, "10.0.0.2", ZERO, "10.0.0.2")
    other = packet(2, OTHER, "10.0.0.2", us, "10.0.0.1", us)
    case("an unasked reply", reply)
    case("an unasked reply, arp_accept", reply, arp_accept=1)
    case("a gratuitous announcement", garp)
    case("a gratuitous announcement, arp_accept", garp, arp_accept=1)
    case("... of a known neighbour with another address", ask, garp)
    case("... with drop_gratuitous_arp", ask, garp, drop_gratuitous_arp=1)
    case("a reply of a known neighbour", ask, reply)
    case("... to the broadcast address", ask, packet(2, me, "10.0.0.2", us, "10.0.0.1"))
    case("... with another address, at once", ask, other)
    case("... with another address, later", ask, 1.2, other)
    case("arp_ignore=1, an address of lo", packet(1, me, "10.0.0.2", ZERO, "10.0.1.1"), arp_ignore=1)
    case("arp_ignore=2, another subnet", packet(1, me, "10.9.9.9", ZERO, "10.0.0.1"), arp_ignore=2)
    case("arp_ignore=8", ask, arp_ignore=8)
    for name in (ASKED, ASKER):
        sh(f"ip netns del {name}")


if __name__ == "__main__":
    main()
