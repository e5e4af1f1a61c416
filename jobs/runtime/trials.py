"""A network's first run, in a child process with a deadline: what hangs or crashes is its own."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, ParamSpec, TypeVar

from jobs.runtime.errors import ModelProblem

P = ParamSpec("P")
Result = TypeVar("Result")
# chosen: opening and running the largest CLIP takes about a minute on two cores
DEADLINE_S: Final = 300.0


def within(
    deadline_s: float, name: str, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
) -> Result:
    """What a function gives, from a process of its own.

    Args:
        deadline_s: after this the process is killed.
        name: what is tried, for messages.
        function: of a module's top level; it and its arguments are pickled.
        args: for the function.
        kwargs: for the function.

    Raises:
        ModelProblem: the function's own, or it ended the process, or was not done in time.
    """
    # spawn, not fork: a fork of a process with ONNX Runtime's threads can hang by itself
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, function, args, kwargs), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(deadline_s):
            raise ModelProblem(
                f"model {name} was not done within {deadline_s:g} s; allowed a network that "
                "answers; give it more time with --deadline, or export it again"
            )
        is_done, answer = receiver.recv()
    except EOFError:
        child.join()
        raise ModelProblem(
            f"model {name} ended its process with code {child.exitcode}; allowed a network that "
            "loads and runs; export it again, or give the machine more memory"
        ) from None
    finally:
        child.kill()
        child.join()
        receiver.close()
    if not is_done:
        raise ModelProblem(answer)
    return answer  # type: ignore[no-any-return]  # what the function gave, pickled and read again


def _child(sender: Connection, function: Callable[..., object], args: Any, kwargs: Any) -> None:
    try:
        sender.send((True, function(*args, **kwargs)))
    except ModelProblem as error:
        sender.send((False, str(error)))
