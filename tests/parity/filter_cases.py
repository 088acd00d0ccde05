"""Classic BPF: which programs are taken, what they charge, and what they do to a datagram, on Linux and on afinet.

A case is a program and a payload. The program is attached to a UDP socket of host B, the payload sent to it from host A. The answer
is one word: the errno of the refusal, or the memory charged and how many bytes were received ("-" for none). `cases()` yields those
that were thought of and then random ones, a function of AFINET_FUZZ_SEED and AFINET_FUZZ_COUNT.

    python -m tests.parity.filter_cases      compares random programs with the running kernel (root)
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator

from tests.parity.programs import AF_INET, SOCK_DGRAM, SOCK_NONBLOCK, Calls, sa, show_err

SO_ATTACH_FILTER, SO_MEMINFO = 26, 55
OMEM = 6
A, B = "10.9.0.1", "10.9.0.2"
AD, NET, LL = -0x1000, -0x100000, -0x200000

LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
W, H, BYTE = 0, 8, 0x10
IMM, ABS, IND, MEM, LEN, MSH = 0, 0x20, 0x40, 0x60, 0x80, 0xA0

Insns = list[tuple[int, int, int, int]]
Case = tuple[str, Insns, bytes]


def ret(k: int) -> tuple[int, int, int, int]:
    return (RET, 0, 0, k)


RETA = (RET | 0x10, 0, 0, 0)


def pack(insns: Insns) -> bytes:
    return b"".join([struct.pack("=HBBI", code & 0xFFFF, jt, jf, k & 0xFFFFFFFF) for code, jt, jf, k in insns])


def returns(code: int, k: int) -> Insns:
    """Return what one instruction leaves in A: as the number of bytes kept, so the answer shows it."""
    return [(code, 0, 0, k), RETA]


def fixed() -> Iterator[Case]:
    data = bytes(range(1, 121))
    yield "empty", [], data
    for k in (0, 1, 7, 8, 9, 60, 127, 128, 129, 0xFFFF, -1):
        yield f"ret {k}", [ret(k)], data
    for code in (RET | 8, RET | 0x18, RET | 0x20):
        yield f"ret code {code:#x}", [(code, 0, 0, 9)], data
    # Every opcode: whether it is one.
    for code in [*range(0x100), 0x100, 0x8000, 0xFFFF]:
        yield f"opcode {code:#x}", [(2, 0, 0, 1), (code, 0, 0, 1), ret(50)], data
        yield f"opcode {code:#x} last", [(2, 0, 0, 1), (code, 0, 0, 1)], data
    # Loads: where they end, and from where they count.
    chance = (*range(1, 6), 8, 9, 10, 11)  # a word there shows IP's identification or its checksum
    for base in (0, NET, LL):
        for off in (
            -41,
            -21,
            -20,
            -1,
            0,
            1,
            8,
            12,
            13,
            14,
            19,
            20,
            27,
            28,
            33,
            34,
            124,
            125,
            126,
            127,
            128,
            134,
            148,
            155,
            161,
            0x7FFF,
            0x8000,
        ):
            if (base == NET and off in chance) or (base == LL and off - 14 in chance):
                continue
            for size in (W, H, BYTE):
                yield (
                    f"abs {base:#x}+{off} size {size}",
                    [(LD | ABS | size, 0, 0, base + off), (ALU | 0x50, 0, 0, 0x3F), RETA],
                    data,
                )
                yield (
                    f"ind {base:#x}+{off} size {size}",
                    [(LDX, 0, 0, 3), (LD | IND | size, 0, 0, base + off - 3), (ALU | 0x50, 0, 0, 0x3F), RETA],
                    data,
                )
            yield f"msh {base:#x}+{off}", [(LDX | BYTE | MSH, 0, 0, base + off), (MISC | 0x80, 0, 0, 0), RETA], data
    for ad in range(0, 80, 2):
        if ad not in (32, 36, 56):  # SKF_AD_RXHASH and SKF_AD_CPU are the machine's, SKF_AD_RANDOM is chance
            yield f"ancillary {ad}", [(LDX, 0, 0, 5), (LD | W | ABS, 0, 0, AD + ad), (ALU | 0x50, 0, 0, 0x7F), RETA], data
        yield f"ancillary {ad} runs", [(LD | H | ABS, 0, 0, AD + ad), ret(40)], data
    nla = struct.pack("=HHI", 8, 3, 1) + struct.pack("=HHHHI", 12, 0x8005, 8, 2, 7) + bytes(40)
    for a in (8, 12, 16, 20, 28, 60, 200):
        for x in (2, 3, 5, 9):
            for ad in (12, 16):
                yield f"nlattr {ad} at {a} type {x}", [(LDX, 0, 0, x), (LD, 0, 0, a), (LD | ABS, 0, 0, AD + ad), RETA], nla
    # Arithmetic, with what the operands may be.
    for op in range(0, 0xB0, 0x10):
        for a in (0, 1, 40, 0x80000000, 0xFFFFFFFF):
            for b in (0, 1, 3, 31, 32, 33, 0xFFFFFFFF):
                for src in (0, 8):
                    fold: Insns = [(MISC, 0, 0, 0), (ALU | 0x70, 0, 0, 16), (ALU | 0xA8, 0, 0, 0), (ALU | 0x50, 0, 0, 0x7F), RETA]
                    yield (
                        f"alu {op:#x} {a:#x} {b:#x} src {src}",
                        [(LD, 0, 0, a), (LDX, 0, 0, b), (ALU | op | src, 0, 0, b), *fold],
                        data,
                    )
    for op in (0x10, 0x20, 0x30, 0x40):
        for a in (0, 5, 0x80000000):
            for b in (0, 5, 6, 0xFFFFFFFF):
                for src in (0, 8):
                    for jt, jf in ((0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (255, 0)):
                        jump: Insns = [(LD, 0, 0, a), (LDX, 0, 0, b), (JMP | op | src, jt, jf, b), ret(20), ret(30), ret(40)]
                        yield f"jump {op:#x} {a:#x} {b:#x} src {src} {jt} {jf}", jump, data
    for k in (0, 1, 2, 3, 0x7FFFFFFF, -1):
        yield f"ja {k}", [(JMP, 0, 0, k), ret(20), ret(30)], data
    # Memory: never read before it is written, along any path.
    for k in (0, 1, 15, 16, -1):
        yield f"store {k}", [(LD, 0, 0, 33), (ST, 0, 0, k), (LD | MEM, 0, 0, k), RETA], data
        yield f"storex {k}", [(LDX, 0, 0, 33), (STX, 0, 0, k), (LDX | MEM, 0, 0, k), (MISC | 0x80, 0, 0, 0), RETA], data
    yield "read unwritten", [(LD | MEM, 0, 0, 0), RETA], data
    yield "written on one way", [(JMP | 0x10, 0, 1, 0), (ST, 0, 0, 2), (LD | MEM, 0, 0, 2), RETA], data
    yield (
        "written on both ways",
        [(JMP | 0x10, 0, 2, 0), (ST, 0, 0, 2), (JMP, 0, 0, 1), (ST, 0, 0, 2), (LD | MEM, 0, 0, 2), ret(20)],
        data,
    )
    yield "written after a jump over it", [(JMP, 0, 0, 1), (ST, 0, 0, 2), (LD | MEM, 0, 0, 2), ret(20)], data
    for n in (4095, 4096, 4097):
        yield f"{n} instructions", [(LD, 0, 0, 1)] * (n - 1) + [ret(50)], data
    yield "dear instructions", [(LDX | BYTE | MSH, 0, 0, 0x8000)] * 800 + [ret(50)], data
    yield "too dear instructions", [(LDX | BYTE | MSH, 0, 0, 0x8000)] * 820 + [ret(50)], data
    for size in (0, 1, 60, 61, 1400, 9000):
        yield f"payload {size}", [(LD | LEN, 0, 0, 0), RETA], bytes(size)
        yield (
            f"payload {size} from the end",
            [(LDX | LEN, 0, 0, 0), (LD | IND | BYTE, 0, 0, -1), (ALU | 0x40, 0, 0, 32), RETA],
            bytes(size),
        )


def random_insn(rng: random.Random, left: int) -> tuple[int, int, int, int]:
    kind = rng.randrange(12)
    k = rng.choice((0, 1, 2, 3, 4, 8, 12, 20, 31, 32, 100, rng.randrange(200), rng.randrange(1 << 32)))
    if kind < 3:
        mode = rng.choice((ABS, ABS, IND, IMM, LEN))
        far = (NET + rng.choice((0, 12 + k % 40)), LL + rng.choice((0, 6, 26 + k % 40)))
        at = rng.choice(
            (k % 140, k % 140, *(far if mode == ABS else ()), AD + rng.choice((0, 4, 8, 20, 24, 28, 40, 44, 48, 52, 60)), k)
        )
        return (LD | mode | (rng.choice((W, H, BYTE)) if mode in (ABS, IND) else 0), 0, 0, at)
    if kind == 3:
        return rng.choice(
            ((LDX, 0, 0, k), (LDX | LEN, 0, 0, 0), (LDX | BYTE | MSH, 0, 0, k % 140), (MISC, 0, 0, 0), (MISC | 0x80, 0, 0, 0))
        )
    if kind == 4:
        return (rng.choice((ST, STX, LD | MEM, LDX | MEM)), 0, 0, rng.randrange(17))
    if kind < 8:
        return (ALU | rng.randrange(0, 0xB0, 0x10) | rng.choice((0, 8)), 0, 0, k)
    if kind < 11:
        return (
            JMP | rng.choice((0x10, 0x20, 0x30, 0x40)) | rng.choice((0, 8)),
            rng.randrange(left + 1),
            rng.randrange(left + 1),
            k,
        )
    return rng.choice(((JMP, 0, 0, rng.randrange(left + 1)), ret(k), (rng.randrange(0x100), 0, 0, k)))


def random_cases(seed: int, count: int) -> Iterator[Case]:
    rng = random.Random(seed)
    for i in range(count):
        n = rng.randrange(1, 14)
        # Mostly programs without memory read before it is written, and so on: what is always refused tells little.
        insns: Insns = [(ST, 0, 0, m) for m in range(16)] if rng.random() < 0.7 else []
        insns += [random_insn(rng, n - at - 1) for at in range(n)]
        insns.append(RETA if rng.random() < 0.7 else ret(rng.randrange(140)))
        yield f"random {seed}.{i}", insns, rng.randbytes(rng.choice((0, 3, 20, 100, 130)))


def cases() -> Iterator[Case]:
    yield from fixed()
    yield from random_cases(1, 1000)


def fuzz() -> Iterator[Case]:
    yield from random_cases(int(os.environ.get("AFINET_FUZZ_SEED", "2")), int(os.environ.get("AFINET_FUZZ_COUNT", "5000")))


def run(calls: Calls, wanted: Iterator[Case]) -> dict[str, str]:
    out: dict[str, str] = {}
    receiver = calls.socket(1, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 17)
    sender = calls.socket(0, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 17)
    assert calls.bind(receiver, sa(B, 5001)) == 0
    assert calls.bind(sender, sa(A, 5001)) == 0
    assert calls.connect(sender, sa(B, 5001)) == 0
    for _ in range(500):  # the devices come up, the neighbours get to know each other
        calls.sendmsg(sender, b"hello", 0)
        if calls.recvmsg(receiver, 100, 0x40)[0] == 5:
            break
    while calls.recvmsg(receiver, 100, 0x40)[0] == 5:
        pass
    for name, insns, payload in wanted:
        calls.setsockopt(receiver, 1, 27, bytes(4))
        err = calls.attach_filter(receiver, SO_ATTACH_FILTER, pack(insns))
        if err:
            out[name] = str(show_err(err))
            continue
        charged = struct.unpack_from("=I", calls.getsockopt(receiver, 1, SO_MEMINFO, 36)[1], 4 * OMEM)[0]
        calls.sendmsg(sender, payload, 0)
        n = calls.recvmsg(receiver, 10000, 0x40)[0]
        out[name] = f"{charged} {n if n >= 0 else '-'}"
    calls.close(receiver)
    calls.close(sender)
    return out


def linux(function: str) -> dict[str, str]:
    """The kernel's answers; PermissionError where it cannot be asked."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.filter_cases", function], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PermissionError(f"no namespaces here: {done.stderr.strip().splitlines()[-1]}")
    answers: dict[str, str] = json.loads(done.stdout)
    return answers


def main() -> int:
    if len(sys.argv) > 1:
        from tests.parity.linux_calls import LinuxCalls

        json.dump(run(LinuxCalls(1), {"cases": cases, "fuzz": fuzz}[sys.argv[1]]()), sys.stdout)
        return 0
    from tests.parity.afinet_calls import AfinetCalls

    theirs = linux("fuzz")
    ours = run(AfinetCalls(), fuzz())
    wrong = 0
    for name, insns, payload in fuzz():
        if ours[name] != theirs[name]:
            wrong += 1
            print(f"{name}: afinet {ours[name]}, Linux {theirs[name]}: {insns} over {len(payload)} bytes")
    print(f"{len(ours)} programs, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
