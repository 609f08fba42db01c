"""Model files in the safetensors layout.

A file is eight bytes of header length, a JSON header, then the tensors. Everything else is JSON
text in the header's `__metadata__`: the layers, the optimizer and the progress of training, the
user's own data, and a SHA-256 of the whole file. The checksum's own digits count as zeros in it.
Nothing is ever executed. model_header.py reads the header and contains the limits; atomic.py writes
the file.
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from ..engine.plan import Layout, plan
from ..ground.arrays import Array
from ..ground.errors import CheckpointError
from ..layers import LAYERS, Activation, Layer, check_dtype
from ..losses import Loss
from ..losses import from_config as loss_from_config
from ..metrics import METRICS
from ..network.network import Network
from ..optimizers import Optimizer, from_config
from ..schedules import Schedule
from .atomic import open_regular, write_safely
from .model_header import (
    FORMAT,
    NO_CHECKSUM,
    VERSION,
    Memory,
    check_header,
    read_header,
    size_of,
)

N = TypeVar("N", bound=Network)

_MAX_OPS = 4096  # the limit of C, checked here before any layer is made
_DTYPE_NAMES = {"float32": "F32", "float64": "F64"}
_PROGRESS = ("t", "updates", "epoch", "position", "passes", "schedule_start", "n_averaged")
_OF_OPTIMIZER = ("t", "schedule_start", "n_averaged")  # reset if no optimizer state is saved
_AVERAGE_STATS = "average.stats"
_LATER = {  # defaults of entries that older files do not have
    "schedule_start": 0, "n_averaged": 0, "running": (0.0, 0.0), "holds_state": True,
}  # fmt: skip
_LONGEST_ERROR = 300  # characters


# ---- write ---------------------------------------------------------------------------------------


def save(
    net: Network, path: str | os.PathLike[str], metadata: dict[str, Any], optimizer: bool
) -> None:
    """See Sequential.save."""
    with net._engine.turns.reading:  # wait for the end of another thread's step
        content = _to_bytes(net, metadata, True, optimizer, is_file=True)
    write_safely(Path(path), content)


def to_bytes(net: Network, metadata: dict[str, Any], holds_schedule: bool = True) -> bytes:
    """Return the contents of a model file.

    Unless `holds_schedule`, a schedule is replaced by its highest learning rate.
    """
    with net._engine.turns.reading:
        return _to_bytes(net, metadata, holds_schedule)


def _to_bytes(
    net: Network,
    metadata: dict[str, Any],
    holds_schedule: bool,
    holds_state: bool = True,
    is_file: bool = False,
) -> bytes:
    holds_state = holds_state and net._state is not None
    tensors = {name: net._as_saved(array) for name, array in _tensors(net, holds_state)}
    header: dict[str, Any] = {"__metadata__": _metadata(net, metadata, holds_schedule, holds_state)}
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
    if is_file:
        _check_readable(text, 8 + len(text) + offset)
    little = net.dtype.newbyteorder("<")
    data = [array.astype(little, copy=False).tobytes() for array in tensors.values()]
    length = struct.pack("<Q", len(text))
    digest = hashlib.sha256(length + text)
    for part in data:
        digest.update(part)
    text = text.replace(NO_CHECKSUM.encode(), digest.hexdigest().encode(), 1)
    return b"".join([length, text, *data])


def _check_readable(text: bytes, size: int) -> None:
    """Raise ValueError for a header that `load` would refuse, so that no network is lost."""
    try:
        header, memory = check_header(text, size)
        Description(header["__metadata__"], memory)
    except CheckpointError as error:
        raise ValueError(f"this network cannot be saved: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "this network cannot be saved, for it holds what fastmlp could not read back "
            f"({_shown(error)}): a layer, loss, optimizer or metric of a class of its own, for "
            "instance; pickle keeps such"
        ) from None


def _tensors(net: Network, holds_state: bool = True) -> Iterator[tuple[str, Array]]:
    for index, layer in enumerate(net.layers):
        for path, leaf in layer.named_leaves(f"layers.{index}"):
            for name, array in leaf.arrays().items():
                yield f"{path}.{name}", array
    if not holds_state:
        return
    for index, array in enumerate(net._state or ()):
        yield f"optimizer.state{index}", array
    if net._average is not None:
        yield "optimizer.average", net._average
    if net._average_stats is not None and net._average_stats[0] == net.step:
        yield _AVERAGE_STATS, net._average_stats[1]


def _metadata(
    net: Network, user: dict[str, Any], holds_schedule: bool, holds_state: bool
) -> dict[str, str]:
    context, optimizer = net._engine.context, net.optimizer
    if optimizer is not None and isinstance(optimizer.lr, Schedule) and not holds_schedule:
        optimizer = dataclasses.replace(optimizer, lr=optimizer.lr.lr)
    layers = [{"type": type(layer).__name__, **layer.config()} for layer in net.layers]
    training = {
        "loss": net.loss.config() if isinstance(net.loss, Loss) else net.loss,
        "optimizer": optimizer and optimizer.config(),
        "running": context.running,
        "metrics": [metric for metric in net.metrics or () if isinstance(metric, str)],
        "interrupted_batches": net._unfinished_batches,
        **{name: getattr(context, name) for name in _PROGRESS},
    }
    network = {"layers": layers, "n_in": net.n_in, "seed": net.seed, "dtype": net.dtype.name}
    if net._known_names is not None:
        network["feature_names"] = net._known_names
    if optimizer is not None and not holds_state:
        training |= dict.fromkeys(_OF_OPTIMIZER, 0)
        training |= {"running": (0.0, 0.0), "holds_state": False}
    if not isinstance(user, dict):
        raise TypeError(f"metadata must be a dict, not {type(user).__name__}")
    try:
        own = json.dumps(user)
    except RecursionError:
        raise ValueError("metadata are nested too deep for a file; flatten them") from None
    return {
        "checksum": NO_CHECKSUM,
        "format": FORMAT,
        "version": VERSION,
        "network": json.dumps(network),
        "training": json.dumps(training),
        "user": own,
    }


# ---- read ----------------------------------------------------------------------------------------


def load(cls: type[N], path: str | os.PathLike[str]) -> N:
    """See Sequential.load."""
    try:
        with open_regular(path) as file:
            return _read(cls, file, is_shared=True)
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(path)}: {error}") from None


def from_bytes(cls: type[N], content: bytes) -> N:
    """Return the network in the contents of a model file, or raise CheckpointError."""
    return _read(cls, io.BytesIO(content), is_shared=False)


def _read(cls: type[N], file: BinaryIO, is_shared: bool) -> N:
    """Read a network; `is_shared` says that other processes may write to the file meanwhile."""
    size = 0
    try:
        size = size_of(file)
        header, memory, digest = read_header(file, size)
        checksum = header["__metadata__"]["checksum"]
        net = _restore(cls, header, memory, file, size)
        if is_shared:
            little = net.dtype.newbyteorder("<")
            for _, array in _tensors(net):
                digest.update(_bytes_of(array.astype(little, copy=False)))
            if digest.hexdigest() != checksum:
                raise CheckpointError("another process changed the file while it was read")
        return net
    except (CheckpointError, OSError):
        raise
    except MemoryError:
        raise CheckpointError(
            f"there is not enough memory for this model; its file has {size:,} bytes"
        ) from None
    except Exception as error:  # a hostile header may cause any; nothing is made yet
        raise CheckpointError(f"the model file contradicts itself ({_shown(error)})") from None


def _shown(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= _LONGEST_ERROR else text[:_LONGEST_ERROR] + " ..."


class Description:
    """The checked metadata of a file: everything of a network except its numbers."""

    def __init__(self, meta: dict[str, str], memory: Memory) -> None:
        network = memory.parse(meta["network"], copies=4)
        training = _LATER | memory.parse(meta["training"], copies=4)
        self.user = dict(memory.parse(meta["user"]))
        _check_number_of_layers(network["layers"])
        self.layers = [_layer(dict(config)) for config in network["layers"]]
        self.dtype, self.seed = check_dtype(network["dtype"]), network["seed"]
        self.layout: Layout = plan(self.layers, network["n_in"], self.dtype)
        self.n_in = self.layout.n_in
        self.names = _names(network.get("feature_names"), self.n_in)
        config = training["optimizer"]
        self.optimizer: Optimizer | None = None if config is None else from_config(config)
        self.holds_state = self.optimizer is not None and training["holds_state"] is not False
        self.loss = loss_from_config(training["loss"])
        self.metrics = tuple(map(str, training["metrics"])) or None
        if not METRICS.keys() >= set(training["metrics"]):
            raise CheckpointError("the model file is damaged: there is a metric that nobody knows")
        self.progress = {name: int(training[name]) for name in _PROGRESS}
        for name, value in self.progress.items():
            if not 0 <= value < 2**62:
                raise CheckpointError(f"the model file is damaged: {name} is out of range")
        first, second = map(float, training["running"])
        if not (math.isfinite(first) and math.isfinite(second)):
            raise CheckpointError("the model file is damaged: running is out of range")
        self.running = first, second
        self.batches = self._batches(training["interrupted_batches"])

    def _batches(self, batches: Any) -> tuple[int, int, bool, int] | None:
        """Return the batches of an interrupted pass.

        Older files do not describe the pass, so for them it begins again.
        """
        position = self.progress["position"]
        if batches is None or len(batches) != 4:
            self.progress["position"] = 0
            return None
        rows, batch_size, shuffle, checksum = map(int, batches)
        if not 0 <= position < rows or batch_size < 1 or position % batch_size:
            raise CheckpointError("the model file is damaged: position is out of range")
        return rows, batch_size, bool(shuffle), checksum


def _restore(cls: type[N], header: dict[str, Any], memory: Memory, file: BinaryIO, size: int) -> N:
    what = Description(header.pop("__metadata__"), memory)
    layout, dtype = what.layout, what.dtype
    states = sum(name.startswith("optimizer.") for name in header)
    n = layout.n_params * (1 + states) + layout.n_stats * (1 + (_AVERAGE_STATS in header))
    if n * dtype.itemsize != size - file.tell():  # before any memory is allocated
        raise CheckpointError("the model file is damaged: layers and data differ in size")
    net = cls._make(what.layers, what.seed, dtype, what.n_in, draws=False)
    net.metadata = what.user
    net._known_names = what.names
    if what.holds_state and what.optimizer is not None:
        net.use_optimizer(what.optimizer)
    elif what.optimizer is not None:
        net._remember_optimizer(what.optimizer)
    if _AVERAGE_STATS in header:
        net._average_stats = net.step, np.empty_like(net.stats)
    _fill(net, header, file)
    net.loss, net.metrics = what.loss, what.metrics
    for name, value in what.progress.items():
        setattr(net._engine.context, name, value)
    if net._average_stats is not None:
        net._average_stats = net.step, net._average_stats[1]
    net._unfinished_batches = what.batches
    net._engine.context.running = what.running
    return net


def _names(names: Any, n_in: int) -> list[str] | None:
    """Return the column names, or None if the network was not trained on a frame with names."""
    if names is None:
        return None
    if (
        not isinstance(names, list)
        or len(names) != n_in
        or not all(isinstance(name, str) for name in names)
    ):
        raise CheckpointError("the model file is damaged: its names are not those of n_in columns")
    return list(names)


def _check_number_of_layers(configs: Any) -> None:
    """Check the number of ops before any layer is made.

    C takes 4,096 ops, and an activation may be part of another op.
    """
    n_ops, n_activations = 0, 0
    waiting = [configs]
    while waiting:
        for config in waiting.pop():
            kind = LAYERS[config["type"]]
            n_activations += issubclass(kind, Activation)
            n_ops += not issubclass(kind, Activation)
            if "layers" in config:
                n_ops += 1  # a block has two ends
                waiting.append(config["layers"])
        if n_ops > _MAX_OPS or n_activations > 2 * _MAX_OPS:
            raise CheckpointError(f"there are more layers than the {_MAX_OPS:,} of a network")


def _layer(config: dict[str, Any]) -> Layer:
    kind = LAYERS[config.pop("type")]
    if "layers" in config:
        config["layers"] = [_layer(dict(inside)) for inside in config["layers"]]
    return kind(**config)


def _fill(net: Network, header: dict[str, Any], file: BinaryIO) -> None:
    """Read every tensor into its array.

    Each tensor must exist with the right shape, and together they must use all of the data.
    """
    used = 0
    places = dict(_tensors(net))
    if places.keys() != header.keys():
        raise CheckpointError("the model file is damaged: its tensors are not those of its layers")
    for name, place in places.items():
        entry = header[name]
        begin, end = (int(offset) for offset in entry["data_offsets"])
        expected = (_DTYPE_NAMES[net.dtype.name], list(place.shape), used, used + place.nbytes)
        if (entry["dtype"], entry["shape"], begin, end) != expected:
            raise CheckpointError(f"the model file is damaged: tensor {name} is malformed")
        _read_into(file, place)
        used = end


def _read_into(file: BinaryIO, place: Array) -> None:
    rest = _bytes_of(place)
    while rest:
        n = file.readinto(rest)  # type: ignore[attr-defined]
        if not n:
            raise CheckpointError("another process cut the file short while it was read")
        rest = rest[n:]
    if sys.byteorder == "big":
        place.byteswap(inplace=True)


def _bytes_of(array: Array) -> memoryview:
    """Return the bytes of a contiguous array; all arrays of a file are contiguous."""
    return array.data.cast("B")
