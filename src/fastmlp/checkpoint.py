"""Model files: safetensors layout, written by files.py.

Eight bytes of header length, a JSON header, then the tensors. Everything that is no tensor stands
as JSON text in the header's `__metadata__`: the layers, the optimizer and how far training has
come, the user's own data, and a SHA-256 of the whole file with the checksum's own digits as zeros.
Nothing is ever executed.
"""

import dataclasses
import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError
from .files import write_safely
from .layers import LAYERS, Layer, check_dtype
from .layout import plan
from .losses import Loss
from .losses import from_config as loss_from_config
from .metrics import METRICS
from .optimizers import from_config
from .schedules import Schedule

if TYPE_CHECKING:
    from .network import Sequential

FORMAT, VERSION = "fastmlp", "1"
_NO_CHECKSUM = "0" * 64
_MAX_HEADER = 16 * 2**20
_MAX_ENTRIES = 20_000
_DTYPE_NAMES = {"float32": "F32", "float64": "F64"}
_PROGRESS = ("t", "updates", "epoch", "position", "passes", "schedule_start", "n_averaged")
_AVERAGE_STATS = "average.stats"
_LATER = {"schedule_start": 0, "n_averaged": 0, "running": (0.0, 0.0)}  # absent in older files


# ---- write ---------------------------------------------------------------------------------------


def save(net: "Sequential", path: str | os.PathLike[str], metadata: dict[str, Any]) -> None:
    """See Sequential.save."""
    write_safely(Path(path), to_bytes(net, metadata))


def to_bytes(net: "Sequential", metadata: dict[str, Any], holds_schedule: bool = True) -> bytes:
    """The contents of a model file; of a schedule only the highest rate unless `holds_schedule`."""
    with net.executor.turns.reading:  # not in the middle of another thread's step
        return _to_bytes(net, metadata, holds_schedule)


def _to_bytes(net: "Sequential", metadata: dict[str, Any], holds_schedule: bool) -> bytes:
    tensors = dict(_tensors(net))
    header: dict[str, Any] = {"__metadata__": _metadata(net, metadata, holds_schedule)}
    offset = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": _DTYPE_NAMES[net.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    little = net.dtype.newbyteorder("<")
    data = b"".join(array.astype(little, copy=False).tobytes() for array in tensors.values())
    content = struct.pack("<Q", len(text)) + text + data
    digest = hashlib.sha256(content).hexdigest().encode()
    return content.replace(_NO_CHECKSUM.encode(), digest, 1)


def _tensors(net: "Sequential") -> Iterator[tuple[str, NDArray[Any]]]:
    for index, layer in enumerate(net.layers):
        for path, leaf in layer.named_leaves(f"layers.{index}"):
            for name, array in leaf.arrays().items():
                yield f"{path}.{name}", array
    for index, array in enumerate(net.state or ()):
        yield f"optimizer.state{index}", array
    if net.average is not None:
        yield "optimizer.average", net.average
    if net.average_stats is not None and net.average_stats[0] == net.step:
        yield _AVERAGE_STATS, net.average_stats[1]


def _metadata(net: "Sequential", user: dict[str, Any], holds_schedule: bool) -> dict[str, str]:
    context, optimizer = net.executor.context, net.optimizer
    if optimizer is not None and isinstance(optimizer.lr, Schedule) and not holds_schedule:
        optimizer = dataclasses.replace(optimizer, lr=optimizer.lr.lr)
    layers = [{"type": type(layer).__name__, **layer.config()} for layer in net.layers]
    training = {
        "loss": net.loss.config() if isinstance(net.loss, Loss) else net.loss,
        "optimizer": optimizer and optimizer.config(),
        "running": context.running,
        "metrics": [metric for metric in net.metrics or () if isinstance(metric, str)],
        "interrupted_batches": net.interrupted_batches,
        **{name: getattr(context, name) for name in _PROGRESS},
    }
    network = {"layers": layers, "n_in": net.n_in, "seed": net.seed, "dtype": net.dtype.name}
    if net.known_names is not None:
        network["feature_names"] = net.known_names
    if not isinstance(user, dict):
        raise TypeError(f"metadata must be a dict, not {type(user).__name__}")
    return {
        "checksum": _NO_CHECKSUM,
        "format": FORMAT,
        "version": VERSION,
        "network": json.dumps(network),
        "training": json.dumps(training),
        "user": json.dumps(user),
    }


# ---- read ----------------------------------------------------------------------------------------


