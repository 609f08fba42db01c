"""Model files: exact resume, crash-safe writing, and what a damaged or hostile file may do."""

import copy
import dataclasses
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers import AROUND, LOSSES, OPTIMIZERS, digest, everything, targets
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import SGD, Adam, CheckpointError, Dropout, LeakyReLU, Linear, Sequential, layers
from fastmlp.files import model_file as checkpoint

CASES = OPTIMIZERS | AROUND
rng = np.random.default_rng(0)
X = rng.standard_normal((150, 6)).astype(np.float32)
Y = rng.integers(0, 4, 150)


def make(dtype="float32"):
    parts = [
        Linear(6, 12, init="orthogonal"),
        LeakyReLU(0.2),
        Dropout(0.3),
        Linear(12, 4, bias=False),
    ]
    return Sequential(parts, seed=3, dtype=dtype)


@pytest.mark.filterwarnings("ignore:.*has ended")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", CASES.values(), ids=CASES)
def test_a_loaded_network_goes_on_with_the_same_bits(tmp_path, optimizer, dtype):
    path = tmp_path / "model.safetensors"
    undisturbed, saved = make(dtype), make(dtype)
    how = {"loss": "cross_entropy", "optimizer": optimizer, "batch_size": 32}
    undisturbed.fit(X, Y, epochs=7, **how)
    saved.fit(X, Y, epochs=3, metrics=["accuracy"], **how)
    saved.save(path, metadata={"who": "test", "classes": ["a", "ü"]})
    loaded = Sequential.load(path)
    assert loaded.metadata == {"who": "test", "classes": ["a", "ü"]}
    assert repr(loaded) == repr(saved)
    assert loaded.optimizer == optimizer
    assert loaded.evaluate(X, Y) == saved.evaluate(X, Y)
    assert loaded.predict_proba(X).tobytes() == saved.predict_proba(X).tobytes()
    loaded.fit(X, Y, epochs=4, batch_size=32)  # loss and optimizer come out of the file
    assert digest(*everything(loaded)) == digest(*everything(undisturbed))
    assert (loaded.epoch, loaded.step) == (undisturbed.epoch, undisturbed.step)


def test_files_of_before_schedules_and_averages_are_read():
    def age(header, parts):
        for name in ("schedule_start", "n_averaged", "running"):
            del parts["training"][name]
        for name in ("l1", "l2", "clip_norm", "clip_value", "max_norm", "weight_average"):
            del parts["training"]["optimizer"][name]

    loaded = checkpoint.from_bytes(Sequential, forge(age))
    assert loaded.optimizer == Adam()
    loaded.fit(X, Y, epochs=1)


def test_every_layer_comes_back(tmp_path):
    for name, cls in layers.LAYERS.items():
        if name == "Standardize":
            inside = [cls().adapt(X), Linear(6, 5)]
        elif name == "Residual":
            inside = [Linear(6, 5), cls([fastmlp.BatchNorm(), cls([Linear(5)])])]
        elif name == "GLU":
            inside = [Linear(6, 10), cls()]
        else:
            inside = [Linear(6, 5)] + ([cls()] if name != "Linear" else [])
        net = Sequential([*inside, Linear(5, 2)], seed=1)
        net.forward(X, training=True)  # running statistics that are not those of a new network
        net.save(tmp_path / name)
        loaded = Sequential.load(tmp_path / name)
        assert loaded.predict(X).tobytes() == net.predict(X).tobytes()
        assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in net.layers]
        assert loaded.stats.tobytes() == net.stats.tobytes()


@pytest.mark.parametrize("case", LOSSES)
def test_every_loss_comes_back(case):
    net = Sequential([Linear(6, 12)], dtype="float64")
    y = targets(case, 150, 12)
    net.fit(X, y, loss=LOSSES[case], epochs=1)
    loaded = checkpoint.from_bytes(Sequential, file_of(net))
    assert loaded.loss == LOSSES[case]
    assert loaded.evaluate(X, y) == net.evaluate(X, y)
    assert loaded.predict_response(X).tobytes() == net.predict_response(X).tobytes()
    for other in (net, loaded):
        other.fit(X, y, epochs=1)
    assert loaded.params.tobytes() == net.params.tobytes()


def test_a_name_comes_back_as_a_name():
    net = Sequential([Linear(6, 4)])
    net.fit(X, Y, loss="cross_entropy", epochs=1)
    assert checkpoint.from_bytes(Sequential, file_of(net)).loss == net.loss == "cross_entropy"


