"""What a model file may hold and what it may cost: hostile files, limits that `save` and `load`
share, and what is no file at all.
"""

import dataclasses
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest

from fastmlp import Adam, CheckpointError, Linear, Pinball, ReLU, Sequential
from fastmlp.files import model_file as checkpoint

MB = 2**20
X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


def parts_of(net):
    """The header of a network's file with its parts parsed, and the data."""
    content = checkpoint.to_bytes(net, {})
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    meta = header["__metadata__"]
    return (
        header,
        {k: json.loads(meta[k]) for k in ("network", "training", "user")},
        content[8 + length :],
    )


def sealed(text, data=b""):
    """A file of a header's text, with the checksum that belongs to it."""
    content = struct.pack("<Q", len(text)) + text + data
    return content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode(), 1)


def forged(**texts):
    """A file whose checksum is right, with other texts for some parts of its metadata."""
    net = Sequential([Linear(3, 2)])
    net.fit(X, np.zeros((40, 2), np.float32), loss="squared_error", epochs=1)
    header, _, data = parts_of(net)
    header["__metadata__"] |= {"checksum": "0" * 64, **texts}
    return sealed(json.dumps(header).encode(), data)


def unsealed(text):
    return struct.pack("<Q", len(text)) + text


SEAL = b'{"__metadata__":{"checksum":"' + b"0" * 64 + b'","format":"fastmlp","version":"1"'
NETWORK = '{"layers":[%s],"n_in":3,"seed":0,"dtype":"float32"}'
PINBALL = json.dumps(
    parts_of(Sequential([Linear(3, 2)]))[1]["training"] | {"loss": "LOSS"}
).replace('"LOSS"', '{"name":"pinball","quantiles":[%s]}')
LAYER = '{"type":"ReLU"}'


