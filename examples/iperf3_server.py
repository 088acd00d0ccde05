"""A server for iperf3's client, in plain blocking Python: `iperf3 -c HOST`, with -R, --bidir, -P, -u, -n, -O and the rest.

    python iperf3_server.py [-p PORT] [-1]
    afinet up --tun afi0 --address 10.9.0.2/24 -- python examples/iperf3_server.py        # then: iperf3 -c 10.9.0.2

One test at a time, as iperf3's own server has it; whoever comes meanwhile waits. A test has a control connection, on which both
sides send states (a byte) and JSON (a length of four bytes, then the text), and one connection a stream, each of which begins with
the client's cookie. The client says when it is over. Left out: SCTP, MPTCP, authentication.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
import threading
import time
from typing import Any

# iperf_api.h
TEST_START, TEST_RUNNING, TEST_END = 1, 2, 4
PARAM_EXCHANGE, CREATE_STREAMS = 9, 10
CLIENT_TERMINATE, EXCHANGE_RESULTS, DISPLAY_RESULTS, IPERF_DONE = 12, 13, 14, 16
ACCESS_DENIED, SERVER_ERROR = -1, -2
IEUNIMP = 13
COOKIE_SIZE = 37
MAX_JSON = 1 << 20
PATIENCE = 30  # seconds without a word of a client that has something to say

# iperf_udp.h: what a client's stream begins with, in the byte order of its machine, and the answer
UDP_CONNECT = {0x36373839: 0x39383736, 123456789: 987654321}

TCP_INFO_TOTAL_RETRANS = 100  # offset in struct tcp_info


class Refused(Exception):
    """The client wants what is not here, or speaks something else."""


def read_exactly(s: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = s.recv(size - len(data))
        if not more:
            raise Refused("the client is gone")
        data += more
    return data


def send_state(s: socket.socket, state: int) -> None:
    s.sendall(struct.pack("b", state))


def read_state(s: socket.socket) -> int:
    state: int = struct.unpack("b", read_exactly(s, 1))[0]
    return state


def send_json(s: socket.socket, value: object) -> None:
    data = json.dumps(value).encode()
    s.sendall(struct.pack(">I", len(data)) + data)


def read_json(s: socket.socket) -> dict[str, Any]:
    (size,) = struct.unpack(">I", read_exactly(s, 4))
    if size > MAX_JSON:
        raise Refused(f"{size} bytes of JSON")
    value = json.loads(read_exactly(s, size))
    if not isinstance(value, dict):
        raise Refused("JSON that is no object")
    return value


class Stream:
    """One stream of a test, with a thread of its own."""

    def __init__(self, test: Test, number: int, sending: bool) -> None:
        # The client numbers them 1, 3, 4, 5 ... and so must the results.
        self.id = number if number == 1 else number + 1
        self.test = test
        self.sending = sending
        self.bytes = self.omitted_bytes = 0
        self.packets = self.omitted_packets = 0
        self.errors = self.omitted_errors = 0
        self.jitter = 0.0
        self.retransmits = -1
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            if self.sending:
                self.send()
            else:
                self.receive()
        except OSError:
            pass  # the connection ends with the test

    def send(self) -> None:
        raise NotImplementedError

    def receive(self) -> None:
        raise NotImplementedError

    def omit(self) -> None:
        """What was counted so far was the warming up."""
        self.omitted_bytes, self.omitted_packets, self.omitted_errors = self.bytes, self.packets, self.errors

    def stop(self) -> None:
        pass

    def results(self, elapsed: float) -> dict[str, object]:
        return {
            "id": self.id,
            "bytes": self.bytes - self.omitted_bytes,
            "retransmits": self.retransmits,
            "jitter": self.jitter,
            "errors": self.errors,
            "omitted_errors": self.omitted_errors,
            "packets": self.packets,
            "omitted_packets": self.omitted_packets,
            "start_time": 0,
            "end_time": elapsed,
        }


class TcpStream(Stream):
    def __init__(self, test: Test, number: int, sending: bool, connection: socket.socket) -> None:
        super().__init__(test, number, sending)
        self.connection = connection
        connection.settimeout(None)
        if test.params.get("nodelay"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        block = memoryview(bytes(self.test.length))
        pace = Pace(self.test.rate)
        while not self.test.over:
            n = self.connection.send(block)
            self.bytes += n
            pace.wait(n)

    def receive(self) -> None:
        buffer = bytearray(max(self.test.length, 1 << 17))
        while n := self.connection.recv_into(buffer):
            self.bytes += n

    def stop(self) -> None:
        if self.sending and hasattr(socket, "TCP_INFO"):
            info = self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            if len(info) == 104:
                (self.retransmits,) = struct.unpack_from("I", info, TCP_INFO_TOTAL_RETRANS)
        try:
            self.connection.shutdown(socket.SHUT_RDWR)  # ends the call in which the thread waits
        except OSError:
            pass
        self.thread.join()
        self.connection.close()


class UdpStream(Stream):
    """A stream on the port's one socket. What comes is brought by the test's thread that reads it."""

    def __init__(self, test: Test, number: int, sending: bool, peer: tuple[str, int]) -> None:
        super().__init__(test, number, sending)
        self.peer = peer
        self.header = struct.Struct(">IIQ" if test.params.get("udp_counters_64bit") else ">III")
        self.transit = 0.0

    def send(self) -> None:
        pad = bytes(max(self.test.length - self.header.size, 0))
        pace = Pace(self.test.rate)
        while not self.test.over:
            self.packets += 1
            now = time.time()
            head = self.header.pack(int(now), int(now % 1 * 1e6), self.packets)
            self.bytes += self.test.udp.sendto(head + pad, self.peer)
            pace.wait(len(head) + len(pad))

    def receive(self) -> None:
        pass

    def arrived(self, data: bytes) -> None:
        if len(data) < self.header.size:
            return
        seconds, micros, number = self.header.unpack_from(data)
        self.bytes += len(data)
        if number > self.packets:
            self.errors += number - self.packets - 1
            self.packets = number
        elif self.errors > 0:
            self.errors -= 1  # late, not lost
        # RFC 1889, A.8
        transit = time.time() - (seconds + micros / 1e6)
        if self.transit:
            self.jitter += (abs(transit - self.transit) - self.jitter) / 16
        self.transit = transit

    def stop(self) -> None:
        self.thread.join()


class Pace:
    """Waits so that no more than `rate` bits a second are sent; 0: it never waits."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.due = time.monotonic()

    def wait(self, size: int) -> None:
        if self.rate:
            self.due += size * 8 / self.rate
            ahead = self.due - time.monotonic()
            if ahead > 0.001:
                time.sleep(ahead)


