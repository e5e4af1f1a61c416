"""What can stop a command, and the exit code each leaves behind.

SluiceError                1  anything below, or a failure of our own
├── ConfigError            2  the configuration or an argument is not usable
├── GateFailed             3  the quality gate refused: nothing was published
├── EnvironmentProblem     4  Java, a jar or a package is missing or of the wrong version
├── CheckpointBusy         5  another driver holds the checkpoint
├── ModelProblem           6  a model is missing, altered or not what its card says
├── LedgerMismatch         7  a batch's rows do not add up
├── NotFound               8  the key, table or run asked for does not exist
└── BreakerOpen            9  too much of a batch went wrong in one way: the stage stopped
"""

from typing import ClassVar


class SluiceError(Exception):
    """Root: the message says what, got, limit and what to do."""

    exit_code: ClassVar[int] = 1


class ConfigError(SluiceError):
    """The configuration or an argument is not usable."""

    exit_code = 2


class GateFailed(SluiceError):
    """The quality gate refused: nothing was published."""

    exit_code = 3


class EnvironmentProblem(SluiceError):
    """Java, a jar or a package is missing or of the wrong version."""

    exit_code = 4


class CheckpointBusy(SluiceError):
    """Another driver holds the checkpoint."""

    exit_code = 5


class ModelProblem(SluiceError):
    """A model is missing, altered or not what its card says."""

    exit_code = 6


class LedgerMismatch(SluiceError):
    """A batch's rows do not add up."""

    exit_code = 7


class NotFound(SluiceError):
    """The key, table or run asked for does not exist."""

    exit_code = 8


class BreakerOpen(SluiceError):
    """Too much of a batch went wrong in one way: the stage stopped."""

    exit_code = 9
