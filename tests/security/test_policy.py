"""security/policy.py and lsm_audit.py: what rules match, what a denial does, and the trail."""

from __future__ import annotations

from afinet.security.lsm_audit import AuditLog, AuditRecord
from afinet.security.policy import POLICY_OPS, Policy, PolicyRule
from afinet.security.security import security_add_hooks
from afinet.uapi.errno import EACCES, EAGAIN
from afinet.uapi.socket import AF_INET, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from tests.net.ipv4.dgramhost import SEC, A, B, Hosts, addr, sa


def guarded(*rules: PolicyRule, default: bool = True) -> tuple[Hosts, Policy]:
    h = Hosts()
    policy = Policy(default)
    for rule in rules:
        policy.append(rule)
    security_add_hooks(h.kernel, policy)
    return h, policy


def test_the_first_rule_that_matches_decides() -> None:
    allow = PolicyRule(True, ("connect",), addr=addr(B), plen=32, port_min=80, port_max=80, protocol=6)
    deny = PolicyRule(False, ("connect",), addr=addr("10.0.0.0"), plen=8)
    h, policy = guarded(allow, deny)
    tcp, udp = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0), h.socket(0, AF_INET, SOCK_DGRAM, 0)
    assert h.connect(tcp, sa(B, 81)) == -EACCES
    assert h.connect(tcp, sa(B, 80)) != -EACCES
    assert h.connect(udp, sa(B, 80)) == -EACCES, "another protocol"
    assert h.connect(udp, sa("127.0.0.1", 80)) == 0, "another network: the default"
    assert h.connect(udp, sa("0.0.0.0", 0, 0)) == 0, "AF_UNSPEC connects to nobody"
    assert (allow.hits, deny.hits) == (1, 2)
    assert len(policy.audit.lines()) == 2


def test_a_denial_is_recorded_with_who_what_and_where() -> None:
    h, policy = guarded(PolicyRule(False, ("connect", "bind"), port_min=1, port_max=1023))
    fd = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    h.connect(fd, sa(B, 22))
    h.bind(fd, sa(A, 443))
    h.bind(fd, sa(A, 8080))
    first, second = policy.audit.lines()
    assert first.endswith(f':1): host=parity pid={h.task.pid} comm="parity" denied {{ connect }} proto=tcp dest=10.9.0.2:22 rule=1')
    assert second.endswith("denied { bind } proto=tcp src=10.9.0.1:443 rule=1")
    assert first.startswith("type=1400 audit(")


def test_a_default_of_deny_lets_only_what_is_named() -> None:
    h, policy = guarded(
        PolicyRule(True, ("create",), protocol=17), PolicyRule(True, ("send",), addr=addr(B), plen=32), default=False
    )
    assert h.socket(0, AF_INET, SOCK_STREAM, 0) == -EACCES
    assert h.socket(0, AF_INET, SOCK_RAW, 1) == -EACCES
    fd = h.socket(0, AF_INET, SOCK_DGRAM, 0)
    assert fd >= 0
    assert h.bind(fd, sa(A, 5000)) == -EACCES
    assert h.send(fd, b"x", sa(B, 5000)) == 1
    assert h.send(fd, b"x", sa("10.9.0.3", 5000)) == -EACCES
    assert policy.audit.lines()[-1].endswith("dest=10.9.0.3:5000 rule=default")


def test_packets_are_refused_by_their_sender_and_the_task_that_made_the_sock() -> None:
    h, policy = guarded(PolicyRule(False, ("recv",), task="parity", addr=addr("10.9.0.0"), plen=24, port_min=6000, port_max=6999))
    rx = h.udp(1, bind=sa(B, 5000))
    bad, good = h.udp(0, bind=sa(A, 6000)), h.udp(0, bind=sa(A, 7000))
    h.send(bad, b"bad", sa(B, 5000))
    h.send(good, b"good", sa(B, 5000))
    assert h.recv(rx) == b"good"
    assert h.recv(rx) == -EAGAIN
    (line,) = policy.audit.lines()
    assert line.endswith('pid=0 comm="parity" denied { recv } proto=udp saddr=10.9.0.1:6000 rule=1')


def test_a_listener_does_not_hear_of_a_refused_peer() -> None:
    h, policy = guarded(PolicyRule(False, ("accept",), addr=addr(A), plen=32))
    ln = h.socket(1, AF_INET, SOCK_STREAM | 0x800, 0)
    h.bind(ln, sa(B, 80))
    h.listen(ln, 1)
    c = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    h.connect(c, sa(B, 80))
    h.run_until(h.kernel.now + SEC)
    assert h.accept(ln) == -EAGAIN
    assert "denied { accept } proto=tcp saddr=10.9.0.1:" in policy.audit.lines()[0]


def test_a_rule_may_name_the_host() -> None:
    rule = PolicyRule(False, POLICY_OPS, host="elsewhere")
    h, policy = guarded(rule)
    assert h.socket(0, AF_INET, SOCK_DGRAM, 0) >= 0
    rule.host = "parity"
    assert h.socket(0, AF_INET, SOCK_DGRAM, 0) == -EACCES
    assert "{ create } proto=udp rule=1" in policy.audit.lines()[0]


def test_labels_go_with_their_socks() -> None:
    h, policy = guarded()
    fds = [h.socket(0, AF_INET, SOCK_DGRAM, 0) for _ in range(5)]
    assert len(policy._labels) == 5
    for fd in fds:
        h.close(fd)
    assert policy._labels == {}


def test_grants_are_recorded_if_asked_for() -> None:
    h = Hosts()
    policy = Policy(True, True)
    security_add_hooks(h.kernel, policy)
    h.udp(0, bind=sa(A, 5000))
    assert [record.op for record in policy.audit.records()] == ["create", "bind"]
    assert "granted { bind } proto=udp src=10.9.0.1:5000 rule=default" in policy.audit.lines()[1]


class Told(AuditLog):
    """A trail that tells at once."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.told: list[int] = []

    def emit(self, record: AuditRecord) -> None:
        self.told.append(record.serial)


def test_the_trail_is_bounded_and_counts_what_it_lost() -> None:
    h = Hosts()
    log = Told(3)
    for port in range(5):
        log.log(AuditRecord(h.kernel, 1, "t", "bind", False, 6, 0, port, 0))
    assert [r.port for r in log.records()] == [2, 3, 4]
    assert [r.serial for r in log.records()] == [3, 4, 5]
    assert (log.lost, log.told) == (2, [1, 2, 3, 4, 5])
    log.clear()
    assert log.lines() == []
