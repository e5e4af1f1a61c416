"""What is turned away before bronze: by its bytes, its header or a blocklist."""

import hashlib
import io
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from jobs.runtime.config import Blocklist as Listed
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError
from jobs.sources.place import scheme
from udfs.blocklist import Blocklist


@dataclass(frozen=True)
class Reject:
    """Why something is not kept.

    Attributes:
        reason: one of schemas.reject_reasons.
        detail: value and limit, or the blocklist's name.
        matched: the hash or domain that stands on a blocklist.
    """

    reason: str
    detail: str
    matched: str | None = None


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The rules of a configuration; travels to the workers, where the lists are opened.

    Attributes:
        min_bytes: of media.
        min_side_px: of the shorter side, by the header.
        max_aspect: longer side to shorter side; null: any.
        lists: (name, file) of each blocklist.
    """

    min_bytes: int = 0
    min_side_px: int = 0
    max_aspect: float | None = None
    lists: tuple[tuple[str, str], ...] = field(default=())

    def size(self, size_bytes: int, width_px: int, height_px: int) -> Reject | None:
        """What speaks against media of such a size; null if nothing does."""
        if size_bytes < self.min_bytes:
            return Reject("too_few_bytes", f"{size_bytes} bytes, least {self.min_bytes}")
        shorter_px, longer_px = sorted((width_px, height_px))
        if shorter_px < self.min_side_px:
            return Reject("too_few_pixels", f"shorter side {shorter_px}, least {self.min_side_px}")
        if self.max_aspect is not None and longer_px > self.max_aspect * shorter_px:
            return Reject("aspect_ratio", f"{width_px}x{height_px}, most {self.max_aspect:g}")
        return None

    def listed(self, keys: Iterable[tuple[str, str]]) -> Reject | None:
        """The first blocklist that holds one of the keys; null if none does.

        Args:
            keys: (kind, digest or host), kinds as `udfs.blocklist` has them.
        """
        met = dict(keys)
        for name, file in self.lists:
            blocklist = _opened(file)
            key = met.get(blocklist.kind)
            if key is not None and blocklist.holds(key):
                return Reject("blocklisted", f"on blocklist {name}", key)
        return None


@lru_cache(maxsize=64)  # chosen: the lists of a configuration; they are mapped, not read
def _opened(file: str) -> Blocklist:
    return Blocklist.load(file)


def guard(config: Config) -> Guard:
    """The rules of a configuration; its blocklists are sorted into files that workers map.

    Raises:
        ConfigError: a blocklist cannot be read, or a line of it is no digest or domain.
    """
    rules = config.guard
    return Guard(
        min_bytes=rules.min_bytes,
        min_side_px=rules.min_side_px,
        max_aspect=rules.max_aspect,
        lists=tuple((listed.name, _prepared(listed, config)) for listed in rules.blocklists),
    )


def _prepared(listed: Listed, config: Config) -> str:
    """The file that workers map: the list sorted, made once for each content of it."""
    if scheme(config.warehouse) is not None:
        raise ConfigError(
            f"guard.blocklists got {listed.name} with warehouse {config.warehouse};"
            " allowed with a warehouse that is a folder, which every worker can map"
        )
    try:
        content = Path(listed.path).read_bytes()
        name = hashlib.sha256(listed.kind.encode() + b"\n" + content).hexdigest()
        file = Path(config.warehouse) / "_blocklists" / f"{name}.npy"
        if not file.exists():
            made = Blocklist.parse(io.StringIO(content.decode("utf-8-sig")), listed.kind)
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_suffix(f".{uuid.uuid4().hex}")
            made.save(aside)
            aside.rename(file)
    except OSError as error:
        raise ConfigError(
            f"guard.blocklists got {listed.path}: {error.strerror}; allowed a file of digests or"
            " domains, one a line"
        ) from None
    except ValueError as error:
        raise ConfigError(f"guard.blocklists {listed.name}: {error}") from None
    return str(file)