class Test:
    """One client's test, from its cookie to its goodbye."""

    def __init__(self, listener: socket.socket, control: socket.socket) -> None:
        self.listener = listener
        self.control = control
        self.over = False
        self.streams: list[Stream] = []
        control.settimeout(PATIENCE)
        control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.cookie = read_exactly(control, COOKIE_SIZE)
        send_state(control, PARAM_EXCHANGE)
        self.params = read_json(control)
        if not self.params.get("tcp") and not self.params.get("udp"):
            send_state(control, SERVER_ERROR)
            control.sendall(struct.pack(">II", IEUNIMP, 0))
            raise Refused("neither TCP nor UDP")
        self.length = min(max(int(self.params.get("len", 1 << 17)), 16), 1 << 20)
        self.rate = int(self.params.get("bandwidth", 0))
        # Streams to the server first, then those to the client.
        count = min(max(int(self.params.get("parallel", 1)), 1), 128)
        reverse = bool(self.params.get("reverse"))
        self.directions = [reverse] * count if not self.params.get("bidirectional") else [False] * count + [True] * count

    def run(self) -> str:
        """The whole of it. What there is to say about it."""
        if self.params.get("udp"):
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with self.udp:
                self.udp.bind(self.listener.getsockname())
                self.udp.settimeout(0.2)
                return self._run(self._udp_streams)
        return self._run(self._tcp_streams)

    def _run(self, make_streams: Any) -> str:
        send_state(self.control, CREATE_STREAMS)
        make_streams()
        send_state(self.control, TEST_START)
        send_state(self.control, TEST_RUNNING)
        began, cpu = time.monotonic(), os.times()
        for stream in self.streams:
            stream.thread.start()
        reader = threading.Thread(target=self._read_udp, daemon=True)
        if self.params.get("udp"):
            reader.start()
        omit = float(self.params.get("omit", 0))
        warm = threading.Timer(omit, self._omit)
        warm.daemon = True
        if omit:
            warm.start()
        try:
            # However long it takes.
            self.control.settimeout(None)
            state = read_state(self.control)
            self.control.settimeout(PATIENCE)
            elapsed = max(time.monotonic() - began - omit, 1e-6)
            used = os.times()
        finally:
            self.over = True
            warm.cancel()
            for stream in self.streams:
                stream.stop()
            if reader.ident:
                reader.join()
        if state != TEST_END:
            raise Refused("the client has given up" if state == CLIENT_TERMINATE else f"state {state} instead of the end")
        user, system = used.user - cpu.user, used.system - cpu.system
        whole = elapsed + omit
        said = self._summary(elapsed)
        results: dict[str, object] = {
            "cpu_util_total": 100 * (user + system) / whole,
            "cpu_util_user": 100 * user / whole,
            "cpu_util_system": 100 * system / whole,
            "sender_has_retransmits": 1 if any(stream.retransmits >= 0 for stream in self.streams) else -1,
            "streams": [stream.results(elapsed) for stream in self.streams],
        }
        if self.params.get("get_server_output"):
            results["server_output_text"] = said + "\n"
        send_state(self.control, EXCHANGE_RESULTS)
        read_json(self.control)
        send_json(self.control, results)
        send_state(self.control, DISPLAY_RESULTS)
        if read_state(self.control) != IPERF_DONE:
            raise Refused("no goodbye")
        return said

    def _tcp_streams(self) -> None:
        while len(self.streams) < len(self.directions):
            connection, _ = self.listener.accept()
            connection.settimeout(PATIENCE)
            cookie = read_exactly(connection, COOKIE_SIZE)
            if cookie != self.cookie:
                send_state(connection, ACCESS_DENIED)  # another client: one test at a time
                connection.close()
                continue
            number = len(self.streams) + 1
            self.streams.append(TcpStream(self, number, self.directions[number - 1], connection))

    def _udp_streams(self) -> None:
        end = time.monotonic() + PATIENCE
        answered: dict[tuple[str, int], bytes] = {}
        while len(self.streams) < len(self.directions):
            if time.monotonic() > end:
                raise Refused("no datagram of a stream came")
            try:
                data, peer = self.udp.recvfrom(1 << 16)
            except TimeoutError:
                continue
            for order in "<>":
                answer = UDP_CONNECT.get(struct.unpack_from(f"{order}I", data.ljust(4, b"\0"))[0])
                if answer is None:
                    continue
                if peer not in answered:
                    answered[peer] = struct.pack(f"{order}I", answer)
                    number = len(self.streams) + 1
                    self.streams.append(UdpStream(self, number, self.directions[number - 1], peer))
                self.udp.sendto(answered[peer], peer)

    def _read_udp(self) -> None:
        streams = {stream.peer: stream for stream in self.streams if isinstance(stream, UdpStream) and not stream.sending}
        while not self.over:
            try:
                data, peer = self.udp.recvfrom(1 << 16)
            except TimeoutError:
                continue
            if peer in streams:
                streams[peer].arrived(data)

    def _omit(self) -> None:
        for stream in self.streams:
            stream.omit()

    def _summary(self, elapsed: float) -> str:
        parts = []
        for sending, verb in ((False, "received"), (True, "sent")):
            total = sum(s.bytes - s.omitted_bytes for s in self.streams if s.sending is sending)
            if total:
                parts.append(f"{verb} {total:,} bytes, {total * 8 / elapsed / 1e6:,.1f} Mbit/s")
        return f"{len(self.streams)} stream(s), {elapsed:.2f} s: {'; '.join(parts) or 'nothing'}"


def serve(listener: socket.socket) -> None:
    """One test."""
    control, peer = listener.accept()
    with control:
        try:
            print(f"{peer[0]}: {Test(listener, control).run()}", flush=True)
        except (Refused, OSError, ValueError) as e:
            print(f"{peer[0]}: {e}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="A server for iperf3's client.")
    parser.add_argument("-p", "--port", type=int, default=5201)
    parser.add_argument("-B", "--bind", default="", metavar="HOST")
    parser.add_argument("-1", "--one-off", action="store_true", help="one test, then the end")
    args = parser.parse_args()
    with socket.create_server((args.bind, args.port)) as listener:
        print(f"ready on port {args.port}", flush=True)
        while True:
            serve(listener)
            if args.one_off:
                break


if __name__ == "__main__":
    main()
