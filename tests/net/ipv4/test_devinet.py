"""Addresses of devices, their settings, and the ioctls of ifconfig."""

from __future__ import annotations

import pytest

from afinet.kernel.notifier import NotifierBlock
from afinet.kernel.sysctl import sysctl_read, sysctl_write
from afinet.net.core import dev as dev_core
from afinet.net.core.net_namespace import Net, copy_net_ns
from afinet.net.core.netdevice import NETDEV_DOWN, NETDEV_UP, NetDevice
from afinet.net.ipv4 import devinet
from afinet.net.ipv4.devinet import InDevice, InIfaddr
from afinet.uapi.errno import EACCES, EADDRNOTAVAIL, EEXIST, EINVAL, ENODEV
from afinet.uapi.if_addr import IFA_F_SECONDARY
from afinet.uapi.sockios import (
    SIOCGIFADDR,
    SIOCGIFBRDADDR,
    SIOCGIFDSTADDR,
    SIOCGIFNETMASK,
    SIOCSIFADDR,
    SIOCSIFBRDADDR,
    SIOCSIFFLAGS,
    SIOCSIFNETMASK,
)
from tests.net.ipv4.routing import A, S, add_addr, add_dev, boot, del_addr, ip_route_show, route_get


def in_device(dev: NetDevice) -> InDevice:
    in_dev = dev.ip_ptr
    assert in_dev is not None
    return in_dev


def addresses(dev: NetDevice) -> list[str]:
    return [
        f"{S(ifa.ifa_local)}/{ifa.ifa_prefixlen}" + (" secondary" if ifa.ifa_flags & IFA_F_SECONDARY else "")
        for ifa in in_device(dev).ifa_list
    ]


# -- addresses -------------------------------------------------------------------------------------------------------------


def test_loopback_gets_its_address_when_it_comes_up_and_keeps_it_when_it_goes_down() -> None:
    net = boot()
    lo = net.loopback_dev
    assert lo is not None and addresses(lo) == ["127.0.0.1/8"]
    dev_core.dev_close(lo)
    assert addresses(lo) == ["127.0.0.1/8"]
    assert dev_core.dev_open(lo) == 0
    assert addresses(lo) == ["127.0.0.1/8"]
    assert ip_route_show(net, 255) == [
        "local 127.0.0.0/8 dev lo proto kernel scope host src 127.0.0.1",
        "local 127.0.0.1 dev lo proto kernel scope host src 127.0.0.1",
        "broadcast 127.255.255.255 dev lo proto kernel scope link src 127.0.0.1",
    ]


def test_primaries_stand_before_secondaries_in_order_of_falling_scope() -> None:
    net = boot()
    dev = add_dev(net, "e0", "10.0.0.1/24")
    assert add_addr(dev, "10.0.0.2/24") == 0
    assert add_addr(dev, "10.1.0.1/24") == 0
    assert add_addr(dev, "10.2.0.1/24", scope=253) == 0
    assert add_addr(dev, "10.0.0.3/25") == 0
    assert add_addr(dev, "10.0.0.1/24") == -EEXIST
    assert add_addr(dev, "10.0.0.9/24", scope=253) == -EINVAL
    assert add_addr(dev, "10.0.0.9/33") == -EINVAL
    # The list runs from narrow scope to wide, and a new one goes behind the last that is not wider.
    assert addresses(dev) == ["10.2.0.1/24", "10.0.0.1/24", "10.1.0.1/24", "10.0.0.3/25", "10.0.0.2/24 secondary"]
    assert devinet.inet_select_addr(dev, 0, 0) == A("10.0.0.1")
    assert devinet.inet_select_addr(dev, 0, 253) == A("10.2.0.1")
    assert devinet.inet_select_addr(dev, A("10.1.0.77"), 0) == A("10.1.0.1")