def test_copies_and_pickles_are_independent():
    net = make()
    net.fit(X, Y, epochs=2)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.params.tobytes() == net.params.tobytes()
        other.fit(X, Y, epochs=1)
        assert other.params.tobytes() != net.params.tobytes()


def test_others_can_read_the_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    net = make()
    net.fit(X, Y, epochs=1)
    net.save(tmp_path / "m")
    tensors = safetensors.load_file(tmp_path / "m")
    assert np.array_equal(tensors["layers.0.weight"], net.layers[0].weight)
    assert tensors["layers.3.weight"].shape == (12, 4)
    assert "layers.3.bias" not in tensors


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    net = make()
    net.save(path)
    old = path.read_bytes()
    net.fit(X, Y, epochs=1)
    for call in ("fsync", "replace", "fchmod"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(OSError, match="disk"):
                net.save(path)
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["m"]
    with pytest.raises(TypeError):
        net.save(path, metadata={"not": {"json", "able"}})
    assert path.read_bytes() == old


def fail(*args, **kwargs):
    raise OSError("disk full")


def test_mode_and_links(tmp_path):
    net, path = make(), tmp_path / "m"
    umask = os.umask(0o027)
    try:
        net.save(path)
        assert path.stat().st_mode & 0o777 == 0o640
        (tmp_path / "link").symlink_to("m")
        for mode in (0o600, 0o666, 0o444):
            path.chmod(mode)
            net.save(tmp_path / "link")
            assert path.stat().st_mode & 0o777 == mode
    finally:
        os.umask(umask)
    assert (tmp_path / "link").is_symlink()
    assert {file.name for file in tmp_path.iterdir()} == {"link", "m"}


def test_a_file_that_others_must_not_read_is_never_open_to_them(tmp_path, monkeypatch):
    net, path = make(), tmp_path / "m"
    net.save(path)
    path.chmod(0o600)
    modes = []
    replaced = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda n: (modes.append(os.fstat(n).st_mode & 0o777), replaced(n))
    )
    opened = os.open
    monkeypatch.setattr(
        os, "open", lambda p, f, mode=0: (modes.append(mode), opened(p, f, mode))[1]
    )
    net.save(path)
    assert modes[:2] == [0o600, 0o600]


def test_odd_names(tmp_path):
    net = make()
    for name in ("m[1]*?", "m" * 255, "\u00e4" * 127):
        net.save(tmp_path / name)
        assert Sequential.load(tmp_path / name).n_params == net.n_params


def test_what_is_no_regular_file_is_written_to_not_replaced(tmp_path):
    net, pipe = make(), tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    net.save(pipe)
    reader.join(10)
    assert received == [checkpoint.to_bytes(net, {})]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    if os.geteuid() != 0:  # a superuser could replace it
        net.save("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("into", ["file", "pipe"])
def test_standard_output_by_its_name(tmp_path, name, into):
    if name.startswith("/") and not os.path.exists(name):
        pytest.skip(f"there is no {name} here")
    (tmp_path / "link").symlink_to("/dev/stdout")
    script = (
        "import sys; from pathlib import Path; from fastmlp.files.atomic import write_safely\n"
        "print('before')\nwrite_safely(Path(sys.argv[1]), b'content\\n')\nprint('after')"
    )
    command = [sys.executable, "-c", script, name]
    log = tmp_path / "log"
    if into == "pipe":
        log.write_bytes(subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE).stdout)
    else:
        with open(log, "wb") as file:
            file.write(b"earlier\n")
            file.flush()
            subprocess.run(command, cwd=tmp_path, stdout=file)
    earlier = "earlier\n" if into == "file" else ""
    assert log.read_text() == earlier + "before\ncontent\nafter\n"
    assert {path.name for path in tmp_path.iterdir()} == {"link", "log"}


# ---- damaged and hostile files -------------------------------------------------------------------


def file_of(net):
    return checkpoint.to_bytes(net, {})


def trained():
    net = make()
    net.fit(X, Y, epochs=1)
    return net


GOOD = file_of(trained())


@settings(max_examples=300)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position, change):
    bad = bytearray(GOOD)
    bad[position] ^= change
    with pytest.raises(CheckpointError):
        checkpoint.from_bytes(Sequential, bytes(bad))


@settings(max_examples=100)
@given(st.integers(0, len(GOOD) - 1))
def test_any_cut_is_noticed(length):
    with pytest.raises(CheckpointError):
        checkpoint.from_bytes(Sequential, GOOD[:length])


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_rubbish_is_refused(content):
    with pytest.raises(CheckpointError):
        checkpoint.from_bytes(Sequential, content)


