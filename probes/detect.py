"""What `--hardware` means: a text becomes a `Hardware`, checked against what is there.

`parse_hardware` reads the text (and asks the probes for `auto`), `resolve` fills in what the
device says of itself. Every refusal names the value, the way out and what there is here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from typing import Final, TypeVar

from balancer.errors import HardwareError
from balancer.model import KINDS, Hardware, Kind, as_kind
from probes.base import Probe, ProbeError
from probes.emulated import POWER_LABELS
from probes.kinds import probe_of
from probes.quantity import parse_bytes
from probes.sysfs_gpu import rocm_runs

logger = logging.getLogger(__name__)

#: Kinds of which a node may have several, told apart by an index.
INDEXED: Final = ("cuda", "rocm")

#: The labels that say something of the hardware itself; all others are for affinity.
RESERVED: Final = ("model", "gpu_memory", "memory", "compute_capability", "emulated")

Probes = Callable[[Kind], Probe]
Number = TypeVar("Number", int, float)


def parse_hardware(text: str, probes: Probes = probe_of) -> Hardware:
    """`auto|cpu|cuda[:index]|rocm[:index]|mps|openvino|qnn|webnn|webgpu[,label=value…]` as a record.

    Reserved labels are model, gpu_memory, memory (sizes such as 16GB), compute_capability (7.0)
    and emulated (0 or 1). Raises `HardwareError`.
    """
    device, *parts = (part.strip() for part in text.split(","))
    labels = _labels(parts)
    emulated = _flag(labels.get("emulated", "0"))
    if device.lower() == "auto":
        if emulated:
            raise HardwareError("hardware 'auto' cannot be emulated: name the kind, as in cuda,emulated=1")
        found = detect(probes)
    else:
        found = _named(device, probes)
    if emulated:
        found = replace(found, emulated=True, telemetry="emulated")
        _check_power(labels)
    return _with_labels(found, labels)


def detect(probes: Probes = probe_of) -> Hardware:
    """The best device that is there: an NVIDIA GPU, an AMD GPU under ROCm, Apple's GPU, else the CPU."""
    for kind in ("cuda", "rocm", "mps"):
        devices = _devices(kind, probes)
        if devices and (kind != "rocm" or rocm_runs()):
            return devices[0]
    devices = _devices("cpu", probes)
    return devices[0] if devices else Hardware(kind="cpu", telemetry="psutil")


def resolve(hardware: Hardware, probes: Probes = probe_of) -> Hardware:
    """`hardware` with what its probe knows where the text said nothing.

    An emulated device stays as declared. Raises `HardwareError` when the device is not there.
    """
    if hardware.emulated:
        return hardware
    found = hardware if hardware.kind not in (*INDEXED, "cpu") else _same_device(hardware, probes)
    host = _devices("cpu", probes)
    return replace(
        hardware,
        index=found.index,
        model=hardware.model or found.model,
        compute_capability=_given(hardware.compute_capability, found.compute_capability),
        gpu_memory_bytes=_given(hardware.gpu_memory_bytes, found.gpu_memory_bytes),
        memory_bytes=_given(hardware.memory_bytes, host[0].memory_bytes if host else None),
    )


def here(probes: Probes = probe_of) -> str:
    """The devices of this node, for a person: "cpu (AMD EPYC), cuda:0 (Tesla V100)"."""
    names = []
    for kind in ("cpu", "cuda", "rocm", "mps"):
        for device in _devices(kind, probes):
            index = "" if device.index is None else f":{device.index}"
            names.append(f"{kind}{index} ({device.model})" if device.model else f"{kind}{index}")
    return ", ".join(names)


def _named(device: str, probes: Probes) -> Hardware:
    """The record of `kind` or `kind:index`."""
    name, colon, number = device.partition(":")
    kind = as_kind(name)
    if kind is None:
        near = get_close_matches(name.lower(), [*KINDS, "auto"], n=1)
        hint = f": did you mean {near[0]!r}?" if near else "."
        known = f"Known: auto, {', '.join(KINDS)}."
        raise HardwareError(f"unknown hardware {name!r}{hint} {known} Here: {here(probes)}")
    if colon and kind not in INDEXED:
        raise HardwareError(f"hardware {device!r}: {kind} takes no index, only {' and '.join(INDEXED)} do")
    if colon and not (number.isascii() and number.isdecimal()):
        raise HardwareError(f"hardware {device!r}: an index is a number, as {kind}:0. Here: {here(probes)}")
    return Hardware(kind=kind, index=int(number) if colon else None, telemetry=probes(kind).name)


