import codecs
import collections
import contextlib
import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from stages.sources.unpickle import PickleRefused, load_pickle

PLAIN = {
    "betas": np.linspace(-1, 1, 10, dtype=np.float32)[None],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.array([1, 2, 3], dtype=">i4"),
    "empty": np.zeros((0, 5)),
    "mask": np.array([True, False]),
    "text_array": np.array(["a", "ö"]),
    "scalar": np.float64(0.25),
    "gender": "neutral",
    "unicode": "Zürich 山",
    "nested": [1, -(2**70), 2.5, None, True, (1, 2), {"a": [b"\x00\xff"]}, (1, 2, 3, 4), "neutral"],
    "numbers": {1: "one"},
    "members": {1, 2},
    "frozen": frozenset(["x"]),
    "no_bytes": b"",
}


class Reduce:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple:
        return self.call


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype.newbyteorder("=")
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_come_back_as_they_were(tmp_path: Path, protocol: int) -> None:
    path = write(tmp_path / "a.pkl", pickle.dumps(PLAIN, protocol))
    loaded = load_pickle(path)
    assert_same(loaded, PLAIN)
    loaded["betas"][0, 0] = 5  # the array owns its memory


def test_names_of_numpy_2_are_known(tmp_path: Path) -> None:
    data = pickle.dumps(PLAIN["betas"], 2)
    assert b"numpy.core.multiarray" in data
    path = write(tmp_path / "a.pkl", data.replace(b"numpy.core.multiarray", b"numpy._core.multiarray"))
    assert_same(load_pickle(path), PLAIN["betas"])


def test_ordered_dicts_become_dicts(tmp_path: Path) -> None:
    ordered = collections.OrderedDict(b=1, a=[np.ones(2)])
    loaded = load_pickle(write(tmp_path / "a.pkl", pickle.dumps(ordered)))
    assert type(loaded) is dict
    assert list(loaded) == ["b", "a"]
    np.testing.assert_array_equal(loaded["a"][0], [1, 1])


@pytest.mark.parametrize("protocol", [0, 2])
def test_python_2_arrays_are_read_as_latin_1(tmp_path: Path, protocol: int) -> None:
    """Written by hand as Python 2 writes them: raw numbers as text of 8 bits."""
    raw = np.array([1.5, -2.0, np.pi], dtype="<f8").tobytes()
    text = (
        b"S" + repr(raw)[1:].encode() + b"\n"
        if protocol == 0
        else b"T" + len(raw).to_bytes(4, "little") + raw
    )
    data = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I3\ntcnumpy\ndtype\n"
        b"(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n" + text + b"tb."
    )
    loaded = load_pickle(write(tmp_path / "a.pkl", data))
    np.testing.assert_array_equal(loaded, [1.5, -2.0, np.pi])
    np.testing.assert_array_equal(pickle.loads(data, encoding="latin1"), loaded)


def test_nothing_of_an_exploit_runs(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for number, trap in enumerate(
        [
            Reduce(__import__("os").system, f"touch {witness}"),
            Reduce(eval, f"open({str(witness)!r}, 'w')"),
            Reduce(getattr, {}, "keys"),
            Reduce(__import__, "os"),
            Reduce(np.load, str(witness), None, True),
            Reduce(np.fromfile, str(witness)),
            Reduce(np.memmap, str(witness), "uint8", "w+", 0, (4,)),
            Reduce(pickle.loads, b"."),
            Reduce(bytearray, 1 << 40),
            Reduce(codecs.decode, b"", "zip"),
            Reduce(type, "A", (), {}),
        ]
    ):
        for protocol in range(6):
            path = write(tmp_path / f"{number}.pkl", pickle.dumps({"betas": trap}, protocol))
            with pytest.raises(PickleRefused, match="is refused"):
                load_pickle(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3), r"torch tensors: save them with `\.numpy\(\)`"),
        (sparse.csc_matrix(np.eye(2)), r"`\.toarray\(\)`"),
        (np.array([1, {"a": 2}], dtype=object), "plain numeric arrays"),
        (np.array([np.array([print])], dtype=object), "plain numeric arrays|is refused"),
        (np.zeros(2, dtype=[("x", "f4")]), "plain numeric arrays"),
        (np.zeros(2, dtype="datetime64[s]"), "plain numeric arrays"),
        (np.ma.masked_array([1.0]), "is refused"),
        (Path("a"), "is refused"),
        (print, "is refused"),
        (np.ndarray, "a function or type"),
        ([np.dtype("f4")], "a function or type"),
        ({(1, 2): 3}, "a key of type tuple"),
    ],
)
def test_what_is_more_than_plain_data_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(PickleRefused, match=message):
        load_pickle(write(tmp_path / "a.pkl", pickle.dumps(value)))


def test_chumpy_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PickleRefused, match=r"`chumpy\.ch\.Ch` is refused; chumpy arrays.*np\.asarray"):
        load_pickle(write(tmp_path / "a.pkl", b"cchumpy.ch\nCh\n."))