def forge(change):
    """A file with a changed header and a checksum that is right: only its meaning is hostile."""
    (length,) = struct.unpack("<Q", GOOD[:8])
    header = json.loads(GOOD[8 : 8 + length])
    meta = header["__metadata__"]
    parts = {name: json.loads(meta[name]) for name in ("network", "training", "user")}
    change(header, parts)
    meta |= {name: json.dumps(part) for name, part in parts.items()}
    meta["checksum"] = "0" * 64
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + GOOD[8 + length :]
    import hashlib

    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


HOSTILE = {
    "huge layer": lambda h, p: p["network"]["layers"].__setitem__(
        0, {"type": "Linear", "n_in": 2**31 - 1, "n_out": 2**31 - 1}
    ),
    "unknown layer": lambda h, p: p["network"]["layers"].__setitem__(0, {"type": "os.system"}),
    "no layers": lambda h, p: p["network"].__setitem__("layers", []),
    "layers of text": lambda h, p: p["network"].__setitem__("layers", "Linear"),
    "unknown argument": lambda h, p: p["network"]["layers"][0].__setitem__("evil", 1),
    "width": lambda h, p: p["network"].__setitem__("n_in", 7),
    "dtype": lambda h, p: p["network"].__setitem__("dtype", "float16"),
    "seed": lambda h, p: p["network"].__setitem__("seed", -1),
    "loss": lambda h, p: p["training"].__setitem__("loss", "evil"),
    **{
        f"loss {i}": lambda h, p, bad=bad: p["training"].__setitem__("loss", bad)
        for i, bad in enumerate(
            [
                3,
                [],
                {},
                {"name": "evil"},
                {"name": ["huber"]},
                {"name": "huber", "evil": 1},
                {"name": "huber", "delta": -1},
                {"name": "huber", "delta": "1"},
                {"name": "huber", "delta": None},
                {"name": "pinball", "quantiles": [0.9, 0.1]},
                {"name": "pinball", "quantiles": [[0.1], [0.9]]},
                {"name": "pinball", "quantiles": {"0.5": 1}},
                {"name": "focal", "gamma": 1e300},
                {"name": "squared_error", "reduction": "none"},
                {"name": "squared_error", "reduction": ["sum"]},
                {"name": "custom"},
                {"name": "custom", "function": 3},
                {"name": "custom", "function": "f", "evil": 1},
            ]
        )
    },
    "optimizer": lambda h, p: p["training"]["optimizer"].__setitem__("name", "evil"),
    "rate": lambda h, p: p["training"]["optimizer"].__setitem__("lr", -1),
    "optimizer of more states": lambda h, p: p["training"]["optimizer"].update({"name": "amsgrad"}),
    "no optimizer": lambda h, p: p["training"].__setitem__("optimizer", None),
    "average that is not there": lambda h, p: p["training"]["optimizer"].__setitem__(
        "weight_average", {"type": "EMA", "decay": 0.5}
    ),
    "unknown schedule": lambda h, p: p["training"]["optimizer"].__setitem__(
        "lr", {"type": "os.system"}
    ),
    "running": lambda h, p: p["training"].__setitem__("running", [1.0, float("nan")]),
    "steps": lambda h, p: p["training"].__setitem__("t", -5),
    "position behind the end": lambda h, p: p["training"].update(
        position=150, interrupted_batches=[150, 128, True, 0]
    ),
    "position in a batch": lambda h, p: p["training"].update(
        position=37, interrupted_batches=[150, 128, True, 0]
    ),
    "batches of nothing": lambda h, p: p["training"].update(
        position=1, interrupted_batches=[150, 0, True, 0]
    ),
    "metric": lambda h, p: p["training"].__setitem__("metrics", ["bogus"]),
    "network of text": lambda h, p: p.__setitem__("network", "text"),
    "metadata": lambda h, p: p.__setitem__("user", [1]),
    "missing tensor": lambda h, p: h.pop("layers.0.bias"),
    "offsets": lambda h, p: h["layers.0.bias"].__setitem__("data_offsets", [0, 48]),
    "shape": lambda h, p: h["layers.0.bias"].__setitem__("shape", [3, 4]),
    "type": lambda h, p: h["layers.0.bias"].__setitem__("dtype", "F64"),
    "no numbers": lambda h, p: h["layers.0.bias"].__setitem__("data_offsets", ["a", None]),
    "version": lambda h, p: h["__metadata__"].__setitem__("version", "99"),
    "format": lambda h, p: h["__metadata__"].__setitem__("format", "pt"),
}


