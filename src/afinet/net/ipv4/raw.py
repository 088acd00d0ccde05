"""net/ipv4/raw.c: raw sockets.

Up: raw_local_deliver, called by ip_input for every packet that is delivered here, gives a clone to each sock of that protocol that
fits; the program sees the IP header. Down: raw_sendmsg -> ip_append_data -> ip_push_pending_frames, or raw_send_hdrinc with
the program's own header (IP_HDRINCL). ICMP errors: raw_icmp_error.

Left out: IP_ROUTER_ALERT's chain, multicast routing daemons' ioctls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from afinet.kernel.machine import Kernel
from afinet.kernel.wait import Kiocb
from afinet.net.core import timestamping
from afinet.net.core.datagram import (
    __skb_recv_datagram,
    skb_copy_datagram_msg,
    skb_free_datagram,
    sock_queue_rcv_skb_reason,
)
from afinet.net.core.flow import FLOWI_FLAG_KNOWN_NH, Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import dev_net
from afinet.net.core.skbuff import SkBuff, alloc_skb, kfree_skb_reason, skb_clone, skb_set_owner_w
from afinet.net.core.sock import (
    SOCK_BROADCAST,
    Proto,
    Sock,
    SockCommon,
    lock_sock,
    release_sock,
    sk_common_release,
    sk_dst_reset,
    sk_error_report,
    sk_wmem_alloc_get,
    sock_alloc_send_check,
    sock_flag,
    sock_hold,
    sock_prot_inuse_add,
    sock_put,
)
from afinet.net.ipv4 import af_inet, datagram, icmp, igmp_sock, ip_output, ip_sockglue, route, udp
from afinet.net.ipv4.inet_sock import INET_FLAGS_HDRINCL, INET_FLAGS_RECVERR, InetSock, inet_mc_addr, inet_test_bit
from afinet.net.socket import sock_recv_cmsgs
from afinet.uapi.errno import (
    EACCES,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EDESTADDRREQ,
    EFAULT,
    EHOSTUNREACH,
    EINVAL,
    EIOCBQUEUED,
    EMSGSIZE,
    ENOBUFS,
    ENOIOCTLCMD,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPROTO,
)
from afinet.uapi.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FILTER,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    NR_ICMP_UNREACH,
)
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.in_ import IP_PMTUDISC_DONT, IPPROTO_ICMP, IPPROTO_RAW, ipv4_is_multicast
from afinet.uapi.in_route import RTCF_BROADCAST
from afinet.uapi.rtnetlink import RTN_BROADCAST, RTN_MULTICAST
from afinet.uapi.snmp import IPSTATS_MIB_OUTDISCARDS
from afinet.uapi.sockaddr import SIZEOF_SOCKADDR_IN, pack_s32, pack_sockaddr_in, pack_u32, sa_family, unpack_sockaddr_in
from afinet.uapi.socket import (
    AF_INET,
    AF_UNSPEC,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_PROBE,
    MSG_TRUNC,
    SOL_RAW,
)
from afinet.uapi.sockios import SIOCINQ, SIOCOUTQ
from afinet.uapi.tcp import TCP_CLOSE, TCP_ESTABLISHED
from afinet.wire import be, checksum, ip

if TYPE_CHECKING:
    from afinet.net.socket import MsgHdr


class RawSock(InetSock):
    """struct raw_sock."""

    __slots__ = ("filter", "hashed")

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        self.filter: int = 0  # ICMP_FILTER: a set bit keeps that ICMP type away
        self.hashed: bool = False


# -- softirq side ----------------------------------------------------------------------------------------------------------


def raw_v4_match(sk: RawSock, net: Net, raddr: int, laddr: int, dif: int) -> bool:
    return (
        sk.sk_net is net
        and (not sk.inet_daddr or sk.inet_daddr == raddr)
        and (not sk.inet_rcv_saddr or sk.inet_rcv_saddr == laddr)
        and (not sk.sk_bound_dev_if or sk.sk_bound_dev_if == dif)
    )


def icmp_filter(sk: RawSock, skb: SkBuff) -> bool:
    """Whether ICMP_FILTER keeps this packet away; one without a whole ICMP header passes no filter."""
    if skb.len < 8:
        return True
    kind = skb.head[skb.data] if skb.tail > skb.data else ip_output.skb_first_byte(skb)
    return kind < 32 and sk.filter >> kind & 1 == 1


def raw_local_deliver(skb: SkBuff, protocol: int) -> bool:
    """Clone the packet (`skb.data` at the transport header) to every raw sock that fits. True if one did."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    chain = net.kernel.raw_hash.get(protocol)
    if chain is None:
        return False
    return raw_v4_input(net, chain, skb, protocol)


