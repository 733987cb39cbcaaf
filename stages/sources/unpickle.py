"""Pickles of strangers, read without running anything of theirs.

Python's own unpickler calls what the file names. This one interprets the opcodes itself and knows only those that
plain data need; names are compared with a list and stand for functions of this module. A pickle that an honest
program made of numbers, text, lists, dicts and numeric arrays is read, whatever its protocol (0 to 5) and Python.
"""

import codecs
import io
import math
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAX_OPCODES = 1_000_000
MAX_SHARED_TUPLE = 8
"""Elements of a tuple that may be referred to again; shapes and the like, which numpy repeats."""

MAX_KEY = 1 << 31
NUMERIC = "biufcSU"
"""Kinds of dtypes that are admitted: booleans, numbers and fixed-width text."""

READ_ERRORS = (ValueError, LookupError, TypeError, OverflowError, MemoryError)
"""What damaged bytes make of the opcodes' readers."""


class PickleRefused(ValueError):
    """A pickle that is damaged, too large or holds more than plain data; the text is one sentence saying why."""


def load_pickle(path: Path, max_bytes: int = 64 << 20) -> Any:
    """Read a pickle that holds nothing but plain containers, numbers, text, bytes and numeric arrays.

    Text of Python 2 is decoded as Latin-1, as NumPy's arrays of that time need. OrderedDicts become dicts,
    arrays own their memory in this machine's byte order. The result is a tree (nothing contains itself; only arrays,
    text and small tuples may occur twice), and all of it takes a few times the file's size at most.

    Args:
        path: of the file.
        max_bytes: a larger file is not read.

    Raises:
        PickleRefused: one sentence naming the file and what is wrong with it.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise PickleRefused(
            f"{path} is larger than {max_bytes >> 20} MiB; a pickle of a few arrays is expected"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of codecs, about escapes in damaged text
            return _Machine(data).run()
    except PickleRefused as refusal:
        raise PickleRefused(f"{path}: {refusal}") from None
    except READ_ERRORS as error:
        raise PickleRefused(
            f"{path} is damaged or no pickle ({str(error)[:200] or type(error).__name__})"
        ) from None


@dataclass
class _Dtype:
    """A dtype under construction; never a dtype of the file's making."""

    value: np.dtype

    def build(self, state: Any) -> None:
        """Take over the byte order: (version, order, subarray, names, fields, size, alignment, flags)."""
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise PickleRefused("an array of records was found; plain numeric arrays are expected")
        if state[1] not in ("<", ">", "|", "="):
            raise PickleRefused(f"the byte order {str(state[1])[:8]!r} is none")
        self.value = self.value.newbyteorder(state[1])


@dataclass(frozen=True)
class _Name:
    """A function or class that the file refers to, and what is called instead of it."""

    call: Callable[..., Any]


def _dtype(code: Any, *_flags: Any) -> _Dtype:
    code = code.decode("latin1") if isinstance(code, bytes) else code
    if not isinstance(code, str) or len(code) > 8:
        raise PickleRefused("a dtype without a name was found")
    value = np.dtype(code)
    if value.kind not in NUMERIC or value.hasobject or value.shape or not value.itemsize:
        raise PickleRefused(f"an array of {value} was found; plain numeric arrays are expected")
    return _Dtype(value)


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes as protocols 0 to 2 of Python 3 write them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleRefused("text in an encoding other than Latin-1 was found")
    return text.encode("latin1")


def _array(shape: Any, dtype: Any, raw: Any, order: str) -> np.ndarray:
    """An array of its own memory, if the bytes are as many as shape and dtype say."""
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray):
        raise PickleRefused("an array without numbers was found; plain numeric arrays are expected")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise PickleRefused("an array of an impossible shape was found")
    if math.prod(shape) * dtype.value.itemsize != len(raw) or max(shape, default=0) > MAX_KEY:
        raise PickleRefused(f"an array claims the shape {shape} and brings {len(raw)} bytes")
    values = np.frombuffer(raw, dtype.value).reshape(shape, order="F" if order == "F" else "C")
    return values.astype(dtype.value.newbyteorder("="))


def _reconstruct(kind: Any, _shape: Any, _code: Any) -> np.ndarray:
    """The empty array that BUILD fills; numpy writes the true shape there, so a huge one here is not believed."""
    if kind is not NAMES["numpy", "ndarray"]:
        raise PickleRefused("a subclass of NumPy's array was found; plain arrays are expected")
    return np.empty(0)


