"""Big-endian numbers and header shapes, read from `bytes` at an offset and packed into new `bytes`.

Nothing here checks a length: whoever parses a header makes one check that guards all its reads. A read past
the end raises, struct.error or IndexError, and is a bug of the caller. Packing expects values in range.

Two implementations, one interface: struct for the interpreter, librt.strings for the compiled build. Call
them as `be.unpack_tcp(b, off)`; compiled, that is a direct C call.
"""

from __future__ import annotations

from afinet._build import COMPILED

if COMPILED:
    from afinet.wire._be_librt import get_u8 as get_u8
    from afinet.wire._be_librt import get_u16 as get_u16
    from afinet.wire._be_librt import get_u32 as get_u32
    from afinet.wire._be_librt import get_u64 as get_u64
    from afinet.wire._be_librt import pack_arp as pack_arp
    from afinet.wire._be_librt import pack_eth as pack_eth
    from afinet.wire._be_librt import pack_icmp as pack_icmp
    from afinet.wire._be_librt import pack_ip as pack_ip
    from afinet.wire._be_librt import pack_tcp as pack_tcp
    from afinet.wire._be_librt import pack_tcp_options as pack_tcp_options
    from afinet.wire._be_librt import pack_u32x3 as pack_u32x3
    from afinet.wire._be_librt import pack_udp as pack_udp
    from afinet.wire._be_librt import put_u16 as put_u16
    from afinet.wire._be_librt import put_u32 as put_u32
    from afinet.wire._be_librt import put_u32s as put_u32s
    from afinet.wire._be_librt import unpack_arp as unpack_arp
    from afinet.wire._be_librt import unpack_eth as unpack_eth
    from afinet.wire._be_librt import unpack_icmp as unpack_icmp
    from afinet.wire._be_librt import unpack_ip as unpack_ip
    from afinet.wire._be_librt import unpack_tcp as unpack_tcp
    from afinet.wire._be_librt import unpack_u32x3 as unpack_u32x3
    from afinet.wire._be_librt import unpack_udp as unpack_udp
else:
    from afinet.wire._be_struct import get_u8 as get_u8
    from afinet.wire._be_struct import get_u16 as get_u16
    from afinet.wire._be_struct import get_u32 as get_u32
    from afinet.wire._be_struct import get_u64 as get_u64
    from afinet.wire._be_struct import pack_arp as pack_arp
    from afinet.wire._be_struct import pack_eth as pack_eth
    from afinet.wire._be_struct import pack_icmp as pack_icmp
    from afinet.wire._be_struct import pack_ip as pack_ip
    from afinet.wire._be_struct import pack_tcp as pack_tcp
    from afinet.wire._be_struct import pack_tcp_options as pack_tcp_options
    from afinet.wire._be_struct import pack_u32x3 as pack_u32x3
    from afinet.wire._be_struct import pack_udp as pack_udp
    from afinet.wire._be_struct import put_u16 as put_u16
    from afinet.wire._be_struct import put_u32 as put_u32
    from afinet.wire._be_struct import put_u32s as put_u32s
    from afinet.wire._be_struct import unpack_arp as unpack_arp
    from afinet.wire._be_struct import unpack_eth as unpack_eth
    from afinet.wire._be_struct import unpack_icmp as unpack_icmp
    from afinet.wire._be_struct import unpack_ip as unpack_ip
    from afinet.wire._be_struct import unpack_tcp as unpack_tcp
    from afinet.wire._be_struct import unpack_u32x3 as unpack_u32x3
    from afinet.wire._be_struct import unpack_udp as unpack_udp
