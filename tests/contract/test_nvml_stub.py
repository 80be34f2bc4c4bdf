"""The NVIDIA probe on its real path: pynvml, ctypes and a shared library with NVML's symbols.

The library is a stub compiled here; each test runs a script in a process of its own, since
pynvml loads its library once a process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("nvml_stub.c")
COMPILER = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)

#: On a laptop without a compiler these are skipped; in CI, which installs one, that is a failure.
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or (COMPILER is None and "CI" not in os.environ),
    reason="needs Linux and a C compiler (cc) to build the stub of NVML",
)

#: What every script may use: `say` answers the test, `state` changes what the stub does.
PRELUDE = """
import dataclasses, json, logging, os, sys
from pathlib import Path
from balancer.errors import HardwareError
from balancer.model import Hardware
from probes.base import ProbeError
from probes.detect import detect, here, parse_hardware, resolve
from probes.nvml import RETRY_S, NvmlProbe
from probes.sample import Sampler, Source

class Clock:
    now = 0.0
    def __call__(self):
        return self.now

class Lines(logging.Handler):
    def emit(self, record):
        told.append(record.getMessage())

told = []
logging.getLogger("probes").addHandler(Lines())

def say(**answer):
    plain = lambda r: dataclasses.asdict(r) if dataclasses.is_dataclass(r) else str(r)
    print(json.dumps({**answer, "told": told}, default=plain))

def state(word):
    Path(os.environ["NVML_STUB_STATE"]).write_text(word)

def gpu(index):
    return Hardware(kind="cuda", index=index)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the compiled stub."""
    folder = tmp_path_factory.mktemp("nvml")
    assert COMPILER is not None
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-Wall", "-Werror", "-o", folder / "libnvidia-ml.so.1", SOURCE],
        check=True,
    )
    return folder


def answer(folder: Path, tmp_path: Path, script: str, state: str = "ok", **environ: str) -> dict[str, Any]:
    """What `script` says, run with the stub's folder on the loader's path."""
    (tmp_path / "state").write_text(state)
    clean = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        env={
            **clean,
            "LD_LIBRARY_PATH": str(folder),
            "NVML_STUB_STATE": str(tmp_path / "state"),
            "PYTHONPATH": str(ROOT),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_two_gpus_are_described(library: Path, tmp_path: Path) -> None:
    said = answer(library, tmp_path, "say(devices=NvmlProbe().devices(), here=here())")
    first, second = said["devices"]
    assert (first["kind"], first["index"], first["model"]) == ("cuda", 0, "Tesla V100-SXM2-16GB")
    assert (first["compute_capability"], first["gpu_memory_bytes"]) == (7.0, 16 << 30)
    assert (second["index"], second["model"], second["compute_capability"]) == (1, "NVIDIA T4", 7.5)
    assert "cuda:0 (Tesla V100-SXM2-16GB), cuda:1 (NVIDIA T4)" in said["here"]


def test_a_reading_that_is_not_supported_is_absent_alone(library: Path, tmp_path: Path) -> None:
    said = answer(library, tmp_path, "p = NvmlProbe(); say(first=p.read(gpu(0)), second=p.read(gpu(1)))")
    known = {name: value for name, value in said["first"].items() if value is not None}
    assert known == {
        "gpu": 0.83,
        "gpu_memory": 0.25,
        "gpu_memory_free_bytes": 12 << 30,
        "temperature_celsius": 71,
        "power_w": 250.5,
    }
    assert said["second"]["gpu"] is None
    assert said["second"]["power_w"] is None
    assert said["second"]["temperature_celsius"] == 51
    assert said["second"]["gpu_memory"] == 0.25


def test_power_is_the_energy_that_the_card_counted_over_time(library: Path, tmp_path: Path) -> None:
    script = """
clock = Clock()
p = NvmlProbe(clock=clock)
told = []
for word, seconds in (("ok", 0), ("ok", 2), ("ok", 0.1), ("ok", 0.9), ("uncounted", 1), ("reloaded", 1),
                      ("ok", 1), ("lost", 0), ("ok", RETRY_S)):
    state(word)
    clock.now += seconds
    try:
        told.append(p.read(gpu(0)).power_w)
    except ProbeError:
        told.append("lost")
say(watts=told)
"""
    said = answer(library, tmp_path, script)
    # The moment's where two looks are too close, nothing is counted, or counting began anew.
    assert said["watts"] == [250.5, 100.0, 250.5, 400.0, 250.5, 250.5, 200.0, "lost", 250.5]


def test_a_lost_gpu_is_told_once_absent_and_found_again(library: Path, tmp_path: Path) -> None:
    script = """