def repeated(piece, megabytes):
    return piece * (int(megabytes * MB) // len(piece))


HOSTILE = {
    "lists, no checksum": lambda: unsealed(b'{"a":[' + repeated(b"[],", 15) + b"[]]}"),
    "lists": lambda: sealed(SEAL + b'},"a":[' + repeated(b"[],", 15) + b"[]]}"),
    "dictionaries": lambda: sealed(SEAL + b'},"a":[' + repeated(b"{},", 15) + b"{}]}"),
    "small numbers": lambda: sealed(SEAL + b'},"a":[' + repeated(b"300,", 15) + b"0]}"),
    "empty texts": lambda: sealed(SEAL + b'},"a":[' + repeated(b'"",', 15) + b"0]}"),
    "keys": lambda: sealed(
        SEAL + b"}," + b",".join(b'"%x":0' % i for i in range(1_500_000)) + b"}"
    ),
    "keys of the metadata": lambda: sealed(
        SEAL + b"," + b",".join(b'"%x":""' % i for i in range(1_200_000)) + b"}}"
    ),
    "depth": lambda: sealed(SEAL + b'},"a":' + b"[" * 7 * MB + b"]" * 7 * MB + b"}"),
    "depth of dictionaries": lambda: sealed(
        SEAL + b'},"a":' + repeated(b'{"a":', 8) + b"0" + repeated(b"}", 1) + b"}"
    ),
    "a letter outside the BMP": lambda: sealed(
        SEAL + b',"a":"' + b"a" * 15 * MB + b'\\ud83d\\ude00"}}'
    ),
    "its first letter outside the BMP": lambda: sealed(
        SEAL + b',"a":"\\uD83D\\uDE00' + b"a" * 15 * MB + b'"}}'
    ),
    "raw UTF-8": lambda: sealed(SEAL + b',"a":"' + "😀".encode() + b"a" * 15 * MB + b'"}}'),
    "a text that does not end": lambda: sealed(SEAL + b',"a":"' + repeated(b'\\"', 15)),
    "a text of escapes": lambda: sealed(SEAL + b',"a":"' + repeated(b"\\n", 15) + b'"}}'),
    "a text that ends with an escape": lambda: sealed(
        SEAL + b',"a":"' + repeated(b'\\"', 15) + b"\\"
    ),
    "blanks": lambda: sealed(SEAL + b"}" + b" " * 15 * MB + b"}"),
    "a long number": lambda: sealed(SEAL + b'},"a":0.' + b"1" * 15 * MB + b"}"),
    "a long whole number": lambda: sealed(SEAL + b'},"a":' + b"1" * 15 * MB + b"}"),
    "user: lists": lambda: forged(user='{"a":[' + repeated("[],", 15) + "[]]}"),
    "user: lists of one": lambda: forged(user='{"a":[' + repeated("[0],", 3) + "[]]}"),
    "user: keys": lambda: forged(user="{" + ",".join(f'"{i:x}":0' for i in range(120_000)) + "}"),
    "user: a letter": lambda: forged(user='{"a":"' + "a" * 15 * MB + '\\ud83d\\ude00"}'),
    "user: letters": lambda: forged(user='{"a":"' + repeated("\\u4e2d", 13) + '"}'),
    "user: a letter in many texts": lambda: forged(
        user='{"a":[' + repeated('"' + "a" * 800 + '\\ud83d\\ude00",', 10) + "0]}"
    ),
    "user: escaped backslashes": lambda: forged(
        user='{"a":"' + repeated("\\\\u", 13) + '\\ud83d\\ude00"}'
    ),
    "user: a long number": lambda: forged(user='{"a":0.' + "1" * 15 * MB + "}"),
    "network: lists": lambda: forged(network=NETWORK % (repeated("[],", 12) + "[]")),
    "network: a width of lists": lambda: forged(
        network=NETWORK % ('{"type":"Linear","n_in":3,"n_out":[' + repeated("7,", 4) + "2]}")
    ),
    "network: a type of text": lambda: forged(
        network=NETWORK % ('{"type":"' + "a" * 12 * MB + '"}')
    ),
    "layers": lambda: forged(network=NETWORK % (repeated(LAYER + ",", 1.5) + LAYER)),
    "layers in layers": lambda: forged(
        network=NETWORK % (repeated('{"type":"Residual","layers":[', 1) + repeated("]}", 0.1))
    ),
    "layers in one layer": lambda: forged(
        network=NETWORK
        % ('{"type":"Residual","layers":[' + repeated(LAYER + ",", 1) + LAYER + "]}")
    ),
    "layers that C refuses": lambda: forged(
        network=NETWORK % ",".join(['{"type":"Dropout"}'] * 5_000)
    ),
    "quantiles": lambda: forged(
        training=PINBALL % ",".join(f"{i / 700_001:.17f}" for i in range(1, 700_000))
    ),
    "fewer quantiles": lambda: forged(
        training=PINBALL % ",".join(f"{i / 90_001:.17f}" for i in range(90_000, 1, -1))
    ),
    "data that are not there": lambda: sealed(
        SEAL + b'},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,%d]}}' % 10**18
    ),
}
SMALL_IN_MEMORY = {"user: letters"}  # six characters of the file are two bytes
CHILD = """
import sys
from fastmlp import CheckpointError, Linear, Sequential
Sequential([Linear(3, 2)]).save("small")
Sequential.load("small")  # what the first load of all needs
def most():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
for name in sys.argv[1:]:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # VmHWM begins at what is in use
    before = most()
    try:
        Sequential.load(name)
        print("loaded", end=" ")
    except CheckpointError as error:
        assert len(str(error)) < 1000
        print("refused", end=" ")
    print(most() - before)
"""


def memory_of_loading(folder, *names):
    """[(word, bytes more than before)] for each file, in a process of its own."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs /proc/self/clear_refs")
    command = [sys.executable, "-c", CHILD, *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [(word, int(n)) for word, n in map(str.split, done.stdout.splitlines())]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_little_memory(name, tmp_path):
    content = HOSTILE[name]()
    (tmp_path / "h").write_bytes(content)
    ((word, used),) = memory_of_loading(tmp_path, "h")
    assert word == ("loaded" if name in SMALL_IN_MEMORY else "refused")
    assert used <= 2 * len(content) + 16 * MB


# ---- what is worth a file comes back from it -----------------------------------------------------


WORTH = {
    "text": {"a": "a" * 15 * MB},
    "text with commas": {"table": "1.5,2.5\n" * (10 * MB // 8)},
    "text with quotes": {"a": '"' * 3 * MB},
    "numbers": {"loss": [i / 7 for i in range(400_000)]},
    "columns": {
        "columns": [
            {"name": f"x{i}", "kind": "numeric", "mean": i / 7, "std": 1.0, "low": 0.5, "high": i}
            for i in range(20_000)
        ]
    },
    "letters": {"names": ["größe 中文 😀" * 3] * 20_000},
    "depth": {"a": json.loads("[" * 150 + "]" * 150)},
}


@pytest.mark.parametrize("name", WORTH)
def test_large_metadata_come_back(name, tmp_path):
    net = Sequential([Linear(3, 2) if name != "columns" else Linear(20_000, 8)])
    net.save(tmp_path / "m", metadata=WORTH[name])
    assert Sequential.load(tmp_path / "m").metadata == WORTH[name]
    ((word, used),) = memory_of_loading(tmp_path, "m")
    assert word == "loaded"
    assert used <= 2 * (tmp_path / "m").stat().st_size + 16 * MB


def nested(depth):
    inside = []
    for _ in range(depth):
        inside = [inside]
    return inside


class OwnReLU(ReLU):
    pass


@dataclasses.dataclass(frozen=True, repr=False)
class OwnAdam(Adam):
    twice: float = 1.0


NOT_READ_BACK = {
    "text": lambda: {"metadata": {"x": "a" * 17_000_000}},
    "text that is longer in a file": lambda: {"metadata": {"x": "ä" * 3_000_000}},
    "numbers": lambda: {"metadata": {"x": list(range(3_000_000))}},
    "lists": lambda: {"metadata": {"x": [[]] * 500_000}},
    "keys": lambda: {"metadata": {str(i): 0 for i in range(200_000)}},
    "depth": lambda: {"metadata": {"x": nested(300)}},
    "more depth": lambda: {"metadata": {"x": nested(900)}},
    "too much depth": lambda: {"metadata": {"x": nested(50_000)}},
    "a letter": lambda: {"metadata": {"x": "a" * 15_000_000 + "😀"}},
}


@pytest.mark.parametrize("name", NOT_READ_BACK)
def test_what_load_would_refuse_is_not_saved(name, tmp_path):
    path = tmp_path / "m"
    net = Sequential([Linear(3, 2)])
    net.save(path, metadata={"old": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="metadata") as caught:
        net.save(path, **NOT_READ_BACK[name]())
    assert not isinstance(caught.value, CheckpointError)
    assert len(str(caught.value)) < 300
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]
    net.save(path)  # nothing is lost
    assert Sequential.load(path).params.tobytes() == net.params.tobytes()


def test_classes_of_one_s_own_are_not_saved(tmp_path):
    layers = Sequential([Linear(3, 2), OwnReLU()])
    optimizer = Sequential([Linear(3, 2)])
    optimizer.use_optimizer(OwnAdam())
    for net in (layers, optimizer):
        with pytest.raises(ValueError, match="class of its own"):
            net.save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_networks_at_the_limits_come_back(tmp_path):
    many = Sequential([Linear(2, 2), *(ReLU() for _ in range(4_000))])
    quantiles = tuple(np.arange(1, 3_000) / 3_000)
    wide = Sequential([Linear(3, len(quantiles))])
    wide.fit(X, X[:, :1], loss=Pinball(quantiles), epochs=1)
    for net in (many, wide):
        net.save(tmp_path / "m")
        loaded = Sequential.load(tmp_path / "m")
        assert loaded.params.tobytes() == net.params.tobytes()
        assert loaded.loss == net.loss


@pytest.mark.parametrize("optimizer", [None, Adam()])
def test_a_large_model_loads_in_twice_its_file(optimizer, tmp_path):
    net = Sequential([Linear(3000, 3000), Linear(3000, 1000)])  # 48 MB
    if optimizer is not None:
        net.use_optimizer(optimizer)
    net.save(tmp_path / "m")
    ((word, used),) = memory_of_loading(tmp_path, "m")
    assert word == "loaded"
    assert used <= 2 * (tmp_path / "m").stat().st_size + 16 * MB


# ---- what is no file -----------------------------------------------------------------------------


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, kind in {
            "pipe": "a named pipe",
            "link": "a named pipe",
            "folder": "a folder",
            "socket": "a socket",
            "/dev/zero": "a device",
            "/dev/urandom": "a device",
            "/dev/null": "a device",
        }.items():
            with pytest.raises(CheckpointError, match=kind):
                Sequential.load(tmp_path / name)


@pytest.mark.parametrize("start", ["zeros", "a header", "a model"])
def test_a_sparse_file_is_not_read(start, tmp_path):
    begin = {
        "zeros": b"",
        "a header": struct.pack("<Q", 15 * MB),
        "a model": checkpoint.to_bytes(Sequential([Linear(3, 2)]), {}),
    }[start]
    path = tmp_path / "sparse"
    path.write_bytes(begin)
    os.truncate(path, 20 * 1024 * MB)
    ((word, used),) = memory_of_loading(tmp_path, "sparse")
    assert word == "refused"
    assert used <= 46 * MB
    read = sum_of_reads(path)
    assert read <= 16 * MB


def sum_of_reads(path):
    """Bytes that a load of the file reads."""
    script = (
        "import sys\nfrom fastmlp import CheckpointError, Linear, Sequential\n"
        "def read():\n"
        "    return int(open('/proc/self/io').readline().split()[1])\n"
        "before = read()\n"
        "try: Sequential.load(sys.argv[1])\n"
        "except CheckpointError: pass\n"
        "print(read() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    net, other = (Sequential([Linear(30, 20)], seed=seed) for seed in (1, 2))
    path = tmp_path / "m"
    other.save(path)
    changed = path.read_bytes()
    net.save(path)
    restore = checkpoint._restore

    def overwrite(*arguments):
        with open(path, "r+b") as file:  # in place, as cp does
            file.write(changed)
        return restore(*arguments)

    monkeypatch.setattr(checkpoint, "_restore", overwrite)
    with pytest.raises(CheckpointError, match="another process"):
        Sequential.load(path)


def test_no_memory_for_a_model_is_an_error_that_says_so(tmp_path, monkeypatch):
    from fastmlp.network import network

    def none_left(*arguments):
        raise MemoryError

    Sequential([Linear(30, 20)]).save(tmp_path / "m")
    monkeypatch.setattr(network, "zeros", none_left)
    with pytest.raises(CheckpointError, match="not enough memory for this model"):
        Sequential.load(tmp_path / "m")


# ---- without the optimizer -----------------------------------------------------------------------


def test_a_file_without_the_optimizer_is_small_and_says_what_is_missing(tmp_path, recwarn):
    net = Sequential([Linear(3, 200), ReLU(), Linear(200, 2)])
    net.fit(X, np.zeros((40, 2)), optimizer=Adam(1e-2), epochs=3)
    net.save(tmp_path / "all")
    net.save(tmp_path / "less", optimizer=False, metadata={"a": 1})
    assert (tmp_path / "less").stat().st_size < 0.5 * (tmp_path / "all").stat().st_size
    loaded = Sequential.load(tmp_path / "less")
    assert loaded.predict(X).tobytes() == net.predict(X).tobytes()
    assert (loaded.epoch, loaded.step, loaded.loss) == (net.epoch, net.step, net.loss)
    assert loaded.optimizer == Adam(1e-2)
    assert loaded.metadata == {"a": 1}
    assert len(recwarn) == 0
    loaded.save(tmp_path / "again")
    for one in (loaded, Sequential.load(tmp_path / "again")):
        with pytest.warns(UserWarning, match="optimizer=False.*Adam.*begin anew"):
            one.fit(X, np.zeros((40, 2)), epochs=1)
        one.fit(X, np.zeros((40, 2)), epochs=1)  # once
        assert one.optimizer == Adam(1e-2)
    assert len(recwarn) == 0
    fresh = Sequential.load(tmp_path / "less")
    fresh.fit(X, np.zeros((40, 2)), optimizer="lion", epochs=1)  # nothing of Lion's is missing
    assert len(recwarn) == 0
    with pytest.raises(TypeError, match="True or False"):
        net.save(tmp_path / "less", optimizer="adam")