def raw_v4_input(net: Net, chain: list[RawSock], skb: SkBuff, protocol: int) -> bool:
    saddr = be.get_u32(skb.head, skb.network_header + 12)
    daddr = be.get_u32(skb.head, skb.network_header + 16)
    dif = route.inet_iif(skb)
    delivered = False
    for sk in chain[:]:
        if not raw_v4_match(sk, net, saddr, daddr, dif):
            continue
        if sk.sk_rmem_alloc >= sk.sk_rcvbuf:
            sk.sk_drops += 1
            continue
        delivered = True
        if protocol == IPPROTO_ICMP and icmp_filter(sk, skb):
            continue
        if ipv4_is_multicast(daddr) and not igmp_sock.ip_mc_sf_allow(sk, daddr, saddr, dif):
            continue
        raw_rcv(sk, skb_clone(skb))
    return delivered


def raw_rcv(sk: RawSock, skb: SkBuff) -> int:
    """Back to the IP header, and into the queue."""
    skb.len += skb.data - skb.network_header
    skb.data = skb.network_header
    datagram.ipv4_pktinfo_prepare(sk, skb)
    reason = sock_queue_rcv_skb_reason(sk, skb)
    return kfree_skb_reason(sk.sk_net, skb, reason) if reason else 0


def raw_icmp_error(skb: SkBuff, protocol: int, info: int) -> None:
    """An ICMP error about a packet of `protocol`; `skb.data` is at the quoted IP header."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    chain = net.kernel.raw_hash.get(protocol)
    if chain is None:
        return
    saddr = be.get_u32(skb.head, skb.data + 12)
    daddr = be.get_u32(skb.head, skb.data + 16)
    for sk in chain[:]:
        if raw_v4_match(sk, net, daddr, saddr, dev.ifindex):
            raw_err(sk, skb, info)


def raw_err(sk: RawSock, skb: SkBuff, info: int) -> None:
    type = skb.head[skb.transport_header]
    code = skb.head[skb.transport_header + 1]
    if type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
        route.ipv4_sk_update_pmtu(skb, sk, info)
    elif type == ICMP_REDIRECT:
        route.ipv4_sk_redirect(skb, sk)
        return
    # Told to whoever asked for it, and, if it is a hard error, to a connected sock.
    recverr = inet_test_bit(sk, INET_FLAGS_RECVERR)
    if (not recverr and sk.sk_state != TCP_ESTABLISHED) or type == ICMP_SOURCE_QUENCH:
        return
    err = EHOSTUNREACH  # ICMP_TIME_EXCEEDED, and what is unknown
    harderr = False
    if type == ICMP_PARAMETERPROB:
        err = EPROTO
        harderr = True
    elif type == ICMP_DEST_UNREACH and code <= NR_ICMP_UNREACH:
        if code == ICMP_FRAG_NEEDED:
            harderr = sk.pmtudisc != IP_PMTUDISC_DONT
            err = EMSGSIZE
        else:
            err, harderr = icmp.icmp_err_convert(code)
    if recverr:
        payload = skb.data if inet_test_bit(sk, INET_FLAGS_HDRINCL) else skb.data + (skb.head[skb.data] & 15) * 4
        ip_sockglue.ip_icmp_error(sk, skb, err, 0, info, payload)
    if recverr or harderr:
        sk.sk_err = err
        sk_error_report(sk)


# -- sending ---------------------------------------------------------------------------------------------------------------


def raw_sendmsg(sk: RawSock, msg: MsgHdr, length: int) -> int:
    """Bytes sent, -errno, or -EIOCBQUEUED.

    Only a packet with its own header waits for room in the send buffer, and only it is refused after shutdown(): the others pass
    no transport header to ip_append_data, which then fails with -ENOBUFS beyond twice the buffer.
    """
    if length > 0xFFFF:
        return -EMSGSIZE
    hdrincl = inet_test_bit(sk, INET_FLAGS_HDRINCL)
    if msg.msg_flags & MSG_OOB:
        return -EOPNOTSUPP
    # 1. Get and verify the address.
    if msg.msg_name:
        if len(msg.msg_name) < SIZEOF_SOCKADDR_IN:
            return -EINVAL
        family = sa_family(msg.msg_name)
        if family != AF_INET and family != AF_UNSPEC:
            return -EAFNOSUPPORT
        daddr, _ = unpack_sockaddr_in(msg.msg_name)
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            return -EDESTADDRREQ
        daddr = sk.inet_daddr
    # 2. What control messages and options ask.
    ipc = ip_output.IpcmCookie()
    ip_output.ipcm_init_sk(ipc, sk)
    if hdrincl:
        ipc.protocol = IPPROTO_RAW
    if msg.msg_control:
        err = ip_sockglue.ip_cmsg_send(sk, msg.msg_control, ipc)
        if err:
            return err
    saddr = ipc.addr
    ipc.addr = daddr
    if ipc.opt is None:
        ipc.opt = sk.inet_opt
    if ipc.opt is not None:
        if hdrincl:
            return -EINVAL  # options belong into the program's own header
        if ipc.opt.srr:
            if not daddr:
                return -EINVAL
            daddr = ipc.opt.faddr
    if ipv4_is_multicast(daddr):
        if not ipc.oif:
            ipc.oif = sk.mc_index
        if not saddr:
            saddr = inet_mc_addr(sk)
    elif not ipc.oif:
        ipc.oif = sk.uc_index
    # 3. The route.
    fl4 = Flowi4(
        daddr,
        saddr,
        ipc.oif,
        ipc.protocol if hdrincl else sk.sk_protocol,
        (ipc.tos if ipc.tos >= 0 else sk.tos) & 0xFC,
        datagram.ip_sendmsg_scope(sk, ipc, msg),
        ipc.mark,
        ip_output.inet_sk_flowi_flags(sk) | (FLOWI_FLAG_KNOWN_NH if hdrincl else 0),
        0,
        0,
        1,
        sk.sk_uid,
    )
    if not hdrincl and sk.sk_protocol == IPPROTO_ICMP:
        # raw_probe_proto_opt: the flow of an ICMP message has its type and code.
        if length < 2:
            return -EFAULT
        fl4.fl4_dport = msg.msg_data[0] << 8 | msg.msg_data[1]
    err, rt = route.ip_route_output_flow(sk.sk_net, fl4, sk)
    if err or rt is None:
        return err
    if rt.rt_flags & RTCF_BROADCAST and not sock_flag(sk, SOCK_BROADCAST):
        return -EACCES
    if datagram.ip_msg_confirm(msg, rt, fl4.daddr, length):
        return 0
    # 4. Send.
    if hdrincl:
        err = raw_send_hdrinc(sk, fl4, msg, length, rt, ipc)
    else:
        if not ipc.addr:
            ipc.addr = fl4.daddr
        lock_sock(sk)
        err = raw_append(sk, fl4, msg, length, ipc, rt)
        release_sock(sk)
    return err or length


def raw_append(sk: RawSock, fl4: Flowi4, msg: MsgHdr, length: int, ipc: ip_output.IpcmCookie, rt: route.Rtable) -> int:
    """Add to the datagram that MSG_MORE left waiting, or begin one; send it unless more is to come."""
    err = 0
    probe = msg.msg_flags & MSG_PROBE != 0  # adds nothing, and sends what waits
    cork = sk.cork
    if cork is not None:
        cork.fl4 = fl4  # route and options are those of the first call, the addresses those of the last
    elif not probe:
        err = ip_output.ip_setup_cork(sk, fl4, ipc, rt)
    if err == 0 and not probe:
        err = ip_output.ip_append_data(sk, msg, length, 0)
    if err == -EIOCBQUEUED:
        return err
    if err:
        ip_output.ip_flush_pending_frames(sk)
    elif not msg.msg_flags & MSG_MORE:
        err = ip_output.ip_push_pending_frames(sk, fl4)
        if err == -ENOBUFS and not inet_test_bit(sk, INET_FLAGS_RECVERR):
            err = 0
    return err


def raw_send_hdrinc(
    sk: RawSock, fl4: Flowi4, msg: MsgHdr, length: int, rt: route.Rtable, ipc: ip_output.IpcmCookie
) -> int:
    """The program's own IP header: total length and checksum are always filled in, source and id where they are zero. 0, -errno,
    or -EIOCBQUEUED."""
    net = sk.sk_net
    if length > rt.dev.mtu:
        ip_sockglue.ip_local_error(sk, EMSGSIZE, fl4.daddr, sk.inet_dport, rt.dev.mtu)
        return -EMSGSIZE
    if length < ip.IP_HLEN:
        return -EINVAL
    if msg.msg_flags & MSG_PROBE:
        return 0
    err = sock_alloc_send_check(sk, msg.iocb, msg.msg_flags & MSG_DONTWAIT != 0)
    if err:
        if err != -EIOCBQUEUED:
            net.ip_statistics[IPSTATS_MIB_OUTDISCARDS] += 1
        return err
    data = msg.msg_data
    ihl = (data[0] & 15) * 4
    if ihl < ip.IP_HLEN or ihl > length:
        net.ip_statistics[IPSTATS_MIB_OUTDISCARDS] += 1
        return -EINVAL
    version_ihl, tos, _, ident, frag_off, ttl, protocol, _, saddr, daddr = ip.parse(data, 0)
    if not saddr:
        saddr = fl4.saddr
    if not ident:
        ident = ip_output.ip_select_ident_segs(net, None, frag_off, False, saddr, daddr, protocol, 1)
    options = data[ip.IP_HLEN : ihl]
    header = be.pack_ip(version_ihl, tos, length, ident, frag_off, ttl, protocol, 0, saddr, daddr) + options
    header = header[:10] + be.put_u16(checksum.ip_compute_csum(header, 0, ihl)) + header[12:]
    if protocol == IPPROTO_ICMP and length >= ihl + 8:
        icmp.icmp_out_count(net, data[ihl])
    skb = alloc_skb(header + data[ihl:length])
    skb.transport_header = ihl
    skb.protocol = ETH_P_IP
    skb.priority = sk.sk_priority
    skb.mark = fl4.flowi4_mark
    skb.dev = rt.dev
    skb.dst = rt
    skb_set_owner_w(skb, sk)
    if ipc.tsflags:
        timestamping.skb_setup_tx_timestamp(skb, sk, ipc.tsflags, ipc.ts_opt_id)
    # Past ip_local_out: such packets do not count as OutRequests.
    err = rt.output(net, sk, skb)
    if err > 0:
        err = ip_output.net_xmit_errno(err)
    if err:
        net.ip_statistics[IPSTATS_MIB_OUTDISCARDS] += 1
        if err == -ENOBUFS and not inet_test_bit(sk, INET_FLAGS_RECVERR):
            err = 0
    return err


# -- receiving, system call side -------------------------------------------------------------------------------------------


def raw_recvmsg(sk: RawSock, msg: MsgHdr, size: int, flags: int) -> int:
    """One packet, IP header included."""
    if flags & MSG_OOB:
        return -EOPNOTSUPP
    if flags & MSG_ERRQUEUE:
        return ip_sockglue.ip_recv_error(sk, msg, size)
    err, skb, _ = __skb_recv_datagram(sk, sk.sk_receive_queue, flags, 0, msg)
    if skb is None:
        return err
    total = skb.len
    copied = total
    if copied > size:
        copied = size
        msg.msg_flags |= MSG_TRUNC
    skb_copy_datagram_msg(skb, 0, msg, copied)
    sock_recv_cmsgs(msg, sk, skb)
    msg.msg_name = pack_sockaddr_in(be.get_u32(skb.head, skb.network_header + 12), 0)
    if sk.inet_flags & ip_sockglue.IP_CMSG_ALL:
        ip_sockglue.ip_cmsg_recv(msg, sk, skb)
    if not flags & MSG_PEEK:
        skb_free_datagram(sk, skb)
    return total if flags & MSG_TRUNC else copied


def raw_bind(sk: RawSock, uaddr: bytes) -> int:
    """An own, broadcast or multicast address; the port and even the family are not looked at."""
    if sk.sk_state != TCP_CLOSE or len(uaddr) < SIZEOF_SOCKADDR_IN:
        return -EINVAL
    addr, _ = unpack_sockaddr_in(uaddr)
    kind = route.inet_addr_type(sk.sk_net, addr)
    if not af_inet.inet_addr_valid_or_nonlocal(sk.sk_net, sk, addr, kind):
        return -EADDRNOTAVAIL
    sk.inet_rcv_saddr = addr
    sk.inet_saddr = 0 if kind == RTN_MULTICAST or kind == RTN_BROADCAST else addr
    sk_dst_reset(sk)
    return 0


# -- raw_prot --------------------------------------------------------------------------------------------------------------


class RawProto(Proto):
    """raw_prot."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "RAW")
        self.hash_table: dict[int, list[RawSock]] = {}  # raw_v4_hashinfo: by protocol number
        self.obj_size = 968  # sizeof(struct raw_sock) on x86-64

    def sk_prot_alloc(self, net: Net, family: int) -> Sock:
        return RawSock(net, family, self)

    def close(self, sk: Sock, timeout: int, iocb: Kiocb) -> int:
        ip_sockglue.ip_ra_control(cast(RawSock, sk), False)
        sk_common_release(sk)
        return 0

    def destroy(self, sk: Sock) -> None:
        """raw_destroy."""
        lock_sock(sk)
        ip_output.ip_flush_pending_frames(cast(RawSock, sk))
        release_sock(sk)

    def connect(self, sk: Sock, uaddr: bytes) -> int:
        return datagram.ip4_datagram_connect(cast(RawSock, sk), uaddr)

    def disconnect(self, sk: Sock, flags: int) -> int:
        raw_disconnect(cast(RawSock, sk))
        return 0

    def has_bind(self) -> bool:
        return True

    def bind(self, sk: Sock, uaddr: bytes) -> int:
        lock_sock(sk)
        err = raw_bind(cast(RawSock, sk), uaddr)
        release_sock(sk)
        return err

    def ioctl(self, sk: Sock, cmd: int, arg: bytes) -> tuple[int, bytes]:
        """raw_ioctl."""
        if cmd == SIOCOUTQ:
            return 0, pack_s32(sk_wmem_alloc_get(sk))
        if cmd == SIOCINQ:
            skb = sk.sk_receive_queue.head
            return 0, pack_s32(0 if skb is None else skb.len)
        return -ENOIOCTLCMD, b""

    def setsockopt(self, sk: Sock, level: int, optname: int, optval: bytes) -> int:
        raw = cast(RawSock, sk)
        if level != SOL_RAW:
            return ip_sockglue.ip_setsockopt(raw, level, optname, optval)
        if optname != ICMP_FILTER:
            return -ENOPROTOOPT
        if raw.inet_num != IPPROTO_ICMP:
            return -EOPNOTSUPP
        # A short value replaces the first bytes in memory, the low ones.
        n = min(len(optval), 4)
        raw.filter = int.from_bytes(optval[:n] + pack_u32(raw.filter)[n:], "little")
        return 0

    def getsockopt(self, sk: Sock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        raw = cast(RawSock, sk)
        if level != SOL_RAW:
            return ip_sockglue.ip_getsockopt(raw, level, optname, optlen)
        if optname != ICMP_FILTER:
            return -ENOPROTOOPT, b""
        if raw.inet_num != IPPROTO_ICMP:
            return -EOPNOTSUPP, b""
        if optlen < 0:
            return -EINVAL, b""
        return 0, pack_u32(raw.filter)[:optlen]

    def sendmsg(self, sk: Sock, msg: MsgHdr, size: int) -> int:
        return raw_sendmsg(cast(RawSock, sk), msg, size)

    def recvmsg(self, sk: Sock, msg: MsgHdr, size: int, flags: int) -> int:
        return raw_recvmsg(cast(RawSock, sk), msg, size, flags)

    def release_cb(self, sk: Sock) -> None:
        datagram.ip4_datagram_release_cb(sk)

    def hash(self, sk: Sock) -> int:
        """raw_hash_sk."""
        raw = cast(RawSock, sk)
        raw.hashed = True
        self.hash_table.setdefault(raw.inet_num, []).append(raw)
        sock_hold(raw)
        sock_prot_inuse_add(raw.sk_net, self, 1)
        return 0

    def unhash(self, sk: Sock) -> None:
        """raw_unhash_sk."""
        raw = cast(RawSock, sk)
        if not raw.hashed:
            return
        raw.hashed = False
        chain = self.hash_table[raw.inet_num]
        chain.remove(raw)
        if not chain:
            del self.hash_table[raw.inet_num]
        sock_prot_inuse_add(raw.sk_net, self, -1)
        sock_put(raw)

    def diag_destroy(self, sk: SockCommon, err: int) -> int:
        return raw_abort(cast(RawSock, sk), err)


def raw_disconnect(sk: RawSock) -> None:
    udp.__udp_disconnect(sk)


def raw_abort(sk: RawSock, err: int) -> int:
    """End the sock from outside."""
    lock_sock(sk)
    sk.sk_err = err
    sk_error_report(sk)
    udp.__udp_disconnect(sk)
    release_sock(sk)
    return 0


def raw_init(kernel: Kernel, prot: RawProto) -> None:
    """The table that every delivered packet asks: empty, as a rule."""
    kernel.raw_hash = prot.hash_table
