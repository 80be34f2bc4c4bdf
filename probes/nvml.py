"""NVIDIA GPUs through NVML, the driver's own library (module `pynvml` of nvidia-ml-py).

No library or no driver means no devices, without noise. A quantity that a card does not support
is absent alone; a card that is lost raises, and NVML is opened afresh after a pause, since after
a reset or a driver's reload every old handle is dead. A MIG slice is a device of its own, with its own memory
and its own class; a worker is given one by CUDA_VISIBLE_DEVICES=MIG-….
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from balancer.model import Hardware, Reading
from probes.base import ProbeError, share, visible

#: Seconds before a lost card is asked for again: opening NVML costs up to a second while a driver recovers.
RETRY_S: Final = 10.0

#: Seconds between two looks at a card's count of energy, at least: it is brought up to date some ten times a
#: second.
COUNTED_S: Final = 0.5

#: Codes of NVML that mean "there is nothing here": DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND.
NOTHING_HERE: Final = frozenset({9, 12})

#: Codes that speak of the device or the library as a whole: UNINITIALIZED, DRIVER_NOT_LOADED, GPU_IS_LOST,
#: RESET_REQUIRED, LIB_RM_VERSION_MISMATCH, GPU_NOT_FOUND.
DEVICE_GONE: Final = frozenset({1, 9, 15, 16, 18, 28})


class NvmlProbe:
    """Reads NVIDIA GPUs, numbered as a CUDA program sees them under CUDA_VISIBLE_DEVICES."""

    name = "nvml"

    def __init__(
        self, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._environ = environ
        self._clock = clock
        self._library: Any = None
        self._uuids: list[str] = []
        self._counted: dict[int, tuple[float, float]] = {}
        self._retry_at = 0.0
        self._trouble = ""

    def devices(self) -> list[Hardware]:
        """The visible GPUs. Raises `ProbeError` when there is a driver and it does not answer."""
        try:
            import pynvml
        except ImportError:
            return []
        try:
            nvml = self._opened()
            return [_describe(nvml, index, self._handle(nvml, index)) for index in range(len(self._uuids))]
        except pynvml.NVMLError as error:
            self._close()
            if error.value in NOTHING_HERE:
                return []
            raise ProbeError(f"NVML: {error}") from error

    def read(self, hardware: Hardware) -> Reading:
        if self._clock() < self._retry_at:
            raise ProbeError(self._trouble)
        import pynvml

        index = hardware.index or 0
        try:
            nvml = self._opened()
            return _read(nvml, self._handle(nvml, index), partial(self._mean_w, index))
        except pynvml.NVMLError as error:
            self._close()
            self._retry_at = self._clock() + RETRY_S
            self._trouble = f"cuda:{index}: {error}"
            raise ProbeError(self._trouble) from error

    def _opened(self) -> Any:
        """The library, initialised; the visible cards are listed once, so that numbers stay theirs."""
        import pynvml

        if self._library is None:
            pynvml.nvmlInit()
            self._library = pynvml
            if not self._uuids:
                count = pynvml.nvmlDeviceGetCount()
                uuids = [_uuid(pynvml, physical) for physical in range(count)]
                slices = [_slices(pynvml, physical) for physical in range(count)]
                self._uuids = _numbered(self._environ.get("CUDA_VISIBLE_DEVICES"), uuids, slices)
        return self._library

    def _handle(self, nvml: Any, index: int) -> Any:
        if index >= len(self._uuids):
            raise ProbeError(f"cuda:{index} is not there; {len(self._uuids)} GPUs are visible")
        uuid = self._uuids[index]
        if uuid.startswith("#"):
            return nvml.nvmlDeviceGetHandleByIndex(int(uuid[1:]))
        return nvml.nvmlDeviceGetHandleByUUID(uuid)

    def _mean_w(self, index: int, counted_mj: float) -> float | None:
        """Mean power (W) since a device's energy (mJ) was last looked at; `None` where that was never, just
        now, or before the driver began to count anew."""
        now = self._clock()
        at, before_mj = self._counted.setdefault(index, (now, counted_mj))
        if counted_mj >= before_mj and now - at < COUNTED_S:
            return None
        self._counted[index] = now, counted_mj
        return (counted_mj - before_mj) / 1000 / (now - at) if counted_mj >= before_mj else None

    def _close(self) -> None:
        self._counted.clear()
        library, self._library = self._library, None
        if library is not None:
            try:
                library.nvmlShutdown()
            except library.NVMLError:
                return  # it was down already


def _uuid(nvml: Any, physical: int) -> str:
    """What names a card for good: its UUID, or "#" and its index where the driver gives none."""
    try:
        return str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(physical)))
    except nvml.NVMLError:
        return f"#{physical}"


def _slices(nvml: Any, physical: int) -> list[str]:
    """UUIDs of a card's MIG slices; none where the card, its driver or its setting knows no MIG."""
    try:
        card = nvml.nvmlDeviceGetHandleByIndex(physical)
        if nvml.nvmlDeviceGetMigMode(card)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return []
        count = nvml.nvmlDeviceGetMaxMigDeviceCount(card)
    except nvml.NVMLError:
        return []
    answers, found = _Answers(nvml), []
    for place in range(count):
        handle = answers.ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, card, place)
        uuid = answers.ask(nvml.nvmlDeviceGetUUID, handle) if handle is not None else None
        if uuid is not None:
            found.append(str(uuid))
    return found


