"""Which chip this is, and how a run is held to fewer instructions than it has.

The name of a chip is that of its cores: results of two servers with the same cores stand in one
folder. What is not in the list keeps the numbers that the processor states of itself.
"""

import os
import platform
import re
from collections.abc import Mapping
from typing import Any

VARIABLE = "BENCHMARKS_KERNELS"  # the kernels that this process and its children are held to
INSTRUCTIONS = {"v4": "avx512", "v3": "avx2", "base": "sse2"}  # by kernels of fastmlp
TITLES = {"avx512": "AVX-512", "avx2": "AVX2", "sse2": "SSE2", "native": "the processor's own"}
_PEERS = {  # what OpenBLAS, MKL, oneDNN, PyTorch, XLA and NumPy call the same
    "v4": {},
    "v3": {
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4",
    },
    "base": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3",
    },
}
# vendor, family, first and last model, cores
_CORES = (
    *(("AMD", 23, 0x00, 0x2F, "Zen"), ("AMD", 23, 0x30, 0xFF, "Zen 2")),
    *(("AMD", 25, 0x00, 0x0F, "Zen 3"), ("AMD", 25, 0x10, 0x1F, "Zen 4")),
    *(("AMD", 25, 0x20, 0x5F, "Zen 3"), ("AMD", 25, 0x60, 0xAF, "Zen 4")),
    *(("AMD", 26, 0x00, 0x4F, "Zen 5"), ("AMD", 26, 0x60, 0x7F, "Zen 5")),
    *(("Intel", 6, m, m, "Haswell") for m in (60, 63, 69, 70)),
    *(("Intel", 6, m, m, "Broadwell") for m in (61, 71, 79, 86)),
    *(("Intel", 6, m, m, "Skylake") for m in (78, 94, 142, 158)),
    ("Intel", 6, 85, 85, "Skylake-X"),
    *(("Intel", 6, m, m, "Ice Lake") for m in (106, 108, 125, 126)),
    *(("Intel", 6, m, m, "Tiger Lake") for m in (140, 141)),
    *(("Intel", 6, m, m, "Alder Lake") for m in (151, 154)),
    *(("Intel", 6, m, m, "Raptor Lake") for m in (183, 186, 191)),
    *(("Intel", 6, m, m, "Sapphire Rapids") for m in (143, 207)),
    *(("Intel", 6, m, m, "Granite Rapids") for m in (173, 174)),
)


def chip(cpu: str) -> str:
    """Its cores, from what `machine.cpu_name` says; the text itself where they are not known."""
    numbers = re.search(r"family (\d+), model (\d+)", cpu)
    if numbers:
        family, model = int(numbers[1]), int(numbers[2])
        for vendor, its_family, first, last, cores in _CORES:
            if vendor in cpu and family == its_family and first <= model <= last:
                return cores
    return cpu


def instructions(header: Mapping[str, Any]) -> str:
    """The instruction set that fastmlp used in a run, by the header of its result."""
    if "family" not in header["cpu"]:  # not x86-64, whose build is called base as well
        return "native"
    return INSTRUCTIONS[header["kernels"]]


def column(header: Mapping[str, Any]) -> str:
    """What a run stands under: its chip, and what it was held to."""
    held_to = header.get("held_to")
    name = chip(header["cpu"])
    return f"{name}, held to {TITLES[held_to]}" if held_to else name


def slug(cpu: str, held_to: str | None) -> str:
    """The folder of such results: zen4, zen4_avx2."""
    words = re.findall(r"[a-z0-9]+", chip(cpu).lower().replace("zen ", "zen"))
    return "_".join([*words, *([held_to] if held_to else [])])


def known_kernels() -> list[str]:
    """The kernels of fastmlp that this machine can be held to, the widest first."""
    from peak import machine_sets

    if platform.machine() not in ("x86_64", "AMD64"):
        return ["base"]
    here = {s.name for s in machine_sets()}
    return [k for k, name in INSTRUCTIONS.items() if name in here or k == "base"]


def hold_to(kernels: str | None) -> None:
    """Hold this process's children to these kernels, and peers to the same instructions."""
    if kernels is None or kernels == known_kernels()[0]:
        os.environ.pop(VARIABLE, None)  # the widest: nobody is held to anything
    else:
        os.environ[VARIABLE] = kernels


def held_to() -> str | None:
    """The instruction set that this process is held to; None for all that the machine has."""
    return INSTRUCTIONS.get(os.environ.get(VARIABLE, ""))


def holding(kernels: str | None = None) -> dict[str, str]:
    """The environment of a process held to `kernels`, by default to what this one is held to."""
    kernels = kernels or os.environ.get(VARIABLE)
    return {} if not kernels else {"FASTMLP_KERNELS": kernels, **_PEERS[kernels]}
