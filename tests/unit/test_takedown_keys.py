from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.__main__ import app
from jobs.fetch import urls
from jobs.runtime.errors import ConfigError
from jobs.takedown.keys import Key, candidates, chosen

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize("given", [DIGEST[:32], DIGEST[:32].upper(), f"sample_id:{DIGEST[:32]}"])
def test_32_digits_are_a_sample(given: str) -> None:
    assert candidates(given) == (Key("sample_id", DIGEST[:32]),)


def test_a_url_is_known_by_its_normal_form() -> None:
    one, other = candidates("HTTP://Example.org:80/a#top"), candidates("http://example.org/a")

    assert one == other == (Key("url_sha256", urls.parse("http://example.org/a").url_sha256),)


def test_64_digits_are_what_is_known_of_them() -> None:
    among = candidates(DIGEST)

    assert chosen(DIGEST, among, {among[0]}) == Key("media_sha256", DIGEST)
    assert chosen(DIGEST, among, {among[1]}) == Key("url_sha256", DIGEST)
    for known in (set(), set(among)):
        with pytest.raises(ConfigError, match="allowed media_sha256:0123"):
            chosen(DIGEST, among, known)
    (told,) = candidates(f"media_sha256:{DIGEST}")
    assert chosen("", (told,), ()) == told


@pytest.mark.parametrize(
    "given",
    [
        "",
        "cat.jpg",
        DIGEST[:31],
        DIGEST + "0",
        "٣" * 32,
        f"sample_id:{DIGEST}",
        f"media_sha256:{DIGEST[:32]}",
        "media_sha256:",
        f"md5:{DIGEST[:32]}",
        "ftp://example.org/a",
        "https://",
        "http://user:password@example.org/",
        "'; DROP TABLE bronze.samples; --",
        f"{DIGEST[:32]}' OR '1'='1",
    ],
)
def test_what_is_no_key_is_refused_with_what_is(given: str) -> None:
    with pytest.raises(ConfigError, match=r"key got .*allowed a sample_id .* URL"):
        candidates(given)


def test_a_malformed_key_ends_with_code_2_before_anything_is_opened(tmp_path: Path) -> None:
    listed = tmp_path / "keys"
    listed.write_text(f"{DIGEST[:32]}\n\nno key\n")
    answered = CliRunner().invoke(app, ["takedown", "none.yaml", "--from", str(listed)])
    assert answered.exit_code == 2
    assert "'no key'" in answered.output

    answered = CliRunner().invoke(app, ["takedown", "none.yaml", "--from", "-"], input="x\n")
    assert answered.exit_code == 2
    assert "key got 'x'" in answered.output

    answered = CliRunner().invoke(app, ["takedown", "none.yaml", "--from", str(tmp_path / "none")])
    assert answered.exit_code == 2
    assert "--from got" in answered.output