def array_pickle(shape: tuple[int, ...], raw: bytes, claim: tuple[int, ...] = (0,)) -> bytes:
    dtype = np.dtype("u1")
    call = (np.core.multiarray._reconstruct, (np.ndarray, claim, b"b"), (1, shape, dtype, False, raw))

    class Array:
        def __reduce__(self) -> tuple:
            return call

    return pickle.dumps(Array(), 2)


def test_arrays_bring_the_bytes_that_they_claim(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pkl", array_pickle((4,), b"\1\2\3\4", claim=(1 << 62,)))
    np.testing.assert_array_equal(load_pickle(path), [1, 2, 3, 4])  # the first claim is not believed
    for shape in [(1 << 62,), (5,), (3,), (1 << 62, 0), (-4,), (2.0, 2)]:
        with pytest.raises(PickleRefused, match=r"claims the shape|impossible shape"):
            load_pickle(write(path, array_pickle(shape, b"\1\2\3\4")))  # type: ignore[arg-type]


def test_small_files_stay_small(tmp_path: Path) -> None:
    lists: Any = []
    tuples: Any = ()
    for _ in range(40):
        lists, tuples = [lists, lists], (tuples, tuples)
    shared = np.zeros(100_000)
    endless: list = []
    endless.append(endless)
    for value in (lists, tuples, endless, [shared] * 1000, ["x" * 100_000] * 1000):
        data = pickle.dumps(value)
        assert len(data) < 1 << 20
        with pytest.raises(PickleRefused, match=r"used twice|more unpacks"):
            load_pickle(write(tmp_path / "a.pkl", data))
    repeated_calls = b"(" + b"c_codecs\nencode\np0\n0" + b"X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"p1\n0"
    repeated_calls += b"g0\n(g1\nVlatin1\ntR" * 1000 + b"l."
    with pytest.raises(PickleRefused, match="more unpacks"):
        load_pickle(write(tmp_path / "a.pkl", repeated_calls))


def test_hostile_opcodes_cost_nothing(tmp_path: Path) -> None:
    far_memo = b"\x80\x02Nr\xff\xff\xff\xff."  # Python's own unpickler makes a table of 2**33 places here
    assert load_pickle(write(tmp_path / "a.pkl", far_memo)) is None
    many = write(tmp_path / "b.pkl", b"(" + b"}" * 1_000_001 + b"l.")
    with pytest.raises(PickleRefused, match="steps are needed"):
        load_pickle(many)
    claims = b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"abc."
    with pytest.raises(PickleRefused, match="damaged or no pickle"):
        load_pickle(write(tmp_path / "c.pkl", claims))


def test_names_cannot_be_changed(tmp_path: Path) -> None:
    """BUILD would set attributes of the functions that Python's own unpickler gives out."""
    data = b"\x80\x02cnumpy\ndtype\n(N}X\x08\x00\x00\x00__call__Nstb."
    with pytest.raises(PickleRefused, match="is given attributes"):
        load_pickle(write(tmp_path / "a.pkl", data))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    data = pickle.dumps(PLAIN, 2)
    path = tmp_path / "a.pkl"
    for length in range(0, len(data) - 1, 7):
        with pytest.raises(PickleRefused):
            load_pickle(write(path, data[:length]))
    for text in (
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"hello",
        b"t.",
        b"a.",
        b"(.",
        b"R.",
        b"1.",
        b"(Nd.",
        b"Na.",
        b"NNNs.",
    ):
        with pytest.raises(PickleRefused):
            load_pickle(write(path, text))


def test_random_damage_raises_nothing_else(tmp_path: Path) -> None:
    data = pickle.dumps({k: PLAIN[k] for k in ("betas", "nested", "scalar", "big_endian")}, 2)
    rng = np.random.default_rng(0)
    path = tmp_path / "a.pkl"
    for _ in range(500):
        broken = np.frombuffer(data, np.uint8).copy()
        broken[rng.integers(0, len(broken), 3)] = rng.integers(0, 256, 3)
        with contextlib.suppress(PickleRefused):
            load_pickle(write(path, broken.tobytes()))


def test_large_files_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pkl", pickle.dumps(b"x" * (2 << 20)))
    with pytest.raises(PickleRefused, match="larger than 1 MiB"):
        load_pickle(path, max_bytes=1 << 20)
    assert len(load_pickle(path)) == 2 << 20


def test_every_opcode_of_a_plain_pickle_is_known() -> None:
    """Each opcode that Python's picklers write for plain data; the tables must not forget one."""
    seen = {op.name for p in range(6) for op, _, _ in pickletools.genops(io.BytesIO(pickle.dumps(PLAIN, p)))}
    assert {"SETITEMS", "APPENDS", "TUPLE2", "STACK_GLOBAL", "FROZENSET", "BYTEARRAY8", "LONG1"} <= seen
