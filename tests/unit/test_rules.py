import pickle
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.fetch.rules import AGENT, VERSION, rules
from jobs.guard import Guard
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError

CONTACT = "https://example.org/crawl"


def config(**fetch: Any) -> Config:
    return Config.model_validate(
        {
            "warehouse": "/w",
            "dumps": [{"name": "d", "path": "/d"}],
            "fetch": fetch,
            "ingest": {"max_pixels": 7},
        }
    )


def test_the_version_is_that_of_the_project() -> None:
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"

    assert tomllib.loads(project.read_text())["project"]["version"] == VERSION


def test_hosts_are_told_who_asks() -> None:
    made = rules(config(contact=CONTACT), Guard())

    assert made.user_agent == f"{AGENT}/{VERSION} (+{CONTACT})"


def test_without_a_contact_nothing_is_fetched() -> None:
    with pytest.raises(ConfigError, match=r"fetch\.contact"):
        rules(config(), Guard())


@pytest.mark.parametrize("contact", ["me", "https://x\r\nHost: y", "mailto:a b", "javascript:x"])
def test_a_contact_is_a_page_or_an_address_in_one_line(contact: str) -> None:
    with pytest.raises(ValidationError):
        config(contact=contact)


def test_a_network_that_is_none_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"fetch\.allow_networks"):
        rules(config(contact=CONTACT, allow_networks=["10.0.0.0/99"]), Guard())


def test_the_rules_travel_with_the_guard_and_the_limit_of_pixels() -> None:
    guard = Guard(min_bytes=3)
    made = rules(config(contact=CONTACT, allow_networks=["10.0.0.0/8"]), guard)

    assert (made.guard, made.max_pixels) == (guard, 7)
    again = pickle.loads(pickle.dumps(made))
    assert (again.settings, again.guard) == (made.settings, made.guard)