def _fill(array: np.ndarray, state: Any) -> None:
    if not isinstance(state, tuple) or len(state) != 5:
        raise PickleRefused("an array without its numbers was found")
    _version, shape, dtype, fortran, raw = state
    whole = _array(shape, dtype, raw, "F" if fortran else "C")
    array.__setstate__((1, whole.shape, whole.dtype, False, whole.tobytes()))


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _array(shape, dtype, raw, str(order))


def _scalar(dtype: Any, raw: Any) -> Any:
    return _array((), dtype, raw, "C")[()]


def _refuse_call(*_args: Any) -> None:
    raise PickleRefused("NumPy's array type is called as a function; plain data are expected")


def _empty_bytes() -> bytes:
    return b""


def _set(members: Any = ()) -> set:
    return {_key(member) for member in members}


def _frozenset(members: Any = ()) -> frozenset:
    return frozenset(_set(members))


NAMES: dict[tuple[str, str], _Name] = {
    ("numpy", "ndarray"): _Name(_refuse_call),
    ("numpy", "dtype"): _Name(_dtype),
    ("_codecs", "encode"): _Name(_encode),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Name(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Name(_scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Name(_from_buffer) for core in ("core", "_core")},
    **{(builtin, "bytes"): _Name(_empty_bytes) for builtin in ("builtins", "__builtin__")},
    **{(builtin, "set"): _Name(_set) for builtin in ("builtins", "__builtin__")},
    **{(builtin, "frozenset"): _Name(_frozenset) for builtin in ("builtins", "__builtin__")},
    ("collections", "OrderedDict"): _Name(lambda pairs=(): {_key(key): value for key, value in pairs}),
}
"""All that a file may name, by module and name, with what is called in its place."""

REMEDIES = {
    "torch": "torch tensors: save them with `.numpy()`",
    "chumpy": "chumpy arrays, which need the library: save them with `np.asarray`",
    "scipy": "SciPy objects: save sparse matrices with `.toarray()`",
    "pandas": "pandas objects: save them with `.to_numpy()`",
}

OPCODES = {op.code.encode("latin1"): op for op in pickletools.opcodes}
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
"""Opcodes whose argument is the value."""

FRESH: dict[str, Callable[[], Any]] = {
    **{"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
    **{"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set},
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NOTHING = {"PROTO", "FRAME"}
PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
GETS = {"GET", "BINGET", "LONG_BINGET"}


def _key(value: Any) -> Any:
    """A key or member that hashes fast and without recursion, whatever the file wants."""
    if isinstance(value, str | bytes) or (isinstance(value, int) and abs(value) < MAX_KEY):
        return value
    raise PickleRefused(
        f"a key of type {type(value).__name__} was found; text or small integers are expected"
    )


class _Machine:
    """The stack machine of a pickle; each opcode is a method or a row of the tables above."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)
        self.budget = 4 * len(data) + (1 << 20)  # bytes: an array is text first, then bytes, then itself
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle holds."""
        for _ in range(MAX_OPCODES):
            op = OPCODES.get(self.data.read(1))
            if op is None:
                raise PickleRefused("the file is damaged or no pickle")
            if op.name == "STOP":
                return self.result()
            self.step(op.name, self.argument(op))
        raise PickleRefused(f"more than {MAX_OPCODES} steps are needed to read it")

    def result(self) -> Any:
        """The one object that is left, if no name is left in it."""
        value = self.pop()
        waiting = [value]
        while waiting:
            part = waiting.pop()
            if isinstance(part, _Name | _Dtype):
                raise PickleRefused("a function or type was found among the data; plain data are expected")
            if isinstance(part, dict):
                waiting.extend(part.values())
            elif isinstance(part, list | tuple):
                waiting.extend(part)
        return value

    def argument(self, op: pickletools.OpcodeInfo) -> Any:
        """What follows an opcode; text of protocol 0 is not as ASCII as pickletools expects it."""
        if op.name == "STRING":
            line = self.data.readline().strip()
            return codecs.escape_decode(line[1:-1])[0].decode("latin1")  # type: ignore[attr-defined]
        return op.arg.reader(self.data) if op.arg is not None else None

    def step(self, name: str, value: Any) -> None:
        """Do what one opcode says."""
        if name in VALUES:
            self.stack.append(value)
        elif name in FRESH:
            self.stack.append(FRESH[name]())
        elif name in TUPLES:
            self.stack.append(tuple(self.pop_many(len(self.stack) - TUPLES[name])))
        elif name in PUTS or name == "MEMOIZE":
            self.memo[len(self.memo) if name == "MEMOIZE" else value] = self.top()
        elif name in GETS:
            self.stack.append(self.recall(value))
        elif name not in NOTHING:
            method = getattr(self, f"do_{name.lower()}", None)
            if method is None:
                raise PickleRefused(f"the opcode {name} makes objects; plain data are expected")
            method(value)

    def top(self) -> Any:
        if len(self.stack) <= self.floor():
            raise PickleRefused("the file is damaged: its stack is empty")
        return self.stack[-1]

    def floor(self) -> int:
        """Where the part of the stack begins that the last mark lets an opcode touch."""
        return self.marks[-1] if self.marks else 0

    def pop(self) -> Any:
        value = self.top()
        del self.stack[-1]
        return value

    def pop_many(self, start: int) -> list[Any]:
        if start < self.floor():
            raise PickleRefused("the file is damaged: its stack is empty")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise PickleRefused("the file is damaged: a mark is missing")
        return self.pop_many(self.marks.pop())

    def recall(self, index: int) -> Any:
        """An earlier object again. Lists and dicts are refused: small files could nest them to any size."""
        value = self.memo[index]
        plain = not isinstance(value, tuple) or (
            len(value) <= MAX_SHARED_TUPLE
            and not any(isinstance(v, tuple | list | dict | set) for v in value)
        )
        if isinstance(value, list | dict | set | frozenset) or not plain:
            raise PickleRefused(f"the same {type(value).__name__} is used twice; plain data are a tree")
        self.spend(value)
        return value

    def spend(self, value: Any) -> None:
        """Count what repetition makes of the file's bytes."""
        self.budget -= value.nbytes if isinstance(value, np.ndarray) else 64
        self.budget -= len(value) if isinstance(value, str | bytes) else 0
        if self.budget < 0:
            raise PickleRefused("much more unpacks than the file holds")

    def do_mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def do_pop(self, _: None) -> None:
        self.pop()

    def do_pop_mark(self, _: None) -> None:
        self.pop_mark()

    def do_tuple(self, _: None) -> None:
        self.stack.append(tuple(self.pop_mark()))

    def do_list(self, _: None) -> None:
        self.stack.append(self.pop_mark())

    def do_dict(self, _: None) -> None:
        self.stack.append(self.pairs(self.pop_mark()))

    def do_frozenset(self, _: None) -> None:
        self.stack.append(_frozenset(self.pop_mark()))

    def do_append(self, _: None) -> None:
        value = self.pop()
        self.container(list).append(value)

    def do_appends(self, _: None) -> None:
        values = self.pop_mark()
        self.container(list).extend(values)

    def do_additems(self, _: None) -> None:
        members = _set(self.pop_mark())
        self.container(set).update(members)

    def do_setitem(self, _: None) -> None:
        pair = self.pop_many(len(self.stack) - 2)
        self.container(dict).update(self.pairs(pair))

    def do_setitems(self, _: None) -> None:
        values = self.pop_mark()
        self.container(dict).update(self.pairs(values))

    def container(self, kind: type) -> Any:
        value = self.top()
        if not isinstance(value, kind):
            raise PickleRefused(
                f"the file is damaged: a {type(value).__name__} is filled like a {kind.__name__}"
            )
        return value

    def pairs(self, values: list[Any]) -> dict[Any, Any]:
        if len(values) % 2:
            raise PickleRefused("the file is damaged: a key has no value")
        return {_key(key): value for key, value in zip(values[::2], values[1::2])}

    def do_global(self, pair: str) -> None:
        module, _, name = pair.partition(" ")
        self.stack.append(self.name(module, name))

    def do_stack_global(self, _: None) -> None:
        module, name = self.pop_many(len(self.stack) - 2)
        self.stack.append(self.name(module, name))

    def name(self, module: Any, name: Any) -> _Name:
        found = NAMES.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if found is None:
            package = str(module).partition(".")[0]
            what = REMEDIES.get(package, "arrays, numbers, text, lists and dicts are admitted")
            raise PickleRefused(f"`{str(module)[:60]}.{str(name)[:60]}` is refused; {what}")
        return found

    def do_reduce(self, _: None) -> None:
        function, arguments = self.pop_many(len(self.stack) - 2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise PickleRefused("something is called that is no function")
        value = function.call(*arguments)
        self.spend(value)
        self.stack.append(value)

    def do_build(self, _: None) -> None:
        state = self.pop()
        value = self.top()
        if isinstance(value, np.ndarray):
            _fill(value, state)
            self.spend(value)
        elif isinstance(value, _Dtype):
            value.build(state)
        else:
            raise PickleRefused(f"a {type(value).__name__} is given attributes; plain data are expected")