def test_a_deleted_primary_takes_its_secondaries_along_unless_they_are_promoted() -> None:
    for promote in (0, 1):
        net = boot()
        dev = add_dev(net, "e0", "10.0.0.1/24")
        for address in ("10.0.0.2/24", "10.1.0.1/24", "10.0.0.3/24"):
            assert add_addr(dev, address) == 0
        assert sysctl_write(net.sysctl_table, "net/ipv4/conf/e0/promote_secondaries", str(promote)) == 0
        assert del_addr(dev, "10.0.0.1/24") == 0
        if promote:
            assert addresses(dev) == ["10.1.0.1/24", "10.0.0.2/24", "10.0.0.3/24 secondary"]
            assert route_get(net, "10.0.0.77") == (0, "e0 10.0.0.2 -")
        else:
            assert addresses(dev) == ["10.1.0.1/24"]
        assert del_addr(dev, "10.0.0.1/24") == -EADDRNOTAVAIL
        assert A("10.0.0.1") not in net.ipv4.inet_addr_lst


class Listener(NotifierBlock):
    def __init__(self) -> None:
        self.heard: list[tuple[int, str]] = []

    def notifier_call(self, event: int, data: object) -> int:
        assert isinstance(data, InIfaddr)
        self.heard.append((event, S(data.ifa_local)))
        return 0


def test_the_chain_hears_of_each_address() -> None:
    net = boot()
    listener = Listener()
    net.kernel.inetaddr_chain.append(listener)
    dev = add_dev(net, "e0", "10.0.0.1/24")
    add_addr(dev, "10.0.0.2/24")
    dev_core.unregister_netdevice(dev)
    assert listener.heard == [
        (NETDEV_UP, "10.0.0.1"), (NETDEV_UP, "10.0.0.2"), (NETDEV_DOWN, "10.0.0.2"), (NETDEV_DOWN, "10.0.0.1"),
    ]  # fmt: skip


def test_a_device_that_leaves_takes_addresses_routes_and_settings_along() -> None:
    net = boot()
    before = len(net.sysctl_table), net.ipv4.fib.fib_info_cnt, dict(net.ipv4.inet_addr_lst)
    tables = [ip_route_show(net, 255), ip_route_show(net, 254)]
    dev = add_dev(net, "e0", "10.0.0.1/24")
    assert "net/ipv4/conf/e0/rp_filter" in net.sysctl_table
    dev_core.unregister_netdevice(dev)
    assert dev.ip_ptr is None
    assert (len(net.sysctl_table), net.ipv4.fib.fib_info_cnt, dict(net.ipv4.inet_addr_lst)) == before
    assert [ip_route_show(net, 255), ip_route_show(net, 254)] == tables


def test_an_mtu_too_small_for_ipv4_ends_it_until_it_grows_again() -> None:
    net = boot()
    dev = add_dev(net, "e0", "10.0.0.1/24")
    dev.min_mtu = 0
    assert dev_core.dev_set_mtu(dev, 67) == 0
    assert dev.ip_ptr is None
    assert dev_core.dev_set_mtu(dev, 68) == 0
    assert addresses(dev) == []


def test_who_owns_an_address_and_who_may_speak_from_it() -> None:
    net = boot()
    e0, e1 = add_dev(net, "e0", "10.0.0.1/24"), add_dev(net, "e1", "10.1.0.1/24")
    lo = net.loopback_dev
    assert devinet.ip_dev_find(net, A("10.1.0.1")) is e1
    assert devinet.ip_dev_find(net, A("127.0.0.9")) is lo  # its local route says so
    assert devinet.ip_dev_find(net, A("10.0.0.2")) is None
    assert devinet.inet_addr_onlink(in_device(e0), A("10.0.0.9"), 0)
    assert not devinet.inet_addr_onlink(in_device(e0), A("10.0.0.9"), A("10.1.0.9"))
    confirm = devinet.inet_confirm_addr
    assert confirm(net, in_device(e0), 0, A("10.0.0.1"), 253) == A("10.0.0.1")
    assert confirm(net, in_device(e0), 0, A("10.1.0.1"), 253) == 0
    assert confirm(net, None, 0, A("10.1.0.1"), 253) == A("10.1.0.1")
    assert confirm(net, None, A("10.1.0.9"), 0, 253) == A("10.1.0.1")
    assert confirm(net, in_device(e0), A("10.7.0.9"), A("10.0.0.1"), 253) == 0  # not of that subnet (arp_ignore 2)


