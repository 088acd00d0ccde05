"""include/uapi/asm-generic/fcntl.h."""

from typing import Final

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 256
AT_EACCESS: Final = 512
AT_REMOVEDIR: Final = 512
AT_SYMLINK_FOLLOW: Final = 1024

F_DUPFD: Final = 0
F_OK: Final = 0
F_RDLCK: Final = 0
F_ULOCK: Final = 0
F_GETFD: Final = 1
F_LOCK: Final = 1
F_WRLCK: Final = 1
F_SETFD: Final = 2
F_TLOCK: Final = 2
F_UNLCK: Final = 2
F_GETFL: Final = 3
F_TEST: Final = 3
F_EXLCK: Final = 4
F_SETFL: Final = 4
F_GETLK: Final = 5
F_GETLK64: Final = 5
F_SETLK: Final = 6
F_SETLK64: Final = 6
F_SETLKW: Final = 7
F_SETLKW64: Final = 7
F_SETOWN: Final = 8
F_SHLCK: Final = 8
F_GETOWN: Final = 9
F_DUPFD_CLOEXEC: Final = 1030
F_SETPIPE_SZ: Final = 1031
F_GETPIPE_SZ: Final = 1032

FD_CLOEXEC: Final = 1

O_RDONLY: Final = 0
O_WRONLY: Final = 1
O_RDWR: Final = 2
O_ACCMODE: Final = 3
O_CREAT: Final = 0x40
O_EXCL: Final = 0x80
O_NOTIFICATION_PIPE: Final = 0x80  # pipe2
O_NOCTTY: Final = 0x100
O_TRUNC: Final = 0x200
O_APPEND: Final = 0x400
O_NDELAY: Final = 0x800
O_NONBLOCK: Final = 0x800
O_DSYNC: Final = 0x1000
O_ASYNC: Final = 0x2000
O_DIRECT: Final = 0x4000
O_LARGEFILE: Final = 0x8000
O_DIRECTORY: Final = 0x10000
O_NOFOLLOW: Final = 0x20000
O_CLOEXEC: Final = 0x80000
O_FSYNC: Final = 0x101000
O_RSYNC: Final = 0x101000
O_SYNC: Final = 0x101000

SPLICE_F_MOVE: Final = 1
SPLICE_F_NONBLOCK: Final = 2
SPLICE_F_MORE: Final = 4
SPLICE_F_GIFT: Final = 8

SEEK_SET: Final = 0
SEEK_CUR: Final = 1
SEEK_END: Final = 2

MFD_CLOEXEC: Final = 1
