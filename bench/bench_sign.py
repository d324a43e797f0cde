"""Time HMAC-SHA256 of one order (197 B); it stands between the decision and the wire on every signed order.

Units: ns an operation, minimum and median of repeats. From Python the call itself costs about 50 ns.
Run: python bench/bench_sign.py
"""

from __future__ import annotations

import hashlib
import hmac
import platform
import statistics
import timeit
from collections.abc import Callable

from ext.sign import HmacSha256

KEY = b"demo-secret-binance-0001"
MUST_NS = 250


def nanoseconds(operation: Callable[[], object], number: int = 20_000, repeat: int = 15) -> tuple[float, float]:
    times = [t / number * 1e9 for t in timeit.repeat(operation, number=number, repeat=repeat)]
    return min(times), statistics.median(times)


def bench_hexdigest(size: int) -> dict[str, tuple[float, float]]:
    message = b"x" * size
    signer = HmacSha256(KEY)
    portable = HmacSha256(KEY, force_portable=True)
    return {
        f"hexdigest {size} B": nanoseconds(lambda: signer.hexdigest(message)),
        f"hexdigest {size} B portable": nanoseconds(lambda: portable.hexdigest(message)),
        f"hmac.new().hexdigest {size} B": nanoseconds(lambda: hmac.new(KEY, message, hashlib.sha256).hexdigest(), 5000),
    }


def main() -> None:
    print(
        f"python {platform.python_version()}, accelerated: {HmacSha256(KEY).is_accelerated}, must {MUST_NS} ns at 197 B"
    )
    for size in (64, 197, 512):
        for name, (least, median) in bench_hexdigest(size).items():
            print(f"{name:36} min {least:8.1f}  p50 {median:8.1f} ns")


if __name__ == "__main__":
    main()