# -- settings --------------------------------------------------------------------------------------------------------------


def test_the_settings_have_linux_defaults() -> None:
    net = boot()
    add_dev(net, "e0")
    expect = {
        "all/accept_source_route": "0", "default/accept_source_route": "1", "e0/accept_source_route": "1",
        "all/send_redirects": "1", "e0/secure_redirects": "1", "e0/accept_redirects": "1", "e0/shared_media": "1",
        "e0/rp_filter": "0", "e0/forwarding": "0", "e0/arp_ignore": "0", "e0/promote_secondaries": "0",
        "e0/arp_evict_nocarrier": "1",
        "e0/igmpv2_unsolicited_report_interval": "10000",
    }  # fmt: skip
    assert {name: sysctl_read(net.sysctl_table, f"net/ipv4/conf/{name}") for name in expect} == expect


def test_default_reaches_devices_that_nobody_configured() -> None:
    net = boot()
    add_dev(net, "e0")
    add_dev(net, "e1", "10.0.0.1/24")  # an address counts as configuration
    add_dev(net, "e2")
    table = net.sysctl_table
    assert sysctl_write(table, "net/ipv4/conf/e2/rp_filter", "2") == 0
    assert sysctl_write(table, "net/ipv4/conf/default/rp_filter", "1") == 0
    add_dev(net, "e3")
    assert [sysctl_read(table, f"net/ipv4/conf/e{i}/rp_filter") for i in range(4)] == ["1", "0", "2", "1"]


def test_ip_forward_makes_a_router_of_every_device_and_disbelieves_redirects() -> None:
    net = boot()
    dev = add_dev(net, "e0", "10.0.0.1/24")
    table = net.sysctl_table
    assert sysctl_write(table, "net.ipv4.ip_forward", "1") == 0
    assert [sysctl_read(table, f"net/ipv4/conf/{d}/forwarding") for d in ("all", "default", "e0", "lo")] == ["1"] * 4
    assert sysctl_read(table, "net/ipv4/conf/all/accept_redirects") == "0"
    assert not devinet.IN_DEV_RX_REDIRECTS(in_device(dev))
    assert sysctl_write(table, "net/ipv4/conf/e0/forwarding", "0") == 0
    assert sysctl_read(table, "net.ipv4.ip_forward") == "1"
    assert sysctl_write(table, "net.ipv4.ip_forward", "0") == 0
    assert sysctl_read(table, "net/ipv4/conf/all/accept_redirects") == "1"
    assert sysctl_write(table, "net/ipv4/conf/all/mc_forwarding", "1") == -EACCES


@pytest.mark.parametrize(
    ("field", "function", "table"),
    [
        ("accept_source_route", devinet.IN_DEV_SOURCE_ROUTE, [False, False, False, True]),
        ("accept_local", devinet.IN_DEV_ACCEPT_LOCAL, [False, True, True, True]),
        ("send_redirects", devinet.IN_DEV_TX_REDIRECTS, [False, True, True, True]),
        ("forwarding", devinet.IN_DEV_FORWARD, [False, True, False, True]),
        ("bc_forwarding", devinet.IN_DEV_BFORWARD, [False, False, False, True]),
        ("log_martians", devinet.IN_DEV_LOG_MARTIANS, [False, True, True, True]),
        ("rp_filter", devinet.IN_DEV_RPFILTER, [0, 1, 1, 1]),
        ("arp_ignore", devinet.IN_DEV_ARP_IGNORE, [0, 1, 1, 1]),
        ("route_localnet", devinet.IN_DEV_ROUTE_LOCALNET, [False, True, True, True]),
    ],
)
def test_a_device_and_all_combine(field: str, function: object, table: list[object]) -> None:
    net = boot()
    in_dev = in_device(add_dev(net, "e0"))
    assert callable(function)
    got = []
    for both in ((0, 0), (0, 1), (1, 0), (1, 1)):
        setattr(net.ipv4.devconf_all, field, both[0])
        setattr(in_dev.cnf, field, both[1])
        got.append(function(in_dev))
    assert got == table