def load(cls: type["Sequential"], path: str | os.PathLike[str]) -> "Sequential":
    """See Sequential.load."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        return from_bytes(cls, content)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from None


def from_bytes(cls: type["Sequential"], content: bytes) -> "Sequential":
    """The network in the contents of a model file; CheckpointError for anything else."""
    try:
        header, first = _read_header(content)
        return _restore(cls, header, memoryview(content)[first:])
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # whatever a hostile header leads to: nothing has been done yet
        raise CheckpointError(f"the model file contradicts itself ({error})") from None


def _read_header(content: bytes) -> tuple[dict[str, Any], int]:
    """The checked header and where the data begin."""
    if len(content) < 8:
        raise CheckpointError("this is no model file: it is shorter than its header")
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(_MAX_HEADER, len(content) - 8):
        raise CheckpointError("this is no model file, or it was cut short: its header does not fit")
    try:
        header = json.loads(content[8 : 8 + length])
        meta = header["__metadata__"]
        if meta["format"] != FORMAT:
            raise KeyError
        version, checksum = str(meta["version"]), str(meta["checksum"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError("this is no fastmlp model file") from None
    if version != VERSION:
        raise CheckpointError(f"the file has version {version}; this fastmlp reads {VERSION}")
    if len(header) > _MAX_ENTRIES or not all(isinstance(text, str) for text in meta.values()):
        raise CheckpointError("the model file is damaged: its header is malformed")
    if len(checksum) != len(_NO_CHECKSUM) or not checksum.isascii():
        raise CheckpointError("the model file is damaged: its checksum is malformed")
    blank = content[: 8 + length].replace(checksum.encode(), _NO_CHECKSUM.encode(), 1)
    digest = hashlib.sha256(blank)
    digest.update(memoryview(content)[8 + length :])
    if digest.hexdigest() != checksum:
        raise CheckpointError("the model file is damaged: its checksum does not match")
    return header, 8 + length


def _restore(cls: type["Sequential"], header: dict[str, Any], data: memoryview) -> "Sequential":
    meta = header.pop("__metadata__")
    network, training = json.loads(meta["network"]), _LATER | json.loads(meta["training"])
    layers = [_layer(dict(config)) for config in network["layers"]]
    dtype = check_dtype(network["dtype"])
    layout = plan(layers, network["n_in"], dtype)
    states = sum(name.startswith("optimizer.") for name in header)
    size = layout.n_params * (1 + states) + layout.n_stats * (1 + (_AVERAGE_STATS in header))
    if size * dtype.itemsize != len(data):  # before any memory is taken
        raise CheckpointError("the model file is damaged: layers and data differ in size")
    net = cls._make(layers, network["seed"], dtype, network["n_in"])
    net.metadata = dict(json.loads(meta["user"]))
    net.known_names = _names(network.get("feature_names"), net.n_in)
    if training["optimizer"] is not None:
        net.use_optimizer(from_config(training["optimizer"]))
    if _AVERAGE_STATS in header:
        net.average_stats = net.step, np.empty_like(net.stats)
    _fill(net, header, data)
    net.loss = loss_from_config(training["loss"])
    net.metrics = tuple(map(str, training["metrics"])) or None
    if not METRICS.keys() >= set(training["metrics"]):
        raise CheckpointError("the model file is damaged: there is a metric that nobody knows")
    for name in _PROGRESS:
        if not 0 <= int(training[name]) < 2**62:
            raise CheckpointError(f"the model file is damaged: {name} is out of range")
        setattr(net.executor.context, name, int(training[name]))
    if net.average_stats is not None:
        net.average_stats = net.step, net.average_stats[1]
    _restore_pass(net, training["interrupted_batches"])
    first, second = map(float, training["running"])
    if not (math.isfinite(first) and math.isfinite(second)):
        raise CheckpointError("the model file is damaged: running is out of range")
    net.executor.context.running = (first, second)
    return net


def _names(names: Any, n_in: int) -> list[str] | None:
    """Those of the columns, in files of networks that have seen some."""
    if names is None:
        return None
    if (
        not isinstance(names, list)
        or len(names) != n_in
        or not all(isinstance(name, str) for name in names)
    ):
        raise CheckpointError("the model file is damaged: its names are not those of n_in columns")
    return list(names)


def _restore_pass(net: "Sequential", batches: Any) -> None:
    """Where in a pass training was interrupted; older files do not say in which, so it begins
    anew.
    """
    context = net.executor.context
    if batches is None or len(batches) != 4:
        context.position = 0
        return
    rows, batch_size, shuffle, checksum = map(int, batches)
    if not 0 <= context.position < rows or batch_size < 1 or context.position % batch_size:
        raise CheckpointError("the model file is damaged: position is out of range")
    net.interrupted_batches = rows, batch_size, bool(shuffle), checksum


def _layer(config: dict[str, Any]) -> Layer:
    kind = LAYERS[config.pop("type")]
    if "layers" in config:
        config["layers"] = [_layer(dict(inside)) for inside in config["layers"]]
    return kind(**config)


def _fill(net: "Sequential", header: dict[str, Any], data: memoryview) -> None:
    """Copy every tensor to its place; each must be there, of the right shape, and all of the data
    used.
    """
    dtype, used = net.dtype, 0
    places = dict(_tensors(net))
    if places.keys() != header.keys():
        raise CheckpointError("the model file is damaged: its tensors are not those of its layers")
    for name, place in places.items():
        entry = header[name]
        begin, end = (int(offset) for offset in entry["data_offsets"])
        expected = (_DTYPE_NAMES[dtype.name], list(place.shape), used, used + place.nbytes)
        if (entry["dtype"], entry["shape"], begin, end) != expected:
            raise CheckpointError(f"the model file is damaged: tensor {name} is malformed")
        place[...] = np.frombuffer(data[begin:end], dtype.newbyteorder("<")).reshape(place.shape)
        used = end
