"""The delay distributions of netem: what `tc` reads from normal.dist, pareto.dist and paretonormal.dist, computed in integers.

A table has 4,096 entries: quantiles of a distribution of mean 0, in units of 1/8192 standard deviation, clipped to 16 bits. A draw
is the entry at a random index. Integers only, so that every machine gets the same tables; they agree with iproute2's to one unit.
"""

from __future__ import annotations

from typing import Final

NETEM_DIST_SCALE: Final = 8192
NETEM_DIST_MAX: Final = 16384  # entries a table may have
TABLESIZE: Final = 4096

# Fixed point of the integration, and its step: 1/1024 of a standard deviation.
FP: Final = 48
ONE: Final = 1 << FP
STEP_BITS: Final = 10
PDF_0: Final = 0x662114CF50D9  # 1 / sqrt(2 * pi)


def clip(value: int) -> int:
    return max(-32768, min(32767, value))


def normal_quantiles() -> list[int]:
    """Where the normal distribution function passes (k + 1/8) / 4096, not clipped."""
    # The density from 0 up, by its recurrence: pdf(x + h) = pdf(x) * r, r *= exp(-h * h). h * h is 2**-20.
    h2 = ONE >> 2 * STEP_BITS
    q = ONE - h2 + (h2 * h2 >> FP + 1)  # exp(-h * h)
    r = ONE - (h2 >> 1) + (h2 * h2 >> FP + 3)  # exp(-h * h / 2)
    pdf = PDF_0
    cdf = [ONE >> 1]
    total = ONE >> 1
    for _ in range(5 << STEP_BITS):
        following = pdf * r >> FP
        r = r * q >> FP
        total += pdf + following >> STEP_BITS + 1  # trapezium
        pdf = following
        cdf.append(total)
    out = [0] * TABLESIZE
    # The upper half upwards for p >= 1/2, and mirrored for p < 1/2.
    at = 0
    for k in range(TABLESIZE // 2, TABLESIZE):
        at = normal_step(cdf, at, (8 * k + 1) << FP - 15)
        out[k] = normal_interpolate(cdf, at, (8 * k + 1) << FP - 15)
    at = 0
    for k in range(TABLESIZE // 2 - 1, -1, -1):
        target = ONE - ((8 * k + 1) << FP - 15)
        at = normal_step(cdf, at, target)
        out[k] = -normal_interpolate(cdf, at, target)
    return out


def normal_step(cdf: list[int], at: int, target: int) -> int:
    """The last step at or below `target`, from `at` on."""
    while cdf[at + 1] <= target:
        at += 1
    return at


def normal_interpolate(cdf: list[int], at: int, target: int) -> int:
    """x at `target`, in 1/8192."""
    low = cdf[at]
    unit = NETEM_DIST_SCALE >> STEP_BITS
    width = cdf[at + 1] - low
    return at * unit + ((target - low) * unit * 2 + width) // (2 * width)


def normal_table() -> list[int]:
    return [clip(v) for v in normal_quantiles()]


def pareto_table() -> list[int]:
    """Pareto with shape 3: (i / 65536) ** (-1 / 3), less its mean of 3/2, times 4/3; a long tail of late packets."""
    out: list[int] = []
    root = 1 << 16  # of 1, in units of 2**-16
    for i in range(65536, 0, -16):
        # the cube root of (65536 / i) * 2**48, by Newton's method from the last one
        target = (1 << 64) // i
        while True:
            better = (2 * root + target // (root * root)) // 3
            if abs(better - root) <= 1:
                root = better
                break
            root = better
        value = (root - (3 << 15)) * 32768  # times 8192 * 4, over 3 below
        out.append(clip((value + 3 * (1 << 15)) // (3 << 16)))
    return out


def paretonormal_table() -> list[int]:
    """A quarter normal, three quarters Pareto."""
    normal = normal_quantiles()
    pareto = pareto_table()
    return [clip((normal[k] + 3 * pareto[k]) // 4) for k in range(TABLESIZE)]
