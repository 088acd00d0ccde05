"""host.security and afinet.Policy, as people use them."""

from __future__ import annotations

import errno
import importlib.util
from pathlib import Path

import pytest

import afinet
from afinet import socket

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "security_policy.py"


def test_the_example_says_what_it_promises() -> None:
    spec = importlib.util.spec_from_file_location("security_policy", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    said, audit = module.main()
    assert said == ["port 80: welcome", "port 22: EACCES", "port 80: welcome", "port 80: EDQUOT"]
    assert len(audit) == 1 and "denied { connect } proto=tcp dest=10.0.0.2:22 rule=2" in audit[0]


class Deaf(afinet.SecurityHook):
    """A module of a user's own, with state."""

    def __init__(self) -> None:
        self.dropped = 0

    def socket_sock_rcv_skb(self, sk, skb):
        self.dropped += 1
        return -errno.EPERM


def test_modules_come_and_go_on_a_host() -> None:
    with afinet.Network(seed=1) as net:
        host = net.host("a")
        deaf = Deaf()
        assert host.security.add(deaf) is deaf
        assert list(host.security) == [deaf] and len(host.security) == 1

        def talk() -> str:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind(("127.0.0.1", 5000))
                s.settimeout(1)
                s.sendto(b"hello", ("127.0.0.1", 5000))
                try:
                    return s.recv(10).decode()
                except TimeoutError:
                    return "silence"

        first = host.spawn(talk)
        net.run(until=first)
        host.security.remove(deaf)
        second = host.spawn(talk)
        net.run(until=second)
        assert (first.result(), second.result(), deaf.dropped) == ("silence", "hello", 1)


def test_one_policy_serves_many_hosts() -> None:
    with afinet.Network(seed=1) as net:
        a, b = net.host("a"), net.host("b")
        policy = afinet.Policy().deny("bind", host="a", port="5000-5999").deny("bind", task="second", protocol=17)
        for host in (a, b):
            host.security.add(policy)

        def first() -> list[int]:
            out = []
            for port in (5000, 6000):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                    try:
                        s.bind(("", port))
                        out.append(0)
                    except OSError as e:
                        out.append(e.errno or 0)
            return out

        def second() -> list[int]:
            return first()

        tasks = [host.spawn(fn, name=fn.__name__) for fn in (first, second) for host in (a, b)]
        net.run()
        assert [task.result() for task in tasks] == [[13, 0], [0, 0], [13, 13], [13, 13]]
        assert len(policy.audit.lines()) == 5


@pytest.mark.parametrize(
    "wrong, says",
    [
        (lambda: afinet.Policy("maybe"), "'allow' or 'deny'"),
        (lambda: afinet.Policy().deny("conect"), "no operation 'conect': there are create, bind"),
        (lambda: afinet.Policy().deny("connect", adress="1.2.3.4"), "no condition 'adress': there are host, task, address"),
        (lambda: afinet.Policy().deny(address="1.2.3"), "is not an IPv4 address"),
        (lambda: afinet.Policy().deny(port="80-"), "give a number, or a range"),
        (lambda: afinet.Policy().deny(port=70000), "give a number, or a range"),
        (lambda: afinet.Policy().deny(protocol="sctp"), "give one of icmp, igmp, tcp, udp, or a number"),
    ],
)
def test_a_mistake_gets_one_line_that_names_the_remedy(wrong, says) -> None:
    with pytest.raises(afinet.UsageError, match=says):
        wrong()


def test_what_is_no_module_is_refused() -> None:
    with afinet.Network(seed=1) as net:
        host = net.host("a")
        with pytest.raises(afinet.UsageError, match="is no security module"):
            host.security.add(object())  # type: ignore[arg-type]
        policy = afinet.Policy()
        host.security.add(policy)
        with pytest.raises(afinet.UsageError, match="already"):
            host.security.add(policy)
        with pytest.raises(afinet.UsageError, match="none of a's"):
            host.security.remove(Deaf())