def _labels(parts: list[str]) -> dict[str, str]:
    """`label=value` parts as a mapping, in the order given."""
    labels: dict[str, str] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise HardwareError(f"hardware label {part!r} is not label=value, as in rack=a")
        if key in labels:
            raise HardwareError(f"hardware label {key!r} is given twice: {labels[key]!r} and {value!r}")
        labels[key] = value
    return labels


def _with_labels(hardware: Hardware, labels: dict[str, str]) -> Hardware:
    """`hardware` as its labels describe it."""
    if "gpu_memory" in labels and hardware.kind == "cpu":
        raise HardwareError(f"gpu_memory={labels['gpu_memory']!r}: a cpu has none; use memory=")
    sizes = {name: parse_bytes(labels[name], name) for name in ("gpu_memory", "memory") if name in labels}
    capability = labels.get("compute_capability")
    return replace(
        hardware,
        model=labels.get("model", hardware.model),
        gpu_memory_bytes=sizes.get("gpu_memory", hardware.gpu_memory_bytes),
        memory_bytes=sizes.get("memory", hardware.memory_bytes),
        compute_capability=hardware.compute_capability
        if capability is None
        else _number("compute_capability", capability, low=0.1, high=1000, example="7.0"),
        labels=tuple((key, value) for key, value in labels.items() if key not in RESERVED),
    )


def _check_power(labels: dict[str, str]) -> None:
    """The power labels of an emulated device are numbers, and both are there or none."""
    given = [label for label in POWER_LABELS if label in labels]
    watts = [_number(label, labels[label], low=0, high=1e6, example="250") for label in given]
    if len(given) == 1:
        missing = next(label for label in POWER_LABELS if label not in labels)
        raise HardwareError(
            f"{given[0]}={labels[given[0]]} needs {missing}= too: an emulated device's power goes from "
            f"{POWER_LABELS[0]} (idle) to {POWER_LABELS[1]} (busy), in watts"
        )
    if watts and watts[1] < watts[0]:
        raise HardwareError(f"idle_w={labels['idle_w']} is above power_w={labels['power_w']}")


def _flag(text: str) -> bool:
    if text.lower() not in ("0", "1", "true", "false"):
        raise HardwareError(f"emulated={text!r}: write emulated=1 or emulated=0")
    return text.lower() in ("1", "true")


def _number(name: str, text: str, *, low: float, high: float, example: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise HardwareError(f"{name}={text!r} is no number from {low:g} to {high:g}, as {name}={example} is")
    return value


def _same_device(hardware: Hardware, probes: Probes) -> Hardware:
    """The probe's record of this device."""
    try:
        devices = probes(hardware.kind).devices()
    except ProbeError as error:
        reason = f"hardware {hardware.kind!r} does not answer ({error})"
        raise HardwareError(f"{reason}. Here: {here(probes)}") from error
    index = hardware.index or 0
    if index < len(devices):
        return devices[index]
    if hardware.kind == "cpu":
        return hardware
    there = f"{len(devices)} of its kind are there" if devices else "no device of its kind answers"
    raise HardwareError(
        f"hardware '{hardware.kind}:{index}' is not here: {there}. Here: {here(probes)}. "
        f"To emulate one: {hardware.kind},model=NAME,emulated=1"
    )


def _devices(kind: Kind, probes: Probes) -> list[Hardware]:
    """A kind's devices; a probe that fails has none, and the log says why."""
    try:
        return probes(kind).devices()
    except Exception as error:
        logger.warning("hardware %s cannot be looked for: %s", kind, error)
        return []


def _given(declared: Number | None, found: Number | None) -> Number | None:
    return found if declared is None else declared
