"""What `--hardware` accepts, refuses and finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.errors import HardwareError
from balancer.model import Hardware, Kind, Reading
from probes.base import Probe, ProbeError
from probes.detect import Probes, detect, here, parse_hardware, resolve

GIB = 2**30
CPU = Hardware(kind="cpu", model="Fast CPU", memory_bytes=64 * GIB, telemetry="psutil")
V100 = [
    Hardware(
        kind="cuda",
        model="Tesla V100",
        index=i,
        compute_capability=7.0,
        gpu_memory_bytes=16 * GIB,
        telemetry="nvml",
    )
    for i in range(2)
]
MPS = Hardware(kind="mps")


class Known:
    """A probe that knows some devices, or whose library is broken."""

    def __init__(self, devices: Sequence[Hardware], name: str, broken: str = "") -> None:
        self.name = name
        self._devices = list(devices)
        self._broken = broken

    def devices(self) -> list[Hardware]:
        if self._broken:
            raise ProbeError(self._broken)
        return self._devices

    def read(self, hardware: Hardware) -> Reading:
        return Reading()


def node(devices: Mapping[Kind, Sequence[Hardware]] | None = None, broken: str = "") -> Probes:
    """The probes of a node with these devices, besides its CPU."""
    names = {"cpu": "psutil", "cuda": "nvml", "rocm": "sysfs"}

    def probe_of(kind: Kind) -> Probe:
        found = {"cpu": [CPU], **(devices or {})}.get(kind, [])
        return Known(found, names.get(kind, "none"), broken if kind == "cuda" else "")

    return probe_of


PLAIN = node()
GPUS = node({"cuda": V100})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu", Hardware(kind="cpu", telemetry="psutil")),
        ("CUDA", Hardware(kind="cuda", telemetry="nvml")),
        ("cuda:1", Hardware(kind="cuda", index=1, telemetry="nvml")),
        (" rocm:0 , rack = a ", Hardware(kind="rocm", index=0, telemetry="sysfs", labels=(("rack", "a"),))),
        ("mps", Hardware(kind="mps")),
        ("openvino,model=Arc A770", Hardware(kind="openvino", model="Arc A770")),
        ("qnn", Hardware(kind="qnn")),
        ("webnn", Hardware(kind="webnn")),
        ("webgpu,memory=8GiB", Hardware(kind="webgpu", memory_bytes=8 * GIB)),
        (
            "cuda:0,model=K80,gpu_memory=12GB,compute_capability=3.7,emulated=1,zone=b,power_w=300,idle_w=50",
            Hardware(
                kind="cuda", model="K80", index=0, gpu_memory_bytes=12 * 10**9, compute_capability=3.7,
                emulated=True, telemetry="emulated",
                labels=(("zone", "b"), ("power_w", "300"), ("idle_w", "50")),
            ),
        ),
        ("cuda,emulated=0", Hardware(kind="cuda", telemetry="nvml")),
    ],
)  # fmt: skip
def test_a_text_becomes_a_record(text: str, expected: Hardware) -> None:
    assert parse_hardware(text, PLAIN) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "cuba",
            r"hardware 'cuba': did you mean 'cuda'\? .* Here: cpu \(Fast CPU\), cuda:0 \(Tesla V100\)",
        ),
        ("", r"unknown hardware ''.*Known: auto, cpu"),
        ("tpu9000x", r"unknown hardware 'tpu9000x'.*Known: auto, cpu, cuda"),
        ("cpu:0", "cpu takes no index"),
        ("cuda:", "an index is a number"),
        ("cuda:-1", "an index is a number.*Here: "),
        ("cuda:one", "an index is a number"),
        ("cpu,rack", "'rack' is not label=value"),
        ("cpu,rack=", "'rack=' is not label=value"),
        ("cpu,=a", "'=a' is not label=value"),
        ("cpu,rack=a,rack=b", "'rack' is given twice"),
        ("cpu,gpu_memory=16GB", "a cpu has none"),
        ("cuda,gpu_memory=lots", "gpu_memory='lots' is no size"),
        ("cpu,memory=0", "memory='0' is no size"),
        ("cuda,compute_capability=seven", "compute_capability='seven' is no number"),
        ("cuda,compute_capability=nan", "compute_capability='nan' is no number"),
        ("cuda,compute_capability=-1", "compute_capability='-1' is no number"),
        ("cuda,emulated=maybe", "emulated='maybe': write emulated=1"),
        ("auto,emulated=1", "'auto' cannot be emulated"),
        ("cuda,emulated=1,power_w=300", "needs idle_w="),
        ("cuda,emulated=1,idle_w=30", "needs power_w="),
        ("cuda,emulated=1,idle_w=x,power_w=300", "idle_w='x' is no number"),
        ("cuda,emulated=1,idle_w=400,power_w=300", "idle_w=400 is above power_w=300"),
    ],
)
def test_what_is_wrong_is_said(text: str, sentence: str) -> None:
    with pytest.raises(HardwareError, match=sentence):
        parse_hardware(text, GPUS)


@given(st.text(max_size=40))
def test_any_text_is_a_record_or_a_hardware_error(text: str) -> None:
    try:
        parsed = parse_hardware(text, PLAIN)
    except HardwareError as error:
        message = str(error)
    else:
        message = parsed.kind
    assert message


def test_auto_takes_the_first_gpu_and_else_the_processor() -> None:
    assert parse_hardware("auto", GPUS) == V100[0]
    assert parse_hardware("auto", PLAIN) == CPU
    assert parse_hardware("Auto,rack=a", PLAIN).labels == (("rack", "a"),)
    assert detect(node({"mps": [MPS]})) == MPS


def test_auto_goes_on_without_a_driver_that_is_broken(caplog: pytest.LogCaptureFixture) -> None:
    assert detect(node(broken="NVML: Driver/library version mismatch")) == CPU
    assert "version mismatch" in caplog.text


def test_what_is_there_is_listed_for_a_person() -> None:
    assert here(GPUS) == "cpu (Fast CPU), cuda:0 (Tesla V100), cuda:1 (Tesla V100)"
    assert here(node({"mps": [MPS]})) == "cpu (Fast CPU), mps"


def test_the_probe_fills_in_what_the_text_left_out() -> None:
    found = resolve(parse_hardware("cuda:1,rack=a", GPUS), GPUS)
    assert found == Hardware(
        kind="cuda", model="Tesla V100", index=1, compute_capability=7.0, gpu_memory_bytes=16 * GIB,
        memory_bytes=64 * GIB, labels=(("rack", "a"),), telemetry="nvml",
    )  # fmt: skip
    assert resolve(parse_hardware("cuda", GPUS), GPUS).index == 0
    assert resolve(parse_hardware("cpu", PLAIN), PLAIN) == CPU
    assert resolve(parse_hardware("qnn", PLAIN), PLAIN).memory_bytes == 64 * GIB


def test_what_the_text_says_wins_over_the_probe() -> None:
    found = resolve(parse_hardware("cuda:0,model=half,gpu_memory=8GB,memory=4GB", GPUS), GPUS)
    assert (found.model, found.gpu_memory_bytes, found.memory_bytes) == ("half", 8 * 10**9, 4 * 10**9)
    assert found.compute_capability == 7.0


def test_an_emulated_device_stays_as_declared() -> None:
    hardware = parse_hardware("cuda:5,model=K80,emulated=1", PLAIN)
    assert resolve(hardware, PLAIN) == hardware


@pytest.mark.parametrize(
    ("text", "probes", "sentence"),
    [
        ("cuda:2", GPUS, r"'cuda:2' is not here: 2 of its kind are there. Here: cpu \(Fast CPU\), cuda:0"),
        (
            "cuda",
            PLAIN,
            r"'cuda:0' is not here: no device of its kind answers. .* To emulate one: cuda,model=NAME",
        ),
        ("rocm", PLAIN, "'rocm:0' is not here"),
        ("cuda", node(broken="NVML: mismatch"), r"'cuda' does not answer \(NVML: mismatch\)"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_what_is(text: str, probes: Probes, sentence: str) -> None:
    with pytest.raises(HardwareError, match=sentence):
        resolve(parse_hardware(text, probes), probes)
