"""What images are scored fastest with on a machine: `sluice models bench` measures, a run obeys.

A profile changes how fast a pass over images is, never what it gives: no signal's version and no
signal set knows of it.
"""

import datetime
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.models.card import Hex
from jobs.runtime import machine, strict_yaml
from jobs.runtime.config import AUTO, Config
from jobs.runtime.errors import ConfigError
from jobs.runtime.place import slots
from udfs.image_signals import BATCH_SIZE, DECODERS
from udfs.onnx_session import CUDA

PLACE: Final = Path("~/.cache/sluice/profiles.yaml")  # XDG Base Directory: can be measured again
_MAX_BYTES: Final = 2**20  # chosen: a thousand profiles
_HEADER: Final = "# Written by `sluice models bench`: what images are scored fastest with.\n"
MAX_BATCH: Final = 1024  # chosen: crops of 224 px as float32 are 600 MB then
_MOST: Final = 1024  # chosen: threads, processes and decoders of the largest machines

# One line of plain letters: it is printed.
_Name = Annotated[str, Field(pattern=rf"^[ -~]{{1,{machine.MAX_NAME}}}$")]


class _Part(BaseModel):
    # Strict: neither yes nor 2.0 is a number of images.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Setting(_Part):
    """How a pass over images is run.

    Attributes:
        batch_size: images that a network sees at once.
        intra_op_threads: threads of a network.
        processes: passes at a time: tasks of Spark.
        decoders: children of each that decode.
    """

    batch_size: int = Field(default=BATCH_SIZE, ge=1, le=MAX_BATCH)
    intra_op_threads: int = Field(default=1, ge=1, le=_MOST)
    processes: int = Field(default=1, ge=1, le=_MOST)
    decoders: int = Field(default=DECODERS, ge=1, le=_MOST)

    def __str__(self) -> str:
        """As a line of a log says it."""
        return (
            f"batch {self.batch_size}, processes {self.processes}, "
            f"threads {self.intra_op_threads}, decoders {self.decoders}"
        )


class Machine(_Part):
    """What the figures hold for.

    Attributes:
        cpu: model of the processor.
        cores: those that Spark's tasks have.
        gpu: model of the GPU, if networks may run on one.
    """

    cpu: _Name
    cores: int = Field(ge=1)
    gpu: _Name | None = None

    def __str__(self) -> str:
        """As a line of a log says it."""
        return f"{self.cores} cores of {self.cpu}" + (f" with {self.gpu}" if self.gpu else "")


class Figures(_Part):
    """What the setting gave: medians.

    Attributes:
        images_per_s: of all processes together.
        cpu_ms_per_image: of the processes and their children.
        memory_mb: of the same, what they share counted once.
        gain: images a second against those without a profile, in the same rounds.
    """

    images_per_s: float = Field(gt=0)
    cpu_ms_per_image: float = Field(ge=0)
    memory_mb: float = Field(ge=0)
    gain: float = Field(gt=0)


class Profile(_Part):
    """A setting, and what it was measured for.

    Attributes:
        machine: on which.
        provider: that ran the networks; null: none ran.
        onnxruntime: its version.
        measured: the day.
        signals: what was measured in the pass.
        models: `task.role` -> sha256 of the networks in it.
        setting: what was chosen.
        figures: what it gave.
    """

    machine: Machine
    provider: _Name | None
    onnxruntime: _Name
    measured: datetime.date
    signals: tuple[_Name, ...] = Field(min_length=1, strict=False)
    models: dict[_Name, Annotated[str, Field(pattern=Hex)]] = Field(min_length=1)
    setting: Setting
    figures: Figures

    @model_validator(mode="after")
    def _fits_its_machine(self) -> Self:
        threads = self.setting.processes * self.setting.intra_op_threads
        if threads > self.machine.cores:
            raise ValueError(
                f"got {self.setting.processes} processes of {self.setting.intra_op_threads} threads"
                f" on {self.machine.cores} cores; allowed no more threads than cores"
            )
        return self


class _File(_Part):
    profiles: tuple[Profile, ...] = Field(strict=False)


