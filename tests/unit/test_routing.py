"""What hardware may run which task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.model import Hardware, Needs, Reading
from balancer.routing import roomier, strike_reason, unfit_reason

CPU = Hardware(kind="cpu", model="EPYC", memory_bytes=8 * 10**9)
K80 = Hardware(kind="cuda", model="K80", compute_capability=3.7, gpu_memory_bytes=12 * 10**9)
RADEON = Hardware(kind="rocm", model="MI50", gpu_memory_bytes=16 * 10**9)


@pytest.mark.parametrize(
    ("hardware", "needs", "reason"),
    [
        (CPU, Needs(hardware=("cuda", "cpu"), gpu_memory_bytes=8 * 10**9), None),
        (CPU, Needs(gpu_memory_bytes=8 * 10**9), "GPU memory: needs 8 GB; there is no reading"),
        (CPU, Needs(hardware=("cuda",)), "hardware: needs any of cuda; this is cpu-EPYC"),
        (CPU, Needs(hardware=("cpu-EPYC",), compute_capability=7.0), None),
        (CPU, Needs(memory_bytes=16 * 10**9), "memory: needs 16 GB; there is 8 GB"),
        (K80, Needs(hardware=("cuda", "cpu"), gpu_memory_bytes=8 * 10**9), None),
        (K80, Needs(hardware=("cuda",), gpu_memory_bytes=16 * 10**9),
         "GPU memory: needs 16 GB; there is 12 GB"),
        (K80, Needs(hardware=("cuda", "cpu"), compute_capability=7.0),
         "compute capability: needs 7; there is 3.7"),
        (RADEON, Needs(compute_capability=7.0), "compute capability: needs 7; there is no reading"),
        (RADEON, Needs(hardware=("cuda", "rocm"), compute_capability=7.0), None),
    ],
)
def test_what_only_other_kinds_have_is_not_asked_of_a_kind_that_is_named(
    hardware: Hardware, needs: Needs, reason: str | None
) -> None:
    assert unfit_reason(hardware, needs) == reason


def test_a_card_that_is_full_now_is_struck_out_in_words() -> None:
    reading = Reading(gpu_memory_free_bytes=3.5e9)
    assert strike_reason(reading, Needs(gpu_memory_bytes=8 * 10**9)) == "GPU memory: needs 8 GB; 3.5 GB free"
    assert strike_reason(Reading(), Needs(gpu_memory_bytes=8 * 10**9)) is None


def test_what_ran_out_of_memory_goes_where_there_is_the_most() -> None:
    fleet = [("same", CPU), ("large", replace(CPU, memory_bytes=32 * 10**9)),
             ("larger", replace(CPU, memory_bytes=64 * 10**9)), ("card", replace(K80, memory_bytes=10**12))]
    assert roomier(CPU, Needs(hardware=("cpu",)), fleet) == "larger"
    assert roomier(CPU, Needs(), fleet) == "card"
    assert roomier(CPU, Needs(hardware=("cpu",), affinity=("large",)), fleet) == "large"
    assert roomier(replace(CPU, memory_bytes=10**13), Needs(), fleet) is None
    assert roomier(replace(CPU, memory_bytes=None), Needs(), fleet) is None
