"""Named arrays from files that hold numbers and nothing else: safetensors, npz, npy.

The safetensors format is eight bytes of header length, a JSON header and the numbers; its package
would bring nothing that numpy lacks. Every size is checked against the file before memory is taken.
"""

import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from jobs.models.network import refuse_pickle
from jobs.runtime.errors import ModelProblem

MAX_BYTES: Final = 256 * 2**20  # chosen: ten times the largest published head, NSFW H/14
_MAX_HEADER_BYTES: Final = 100_000_000  # huggingface/safetensors, MAX_HEADER_SIZE
_DTYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_BFLOAT16: Final = "BF16"
_INTEGERS: Final = {"I64": "<i8", "I32": "<i4"}  # counters, which heads do not use


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file; of one `.npy` under the name ``prompts``.

    Returns:
        name -> float64 of any shape, finite.

    Raises:
        ModelProblem: no such format, sizes that do not fit, or numbers that are not finite.
    """
    if not path.is_file():
        raise ModelProblem(f"{path} is missing; give the file of the weights")
    refuse_pickle(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ModelProblem(f"{path} got {size} bytes; allowed {MAX_BYTES}; give a head's weights")
    readers = {".safetensors": _safetensors, ".npz": _npz, ".npy": _npy_file}
    if path.suffix not in readers:
        raise ModelProblem(
            f"{path} got {path.suffix or 'no suffix'}; allowed {', '.join(readers)}; "
            "write the weights with numpy.savez or as safetensors, under their own names"
        )
    try:
        arrays = readers[path.suffix](path.read_bytes())
    except (
        ValueError,  # of JSON, numpy and struct alike
        KeyError,
        TypeError,
        RecursionError,
        OverflowError,
        zipfile.BadZipFile,
        NotImplementedError,  # a zip with a compression or a password that is not read
        RuntimeError,
        EOFError,
    ) as error:
        raise ModelProblem(
            f"{path} got no {path.suffix[1:]} that can be read: {error}; write the file again"
        ) from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ModelProblem(f"{path} got numbers in {name} that are not finite; train it again")
    return arrays


def _safetensors(content: bytes) -> dict[str, np.ndarray]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _MAX_HEADER_BYTES):
        raise ValueError(f"a header of {length} bytes in a file of {len(content)}")
    header = json.loads(content[8 : 8 + length], object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    numbers = memoryview(content)[8 + length :]
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    spans = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
    ends = [0, *(end for _, end in spans)]
    if [start for start, _ in spans] != ends[:-1] or ends[-1] != len(numbers):
        raise ValueError("numbers that overlap or leave gaps")
    return {name: _tensor(name, entry, numbers) for name, entry in entries.items()}


def _tensor(name: str, entry: Mapping[str, Any], numbers: memoryview) -> np.ndarray:
    dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if any(not isinstance(axis, int) or axis < 0 for axis in shape):
        raise ValueError(f"{name} of shape {shape}")
    stored = {**_DTYPES, **_INTEGERS, _BFLOAT16: "<u2"}.get(dtype)
    if stored is None:
        raise ValueError(f"{name} of type {dtype}, not {', '.join([*_DTYPES, _BFLOAT16])}")
    if math.prod(shape) * np.dtype(stored).itemsize != end - start:
        raise ValueError(f"{name} of shape {shape} and type {dtype} in {end - start} bytes")
    values = np.frombuffer(numbers[start:end], stored).reshape(shape)
    if dtype == _BFLOAT16:  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _npz(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > MAX_BYTES:
            raise ValueError(f"{unpacked} bytes unpacked, more than {MAX_BYTES}")
        return {
            member.filename.removesuffix(".npy"): _npy(_member(archive, member))
            for member in members
        }


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:  # a member may hold more than it says: read no more
        return file.read(member.file_size)


def _npy_file(content: bytes) -> dict[str, np.ndarray]:
    return {"prompts": _npy(content)}


def _npy(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"version {version} of npy")
    shape, is_fortran, dtype = read_header(stream)
    if dtype.kind not in "fiu":
        raise ValueError(f"an array of {dtype}, not of numbers")
    rest = content[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError(f"shape {shape} of {dtype} in {len(rest)} bytes")
    order: Any = "F" if is_fortran else "C"
    return np.frombuffer(rest, dtype).reshape(shape, order=order).astype(np.float64)
