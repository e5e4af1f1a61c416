"""The list that a reviewer fills in, and what comes back."""

import csv
from pathlib import Path

import pytest

from jobs import recipe, review_lists, set_name
from jobs.review import check_labels
from jobs.review_lists import read_csv, render, write_csv
from jobs.runtime.errors import ConfigError

HOSTILE = '=HYPERLINK("http://x")\x00\n\u202e\ud800 <script>alert(\'x\')</script>, "quoted"'


THRESHOLDS = {"clip_score": 0.2, "nsfw_score": 0.5}


class Registered:
    """A warehouse that is asked for nothing but its names."""

    def register(self) -> None:
        pass


def row(sample_id: str, caption: str | None = "a cat") -> dict[str, object]:
    return {
        "sample_id": sample_id,
        "caption": caption,
        "url": None,
        "media_sha256": "m",
        "nsfw_score": None,
        "label": None,
    }


def test_a_list_comes_back_as_it_was_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.csv"
    write_csv([row("a"), row("b", HOSTILE), row("c", None)], path)
    lines = list(csv.reader(path.open(encoding="utf-8-sig", newline="")))

    assert [len(line) for line in lines] == [4] * 4
    assert lines[2][1].startswith("'=")
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([lines[0], *([*line[:3], " bad "] for line in lines[1:])])
    assert read_csv(path) == {"a": "bad", "b": "bad", "c": "bad"}


def test_a_list_as_it_was_written_has_no_label(tmp_path: Path) -> None:
    write_csv([row("a")], tmp_path / "r.csv")

    with pytest.raises(ConfigError, match="1 of 1 rows have no label, a;"):
        check_labels(read_csv(tmp_path / "r.csv"), {"a"})


def test_other_columns_and_their_order_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("note,label,sample_id\nx,good,a\n,bad,b\n,bad,b\n")

    assert read_csv(path) == {"a": "good", "b": "bad"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no column label, sample_id"),
        (b"sample_id\na\n", "has no column label"),
        (b"sample_id,label\na,x\na,y\n", "labels a as 'x' and 'y'"),
        (b"sample_id,label\n\xff\xfe,x\n", "cannot be read as CSV in UTF-8"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=said):
        read_csv(path)


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_csv(tmp_path / "none.csv")


def test_a_short_line_has_no_label(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("sample_id,label\na\n")

    assert read_csv(path) == {"a": ""}


def test_a_sheet_escapes_what_a_dump_says_and_tells_no_roles() -> None:
    shown = {"number": 1, "sample_id": "a", "caption": "<script>x</script>", "image": b"jpeg"}
    page = render("r", [shown], page=1, pages=2)

    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "Sheet 1 of 2" in page
    assert "data:image/jpeg;base64,anBlZw==" in page
    assert not {"audit", "representative"} & set(page.lower().split())
    assert not {"role", "representative_id"} & set(review_lists.COLUMNS)


def test_sheets_show_every_row_once_and_blur_what_may_not_be_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[int] = []

    def media(_: object, sha256s: list[str]) -> dict[str, bytes]:
        asked_for.append(len(sha256s))
        return {"m": b"damaged"}

    blurred: list[bool] = []

    def thumbnail(_: bytes | None, *, is_blurred: bool, max_pixels: int) -> bytes:
        assert max_pixels == 10
        blurred.append(is_blurred)
        return b"jpeg"

    monkeypatch.setattr(review_lists, "A_PAGE", 2)
    monkeypatch.setattr(review_lists, "media", media)
    monkeypatch.setattr(review_lists, "thumbnail", thumbnail)
    safe = [row("safe") | {"nsfw_score": 0.01}]
    pages = review_lists.write_sheets(
        Registered(),  # type: ignore[arg-type]
        [*safe, row("b"), row("c", HOSTILE)],
        tmp_path / "sheets",
        name="r",
        recipe=recipe.load("default", overrides={}, thresholds=THRESHOLDS),
        max_pixels=10,
    )

    assert [page.name for page in pages] == ["r-001.html", "r-002.html"]
    assert asked_for == [2, 1]
    assert blurred == [False, True, True]
    written = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert [written.count(f"<b>{number}</b>") for number in (1, 2, 3, 4)] == [1, 1, 1, 0]


@pytest.mark.parametrize("name", ["", "1a", "A", "a-b", "a/b", "../x", "a" * 41, "a\n", "é"])
def test_a_name_that_could_be_no_table_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="review got name"):
        set_name.checked("review", name)