def test_a_second_namespace_begins_with_the_settings_of_the_first() -> None:
    net = boot()
    assert sysctl_write(net.sysctl_table, "net/ipv4/conf/all/rp_filter", "1") == 0
    other = copy_net_ns(net.kernel)
    assert sysctl_read(other.sysctl_table, "net/ipv4/conf/all/rp_filter") == "1"
    assert sysctl_write(other.sysctl_table, "net/ipv4/conf/all/rp_filter", "2") == 0
    assert sysctl_read(net.sysctl_table, "net/ipv4/conf/all/rp_filter") == "1"


def test_a_flushing_setting_makes_cached_routes_stale() -> None:
    net = boot()
    add_dev(net, "e0", "10.0.0.1/24")
    before = net.ipv4.route.rt_genid
    assert sysctl_write(net.sysctl_table, "net/ipv4/conf/e0/route_localnet", "1") == 0
    assert net.ipv4.route.rt_genid > before


def test_a_new_name_moves_settings_and_labels() -> None:
    net = boot()
    dev = add_dev(net, "e0", "10.0.0.1/24", up=False)
    assert add_addr(dev, "10.0.0.2/24") == 0 and put(net, SIOCSIFADDR, "e0:x", "10.7.0.1") == 0
    assert sysctl_write(net.sysctl_table, "net/ipv4/conf/e0/rp_filter", "2") == 0
    assert dev_core.dev_change_name(dev, "wan") == 0
    assert sysctl_read(net.sysctl_table, "net/ipv4/conf/wan/rp_filter") == "2"
    assert "net/ipv4/conf/e0/rp_filter" not in net.sysctl_table
    labels = [ifa.ifa_label for ifa in in_device(dev).ifa_list]
    assert labels[0] == "wan" and "wan:x" in labels and all(label.startswith("wan") for label in labels)


# -- ioctl -----------------------------------------------------------------------------------------------------------------


def ifreq(name: str, value: bytes = b"") -> bytes:
    return name.encode().ljust(16, b"\0") + value.ljust(24, b"\0")


def sa(address: str) -> bytes:
    return b"\x02\0\0\0" + A(address).to_bytes(4, "big") + bytes(8)


def get(net: Net, cmd: int, name: str, value: bytes = b"") -> str | int:
    err, out = devinet.devinet_ioctl(net, cmd, ifreq(name, value))
    return err if err else S(int.from_bytes(out[20:24], "big"))


def put(net: Net, cmd: int, name: str, address: str) -> int:
    return devinet.devinet_ioctl(net, cmd, ifreq(name, sa(address)))[0]


