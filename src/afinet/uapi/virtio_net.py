"""include/uapi/linux/virtio_net.h: the header in front of a packet that says what has been left to the device."""

from typing import Final

VIRTIO_NET_HDR_F_NEEDS_CSUM: Final = 1  # csum_start and csum_offset say what is to be summed, and where the sum goes
VIRTIO_NET_HDR_F_DATA_VALID: Final = 2  # the checksum has been verified

VIRTIO_NET_HDR_GSO_NONE: Final = 0
VIRTIO_NET_HDR_GSO_TCPV4: Final = 1
VIRTIO_NET_HDR_GSO_UDP: Final = 3
VIRTIO_NET_HDR_GSO_TCPV6: Final = 4
VIRTIO_NET_HDR_GSO_UDP_L4: Final = 5
VIRTIO_NET_HDR_GSO_ECN: Final = 0x80  # the TCP super-packet has CWR set

# flags, gso_type: u8; hdr_len, gso_size, csum_start, csum_offset: u16
VIRTIO_NET_HDR_SIZE: Final = 10