def test_the_forger_can_forge():
    loaded = checkpoint.from_bytes(Sequential, forge(lambda header, parts: None))
    assert loaded.epoch == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_raise_the_named_error(name):
    with pytest.raises(CheckpointError):
        checkpoint.from_bytes(Sequential, forge(HOSTILE[name]))


@pytest.mark.parametrize("checksum", ["\ud800" * 64, "\0" * 64, "ä" * 64])
def test_hostile_checksums_raise_the_named_error(checksum):
    meta = {"format": "fastmlp", "version": "1", "checksum": checksum}
    text = json.dumps({"__metadata__": meta}).encode()
    with pytest.raises(CheckpointError):
        checkpoint.from_bytes(Sequential, struct.pack("<Q", len(text)) + text)


def test_a_file_that_does_not_say_which_pass_was_interrupted_begins_one():
    for batches in (None, [150, 50]):
        content = forge(
            lambda h, p, b=batches: p["training"].update(position=50, interrupted_batches=b)
        )
        net = checkpoint.from_bytes(Sequential, content)
        assert net._engine.context.position == 0
        net.fit(X, Y, batch_size=50, epochs=1)
        assert net.epoch == 2


def test_load_names_the_file(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        Sequential.load(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError):
        Sequential.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        make().save(tmp_path / "no" / "folder")
    assert fastmlp.CheckpointError is CheckpointError


# ---- optimizers that are set, losses and schedules of the user's own ---------------------------


def squared(pred, target):
    return ((pred - target) ** 2).sum(axis=1), 2 * (pred - target)


@dataclasses.dataclass(frozen=True)
class Sawtooth(fastmlp.schedules.Schedule):
    every: int = 3

    def rate(self, step):
        return self.lr * (1 - step % self.every / self.every)


OWN_X, OWN_Y = np.random.default_rng(5).standard_normal((2, 60, 3)).astype(np.float32)


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), "lion", Adam(Sawtooth(0.01))])
def test_setting_the_optimizer_makes_its_state(optimizer, tmp_path):
    net = Sequential([Linear(3, 3)])
    net.fit(OWN_X, OWN_Y, epochs=1)
    net.optimizer = optimizer
    twin = Sequential([Linear(3, 3)])
    twin.fit(OWN_X, OWN_Y, epochs=1)
    twin.use_optimizer(fastmlp.optimizers.get_optimizer(optimizer))
    copies = [net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    if not isinstance(net.optimizer.lr, Sawtooth):
        net.save(tmp_path / "net")
        copies.append(Sequential.load(tmp_path / "net"))
    for one in (twin, *copies):
        assert one.optimizer == twin.optimizer
        one.fit(OWN_X, OWN_Y, epochs=2, batch_size=7)
    assert len({digest(*everything(one)) for one in (twin, *copies)}) == 1
    net.optimizer = None
    assert net._state is None
    for bad in (fastmlp.LBFGS(), 3, "lbfgs"):
        with pytest.raises((TypeError, ValueError), match="optimizer"):
            net.optimizer = bad
        with pytest.raises((TypeError, ValueError), match="optimizer"):
            net.use_optimizer(bad)


def test_a_copy_keeps_a_loss_of_the_user_s_own():
    net = Sequential([Linear(3, 3)])
    net.fit(OWN_X, OWN_Y, loss=squared, epochs=1)
    twin = copy.deepcopy(net)
    for one in (net, twin):
        one.fit(OWN_X, OWN_Y, epochs=1)
    assert digest(*everything(net)) == digest(*everything(twin))
    with pytest.raises(ValueError, match="pass it again: loss=squared"):
        pickle.loads(pickle.dumps(net)).fit(OWN_X, OWN_Y)


def test_the_loss_may_be_set_to_what_fit_takes():
    net = Sequential([Linear(3, 3)])
    for loss in ("huber", fastmlp.Huber(2.0), squared, None):
        net.loss = loss
        copy.deepcopy(net)
    with pytest.raises(ValueError, match="unknown"):
        net.loss = "hubr"
    with pytest.raises(TypeError):
        net.loss = 3


def test_a_file_that_got_the_number_of_a_closed_standard_output_is_replaced(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    script = (
        "import os, sys; from pathlib import Path\nfrom fastmlp.files.atomic import write_safely\n"
        "reader = open(sys.argv[1], 'rb')\nassert reader.fileno() == 1\n"
        "write_safely(Path(sys.argv[1]), b'new')\nassert reader.read() == b'old'"
    )
    command = ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == b"new"