def test_ifconfig_reads_as_on_linux() -> None:
    net = boot()
    dev = add_dev(net, "d0", "10.1.0.1/24")
    add_dev(net, "d1")
    assert add_addr(dev, "10.1.0.2/24") == 0
    commands = (SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFBRDADDR, SIOCGIFDSTADDR)
    assert [get(net, c, "d0") for c in commands] == ["10.1.0.1", "255.255.255.0", "0.0.0.0", "10.1.0.1"]
    assert [get(net, c, "lo") for c in commands] == ["127.0.0.1", "255.0.0.0", "0.0.0.0", "127.0.0.1"]
    assert [get(net, c, "d1") for c in commands] == [-EADDRNOTAVAIL] * 4
    assert [get(net, c, "nope") for c in commands] == [-ENODEV] * 4
    assert get(net, SIOCGIFADDR, "d0:x") == -EADDRNOTAVAIL
    # 4.4BSD: an address in the request chooses among those of one label
    assert get(net, SIOCGIFADDR, "d0", sa("10.1.0.2")) == "10.1.0.2"
    assert get(net, SIOCGIFADDR, "d0", sa("10.9.0.2")) == "10.1.0.1"
    assert len(devinet.inet_gifconf(net, -1)) == 120
    assert devinet.inet_gifconf(net, 45) == ifreq("lo", sa("127.0.0.1"))
    assert devinet.inet_gifconf(net, 200)[40:80] == ifreq("d0", sa("10.1.0.1"))


def test_ifconfig_sets_as_on_linux() -> None:
    net = boot()
    dev = add_dev(net, "d1")
    assert put(net, SIOCSIFADDR, "d1", "172.16.5.4") == 0
    assert addresses(dev) == ["172.16.5.4/16"] and get(net, SIOCGIFBRDADDR, "d1") == "172.16.255.255"
    assert put(net, SIOCSIFNETMASK, "d1", "255.255.255.0") == 0
    assert addresses(dev) == ["172.16.5.4/24"] and get(net, SIOCGIFBRDADDR, "d1") == "172.16.5.255"
    assert put(net, SIOCSIFNETMASK, "d1", "255.0.255.0") == -EINVAL
    assert put(net, SIOCSIFBRDADDR, "d1", "172.16.5.9") == 0
    assert [r for r in ip_route_show(net, 255) if "d1" in r] == [
        "local 172.16.5.4 dev d1 proto kernel scope host src 172.16.5.4",
        "broadcast 172.16.5.9 dev d1 proto kernel scope link src 172.16.5.4",
        "broadcast 172.16.5.255 dev d1 proto kernel scope link src 172.16.5.4",
    ]
    assert put(net, SIOCSIFADDR, "d1", "172.16.5.77") == 0
    assert addresses(dev) == ["172.16.5.77/16"] and get(net, SIOCGIFBRDADDR, "d1") == "172.16.255.255"
    assert put(net, SIOCSIFADDR, "d1:5", "172.16.5.78") == 0
    assert get(net, SIOCGIFADDR, "d1:5") == "172.16.5.78"
    assert put(net, SIOCSIFADDR, "d1", "224.1.1.1") == -EINVAL
    assert put(net, SIOCSIFADDR, "d1", "250.1.1.1") == 0
    assert addresses(dev) == ["250.1.1.1/32"]  # and the alias went with its primary
    assert put(net, SIOCSIFADDR, "d1", "0.0.0.0") == 0
    assert addresses(dev) == []
    assert devinet.devinet_ioctl(net, SIOCSIFADDR, ifreq("d1", b"\x0a\0"))[0] == -EINVAL
    assert put(net, SIOCSIFNETMASK, "d1", "255.255.255.0") == -EADDRNOTAVAIL
    assert devinet.devinet_ioctl(net, SIOCSIFFLAGS, ifreq("d1:9", b"\0\0"))[0] == -EADDRNOTAVAIL
    assert put(net, SIOCSIFADDR, "d1:9", "10.3.0.1") == 0
    assert devinet.devinet_ioctl(net, SIOCSIFFLAGS, ifreq("d1:9", b"\0\0"))[0] == 0  # an alias that goes down is gone
    assert addresses(dev) == [] and dev.flags & 1
    assert devinet.devinet_ioctl(net, SIOCSIFFLAGS, ifreq("d1", b"\0\0"))[0] == 0
    assert not dev.flags & 1
    assert devinet.devinet_ioctl(net, SIOCGIFADDR, b"d1")[0] < 0
