"""Loops over numbers, compiled to machine code at their first call."""

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from numba import njit

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function in machine code; it holds no lock of Python while it runs.

    The code is kept in the ``__pycache__`` beside the source (or where ``NUMBA_CACHE_DIR`` says),
    so that only the first process of all compiles. Not for a source inside a zip, as
    ``--py-files`` ships it: numba would keep that in the user's home, which an executor may not
    write to, under a path that is new for every application.

    A kernel calls compiled functions of its own file only: numba knows a kept one to be stale by
    its own file.

    Args:
        function: takes and gives numbers and numpy arrays. Arithmetic of unsigned integers wraps;
            no bound is checked.
    """
    if os.path.exists(function.__code__.co_filename):
        try:
            return _njit(function, cache=True)
        except RuntimeError:  # no folder that can be written to
            pass
    return _njit(function, cache=False)


def _njit(function: Callable[_P, _R], *, cache: bool) -> Callable[_P, _R]:
    machine_code: Callable[_P, _R] = njit(nogil=True, error_model="numpy", cache=cache)(function)
    return machine_code