@dataclass(frozen=True)
class Found:
    """What a run does about profiles.

    Attributes:
        setting: null: none was measured for this.
        tasks: that score at a time; null: as many as Spark has room for.
        said: a line for whoever looks; null: there is nothing to say.
    """

    setting: Setting | None = None
    tasks: int | None = None
    said: str | None = None


def place(config: Config) -> Path | None:
    """The file of profiles; null: none is asked for."""
    named = config.scoring.profile
    if named is None:
        return None
    return PLACE.expanduser() if named == AUTO else Path(named)


def here(config: Config, cores: int) -> Machine:
    """This machine, as networks of a configuration see it.

    Args:
        config: says whether they may use a GPU.
        cores: that they have.
    """
    import onnxruntime as ort  # a run without profiles need not load it

    may = config.models.device != "cpu" and CUDA in ort.get_available_providers()
    return Machine(cpu=machine.cpu(), cores=cores, gpu=machine.gpu() if may else None)


def find(config: Config, networks: Mapping[str, str], master: str) -> Found:
    """The setting that was measured for these networks on this machine.

    Args:
        config: says where profiles are.
        networks: `task.role` -> sha256 of those that run on an image.
        master: Spark's.

    Raises:
        ConfigError: the file of profiles is not usable.
    """
    path = place(config)
    if path is None or not networks:
        return Found()
    if not path.exists():
        is_missed = config.scoring.profile != AUTO
        return Found(said=f"no profile: {path} is not there yet" if is_missed else None)
    known = read(path)
    cores = slots(master, machine.here())
    if cores is None:
        return Found(said=f"profiles in {path} are left aside: the workers are on other machines")
    wanted = here(config, cores)
    return _matching(known, path, wanted, dict(networks))


def _matching(
    known: tuple[Profile, ...], path: Path, wanted: Machine, networks: dict[str, str]
) -> Found:
    import onnxruntime as ort

    of_models = [profile for profile in known if profile.models == networks]
    of_machine = [profile for profile in of_models if profile.machine == wanted]
    for profile in of_machine:
        if profile.onnxruntime == ort.__version__:
            setting = profile.setting
            # Where there is one for each core, Spark deals them out: in smaller parts, as it likes.
            tasks = setting.processes if setting.processes < wanted.cores else None
            return Found(setting, tasks, f"by the profile of {profile.measured}: {setting}")
    if of_machine:
        why = f"onnxruntime {of_machine[0].onnxruntime}, here is {ort.__version__}"
    elif of_models:
        why = f"another machine, {of_models[0].machine}; here are {wanted}"
    elif known:
        why = "other models"
    else:
        return Found(said=f"no profile: {path} holds none")
    return Found(said=f"no profile: {path} is of {why}; `sluice models bench` measures anew")


def read(path: Path) -> tuple[Profile, ...]:
    """The profiles of a file.

    Raises:
        ConfigError: it cannot be read, or is not what `sluice models bench` writes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _unusable(path, str(error)) from error
    if len(content) > _MAX_BYTES:
        raise _unusable(path, f"more than {_MAX_BYTES} bytes")
    try:
        tree = strict_yaml.parse(content, origin="the file")
        return strict_yaml.validated(_File, tree).profiles
    except ConfigError as error:
        raise _unusable(path, str(error)) from error


def _unusable(path: Path, problem: str) -> ConfigError:
    return ConfigError(
        f"profile {path} got {problem}; allowed what `sluice models bench` writes; remove the file "
        "and measure again, or set scoring.profile to null"
    )


def write(path: Path, fresh: Profile) -> None:
    """Enter a profile into a file, in place of an earlier one of the same models and machine.

    Raises:
        ConfigError: what is there is no file of profiles, or it cannot be written.
    """
    known = read(path) if path.exists() else ()
    kept = [profile for profile in known if _measured_for(profile) != _measured_for(fresh)]
    plain = [
        profile.model_dump() | {"signals": list(profile.signals)} for profile in (*kept, fresh)
    ]
    content = _HEADER + yaml.safe_dump({"profiles": plain}, sort_keys=False, width=100)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)  # a run that reads meanwhile sees the old or the new
    except OSError as error:
        raise ConfigError(
            f"profile {path} got {error}; allowed a file that can be written; set scoring.profile"
        ) from error


def _measured_for(profile: Profile) -> tuple[Machine, dict[str, str]]:
    return profile.machine, profile.models
