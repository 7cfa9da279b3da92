"""Read plain data and NumPy arrays out of a pickle without running anything that it names.

    data = plain_data(file.read())      # {"masks": ndarray, "est_diam": None, ...}

A pickle is a program: it may import any module and call any function. Here, each function or class
that it names becomes an inert `Named`, which only keeps what it is given. Nothing of the file is
imported or called. Arrays of numbers are then put together from their bytes.
"""

import io
import math
import pickle

import numpy as np


class Named:
    """Stands for something that a pickle names, with the arguments and the state it was given.

    Attributes:
        name: module and name in the pickle; set in a subclass for each.
        args: the positional arguments it was called with.
        state: what the pickle sets afterwards, or None.
    """

    name = ""

    def __new__(cls, *args, **_):
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *args, **_) -> None:
        pass

    def __setstate__(self, state) -> None:
        self.state = state

    def __setitem__(self, key, value) -> None:
        pass

    def append(self, value) -> None:
        pass

    def extend(self, values) -> None:
        pass


# Not the unpickler in C, whose memory a number in a hostile file can fill.
class InertUnpickler(pickle._Unpickler):
    """An unpickler that imports nothing."""

    def find_class(self, module, name):
        """Give an inert class instead of what the pickle names."""
        return type("Named", (Named,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid):
        """Objects outside the pickle are not looked for."""
        return None


def plain_data(content: bytes):
    """The content of a pickle: plain Python values, and `Named` for all that it names.

    Arrays of numbers are put together where they are the content, or values of a dictionary that
    is. np.save wraps a dictionary in an array of one object, which is opened.

    Raises:
        ValueError: it is no whole pickle.
    """
    try:
        data = InertUnpickler(io.BytesIO(content)).load()
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises errors of all kinds
        raise ValueError(f"no whole pickle ({type(error).__name__}: {error})") from error
    state = data.state if isinstance(data, Named) else None
    if isinstance(state, tuple) and isinstance(state[-1], list) and len(state[-1]) == 1:
        data = state[-1][0]
    if isinstance(data, dict):
        return {key: array_in(value) for key, value in data.items()}
    return array_in(data)


def array_in(value):
    """The array of numbers that a `Named` stands for; any other value as it is.

    Raises:
        ValueError: bytes of the array are missing.
    """
    short = value.name.rsplit(".", 1)[-1] if isinstance(value, Named) else ""
    if short == "_reconstruct" and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, is_fortran, content = value.state
        order = "F" if is_fortran else "C"
    elif short == "_frombuffer" and len(value.args) == 4:  # protocol 5
        content, dtype, shape, order = value.args
    else:
        return value
    code, content = type_code(dtype), bytes_of(content)
    if code is None or content is None:
        return value
    numbers = np.frombuffer(content, code)
    if numbers.size != math.prod(shape):
        raise ValueError(f"{numbers.size} numbers for an array of shape {shape}")
    return numbers.reshape(shape, order=order)


def type_code(dtype) -> str | None:
    """The code of a pickled numpy.dtype, such as "<i4"; None where it is no type of numbers."""
    code = dtype.args[0] if isinstance(dtype, Named) and dtype.args else None
    if not isinstance(code, str) or code[:1] not in "biuf" or not code[1:].isdigit():
        return None
    state = dtype.state if isinstance(dtype.state, tuple) else ()
    return ("=" if len(state) < 2 or state[1] not in ("<", ">") else state[1]) + code


def bytes_of(content) -> bytes | bytearray | pickle.PickleBuffer | None:
    """The bytes of a pickled array. Protocols 0 to 2 know no bytes and write them as Latin-1."""
    if isinstance(content, Named) and content.name == "_codecs.encode":
        return content.args[0].encode("latin-1")
    return content if isinstance(content, bytes | bytearray | pickle.PickleBuffer) else None