def _numbered(listed: str | None, cards: list[str], slices: list[list[str]]) -> list[str]:
    """UUIDs in the order in which CUDA numbers them: cards, or the first slice of one that is in slices; any
    slice by its UUID."""
    every = [*cards, *(uuid for own in slices for uuid in own)]
    chosen = visible(listed, every, len(cards))
    return [slices[i][0] if i < len(cards) and slices[i] else every[i] for i in chosen]


def _card(answers: _Answers, nvml: Any, handle: Any) -> Any:
    """The card that a MIG slice is part of; `None` for a whole card."""
    is_slice = answers.ask(nvml.nvmlDeviceIsMigDeviceHandle, handle)
    if is_slice is None or not is_slice.value:
        return None
    return answers.ask(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, handle)


def _model(answers: _Answers, nvml: Any, handle: Any, card: Any) -> str:
    """The name; that of a slice tells its size, where the driver leaves it out: a class of its own."""
    name = str(answers.ask(nvml.nvmlDeviceGetName, handle if card is None else card) or "")
    if card is None:
        return name
    own = str(answers.ask(nvml.nvmlDeviceGetName, handle) or "")
    if "MIG" in own:
        return own
    parts = answers.ask(nvml.nvmlDeviceGetAttributes, handle)
    if parts is None:
        return f"{name} MIG"
    return f"{name} MIG {parts.gpuInstanceSliceCount}g.{round(parts.memorySizeMB / 1024)}gb"


def _describe(nvml: Any, index: int, handle: Any) -> Hardware:
    answers = _Answers(nvml)
    card = _card(answers, nvml, handle)
    name = _model(answers, nvml, handle, card)
    memory = answers.ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = answers.ask(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    if capability is None and card is not None:
        capability = answers.ask(nvml.nvmlDeviceGetCudaComputeCapability, card)
    return Hardware(
        kind="cuda",
        model=name,
        index=index,
        compute_capability=float(f"{capability[0]}.{capability[1]}") if capability is not None else None,
        gpu_memory_bytes=int(memory.total) if memory is not None and memory.total else None,
        telemetry=NvmlProbe.name,
    )


def _read(nvml: Any, handle: Any, mean_w: Callable[[float], float | None]) -> Reading:
    answers = _Answers(nvml)
    card = _card(answers, nvml, handle)
    answers.given = 0
    rates = answers.ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    memory = answers.ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    # A slice is as hot as its card; the card's power is not the slice's. Energy that the card counted between
    # two looks is measured over all of that time, its power only at this moment.
    celsius = answers.ask(nvml.nvmlDeviceGetTemperature, card or handle, nvml.NVML_TEMPERATURE_GPU)
    counted_mj = answers.ask(nvml.nvmlDeviceGetTotalEnergyConsumption, handle) if card is None else None
    watts = mean_w(counted_mj) if counted_mj is not None else None
    if watts is None and card is None:
        milliwatts = answers.ask(nvml.nvmlDeviceGetPowerUsage, handle)
        watts = milliwatts / 1000 if milliwatts is not None else None
    if not answers.given and answers.refusal is not None:
        raise answers.refusal
    return Reading(
        gpu=share(rates.gpu, 100) if rates is not None else None,
        gpu_memory=share(memory.used, memory.total) if memory is not None else None,
        gpu_memory_free_bytes=float(memory.free) if memory is not None and memory.total else None,
        temperature_celsius=float(celsius) if celsius is not None else None,
        power_w=watts,
    )


class _Answers:
    """Asks quantity by quantity: one that is refused is absent, and a lost device ends the asking."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self.given = 0
        self.refusal: Exception | None = None

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            answer = function(*arguments)
        except self._nvml.NVMLError as error:
            if error.value in DEVICE_GONE:
                raise
            self.refusal = error
            return None
        self.given += 1
        return answer