clock = Clock()
sampler = Sampler(gpu(0), [Source(probe=NvmlProbe(clock=clock))])
before = sampler.sample()
state("lost")
lost = [sampler.sample() for _ in range(3)]
state("ok")
early = sampler.sample()
clock.now += RETRY_S
say(before=before, lost=lost, early=early, after=sampler.sample())
"""
    said = answer(library, tmp_path, script)
    assert said["before"]["gpu"] == said["after"]["gpu"] == 0.83
    for reading in (*said["lost"], said["early"]):
        assert set(reading.values()) == {None}
    assert len(said["told"]) == 1
    assert "nvml" in said["told"][0]
    assert "GPU is lost" in said["told"][0]


def test_a_gpu_that_answers_nothing_at_all_is_no_silent_blank(library: Path, tmp_path: Path) -> None:
    script = """
p = NvmlProbe()
devices = p.devices()
state("unknown")
try:
    say(read=p.read(gpu(0)))
except ProbeError as error:
    say(error=str(error))
"""
    said = answer(library, tmp_path, script)
    assert "Unknown Error" in said["error"]


def test_without_a_driver_there_are_no_devices_and_no_noise(library: Path, tmp_path: Path) -> None:
    script = "say(devices=NvmlProbe().devices(), auto=detect().kind)"
    for folder, state in ((library, "nodriver"), (tmp_path, "ok")):
        said = answer(folder, tmp_path, script, state)
        if folder == tmp_path and said["devices"]:
            pytest.skip("this machine has NVIDIA's own library and a GPU")
        assert said["devices"] == []
        assert said["auto"] != "cuda"
        assert said["told"] == []


def test_a_driver_that_does_not_fit_is_told_and_refused_with_its_reason(
    library: Path, tmp_path: Path
) -> None:
    script = """
auto = detect()
try:
    resolve(parse_hardware("cuda"))
except HardwareError as error:
    say(auto=auto.kind, error=str(error))
"""
    said = answer(library, tmp_path, script, "mismatch")
    assert said["auto"] != "cuda"
    assert "version mismatch" in said["told"][0]
    assert "'cuda' does not answer (NVML: " in said["error"]
    assert "version mismatch" in said["error"]


def test_indices_are_those_a_cuda_program_sees(library: Path, tmp_path: Path) -> None:
    script = "p = NvmlProbe(); say(devices=p.devices(), read=p.read(gpu(0)))"
    said = answer(library, tmp_path, script, CUDA_VISIBLE_DEVICES="1")
    assert [d["model"] for d in said["devices"]] == ["NVIDIA T4"]
    assert said["read"]["temperature_celsius"] == 51
    said = answer(library, tmp_path, script, CUDA_VISIBLE_DEVICES="GPU-bbbb,0")
    assert [d["model"] for d in said["devices"]] == ["NVIDIA T4", "Tesla V100-SXM2-16GB"]
    said = answer(
        library, tmp_path, "say(devices=NvmlProbe().devices(), auto=detect().kind)", CUDA_VISIBLE_DEVICES=""
    )
    assert said["devices"] == []
    assert said["auto"] != "cuda"


def test_a_mig_slice_is_a_device_of_its_own(library: Path, tmp_path: Path) -> None:
    script = "p = NvmlProbe(); say(devices=p.devices(), read=p.read(gpu(0)), auto=detect().hardware_class)"
    said = answer(library, tmp_path, script, "mig", CUDA_VISIBLE_DEVICES="MIG-dddd-1")
    (device,) = said["devices"]
    assert device["model"] == "Tesla V100-SXM2-16GB MIG 1g.5gb"
    assert (device["gpu_memory_bytes"], device["compute_capability"]) == (5 << 30, 7.0)
    assert said["auto"] == "cuda-Tesla-V100-SXM2-16GB-MIG-1g.5gb"
    known = {name: value for name, value in said["read"].items() if value is not None}
    assert known == {"gpu_memory": 0.2, "gpu_memory_free_bytes": 4 << 30, "temperature_celsius": 71}


def test_a_card_in_slices_stands_for_its_first_slice_and_slices_have_no_number(
    library: Path, tmp_path: Path
) -> None:
    script = "say(devices=NvmlProbe().devices())"
    for listed, models in (("0,1", ["Tesla V100-SXM2-16GB MIG 1g.5gb", "NVIDIA T4"]), ("2", []),
                           ("MIG-nowhere", [])):
        said = answer(library, tmp_path, script, "mig", CUDA_VISIBLE_DEVICES=listed)
        assert [device["model"] for device in said["devices"]] == models


def test_the_worker_option_works_end_to_end(library: Path, tmp_path: Path) -> None:
    script = """
from probes.sample import sampler_for
auto = resolve(parse_hardware("auto,rack=a"))
try:
    resolve(parse_hardware("cuda:2"))
except HardwareError as error:
    say(auto=auto, reading=sampler_for(auto).sample(), error=str(error))
"""
    said = answer(library, tmp_path, script)
    assert said["auto"]["model"] == "Tesla V100-SXM2-16GB"
    assert said["auto"]["labels"] == [["rack", "a"]]
    assert said["auto"]["memory_bytes"] > 0
    assert said["reading"]["gpu"] == 0.83
    assert said["reading"]["memory"] is not None
    assert "'cuda:2' is not here: 2 of its kind are there" in said["error"]
