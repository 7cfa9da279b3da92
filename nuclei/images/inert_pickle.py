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


class InertUnpickler(pickle.Unpickler):
    """An unpickler that imports nothing."""

    def find_class(self, module, name):
        """Give an inert class instead of what the pickle names."""
        return type("Named", (Named,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid):
        """Objects outside the pickle are not looked for."""
        return None


def plain_data(content: bytes):
    """The content of a pickle: plain Python values, NumPy arrays, and `Named` for all else.

    Raises:
        ValueError: it is no whole pickle.
    """
    try:
        data = InertUnpickler(io.BytesIO(content)).load()
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle raises errors of all kinds
        raise ValueError(f"no whole pickle ({type(error).__name__}: {error})") from error
    return with_arrays(data)


def with_arrays(value):
    """Put together the arrays in a value, in dictionaries, and in an array of one object."""
    if isinstance(value, dict):
        return {key: with_arrays(item) for key, item in value.items()}
    if not isinstance(value, Named):
        return value
    short = value.name.rsplit(".", 1)[-1]
    if short == "_reconstruct" and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, is_fortran, content = value.state
        if isinstance(content, list):  # an array of objects
            return with_arrays(content[0]) if len(content) == 1 else value
        return array_of(content, dtype, shape, "F" if is_fortran else "C")
    if short == "_frombuffer" and len(value.args) == 4:  # protocol 5
        content, dtype, shape, order = value.args
        return array_of(content, dtype, shape, order)
    return value


def array_of(content, dtype, shape, order: str) -> np.ndarray:
    """An array of numbers from its bytes.

    Args:
        content: bytes or bytearray.
        dtype: a `Named` numpy.dtype.
        shape: lengths of its axes.
        order: "C" or "F".

    Raises:
        ValueError: it holds something else than numbers, or bytes are missing.
    """
    code = dtype.args[0] if isinstance(dtype, Named) and dtype.args else ""
    is_number = isinstance(code, str) and code[:1] in ("b", "i", "u", "f") and code[1:].isdigit()
    if not is_number or not isinstance(content, bytes | bytearray | pickle.PickleBuffer):
        raise ValueError("an array of something else than numbers")
    byte_order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "|"
    numbers = np.frombuffer(content, np.dtype(code).newbyteorder(byte_order))
    if numbers.size != math.prod(shape):
        raise ValueError(f"{numbers.size} numbers for an array of shape {shape}")
    return numbers.reshape(shape, order=order)
