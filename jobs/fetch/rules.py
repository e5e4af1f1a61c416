"""How a run fetches: its manners and its limits, as they travel to the workers."""

from dataclasses import dataclass, field
from typing import Final

from jobs import VERSION
from jobs.fetch.addresses import Allowed
from jobs.guard import Guard
from jobs.runtime.config import Config, Fetch
from jobs.runtime.errors import ConfigError

AGENT: Final = "Sluice"  # the token that robots.txt and X-Robots-Tag know us by


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Everything that decides about a request.

    Attributes:
        settings: the configuration's own.
        allowed: what a connection may lead to.
        guard: what is turned away by its bytes, header or a blocklist.
        max_pixels: width x height that a header may declare.
        silent: hosts that are not asked: batches before let all of theirs run into deadlines.
    """

    settings: Fetch
    allowed: Allowed
    guard: Guard = field(default_factory=Guard)
    max_pixels: int
    silent: frozenset[str] = frozenset()

    @property
    def user_agent(self) -> str:
        """Who asks, and where the one who runs it is to be had."""
        return f"{AGENT}/{VERSION} (+{self.settings.contact})"


def rules(config: Config, guard: Guard) -> Rules:
    """The rules of a configuration.

    Raises:
        ConfigError: no contact, or a network that is none.
    """
    settings = config.fetch
    if settings.contact is None:
        raise ConfigError(
            "fetch.contact got nothing; hosts must be able to reach whoever asks them: allowed a"
            " page or mailto: address of yours, e.g. fetch.contact=https://example.org/crawl"
        )
    try:
        allowed = Allowed(networks=settings.allow_networks, ports=settings.allow_ports)
    except ValueError as error:
        raise ConfigError(f"fetch.allow_networks: {error}") from None
    return Rules(
        settings=settings, allowed=allowed, guard=guard, max_pixels=config.ingest.max_pixels
    )
