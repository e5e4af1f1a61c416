"""What a reviewer sees and sends back: a CSV to fill in, and the pictures that go with it."""

import base64
import csv
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from jobs.recipe import Recipe
from jobs.report.contact_sheet import excerpt, thumbnail
from jobs.report.measure import media
from jobs.report.page import is_unsafe
from jobs.runtime.errors import ConfigError
from jobs.runtime.tables import Warehouse

COLUMNS: Final = ("sample_id", "caption", "url", "label")
A_PAGE: Final = 200  # chosen: some 2 MB of thumbnails, which any browser opens at once
# What a spreadsheet takes for a formula, if a cell begins with it (OWASP: CSV injection).
FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r")
Row = Mapping[str, Any]


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """A line for each row that is asked, its label empty or as it was given.

    Args:
        rows: as `jobs.review.asked` gives them.
        path: the file; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # With a byte order mark: spreadsheets take the file for another encoding without.
    with path.open("w", encoding="utf-8-sig", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            caption, url = excerpt(row["caption"] or ""), excerpt(row["url"] or "")
            writer.writerow((row["sample_id"], harmless(caption), harmless(url), row["label"]))


def harmless(cell: str) -> str:
    """A cell that no spreadsheet runs.

    >>> harmless("=HYPERLINK(1)"), harmless("a cat")
    ("'=HYPERLINK(1)", 'a cat')
    """
    return f"'{cell}" if cell.startswith(FORMULA_SIGNS) else cell


def read_csv(path: Path) -> dict[str, str]:
    """Labels by sample id, blanks around them removed; other columns do not matter.

    Raises:
        ConfigError: it is no such file, or says two things of one sample.
    """
    labels: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = {"sample_id", "label"} - set(reader.fieldnames or ())
            if missing:
                raise ConfigError(
                    f"{path} has no column {', '.join(sorted(missing))}; allowed a CSV with"
                    " sample_id and label; fill in the one that `sluice review start` wrote"
                )
            for row in reader:
                key, label = (row["sample_id"] or "").strip(), (row["label"] or "").strip()
                if labels.setdefault(key, label) != label:
                    raise ConfigError(
                        f"{path} labels {key} as {labels[key]!r} and {label!r}; allowed one label"
                        " a sample; remove one line"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{path} cannot be read as CSV in UTF-8: {error}; save it as that, then try again"
        ) from None
    return labels


def write_sheets(
    warehouse: Warehouse,
    rows: Sequence[Row],
    folder: Path,
    *,
    name: str,
    recipe: Recipe,
    max_pixels: int,
    is_blurring: bool = True,
) -> list[Path]:
    """Contact sheets of everything that is asked, in the order of the CSV.

    Args:
        warehouse: where the bytes of the images are.
        rows: as `jobs.review.asked` gives them.
        folder: where to write.
        name: of the review.
        recipe: whose bound on the NSFW score says what is blurred.
        max_pixels: larger images are not opened.
        is_blurring: leave what may not be safe unrecognisable.

    Returns:
        The pages.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for number, start in enumerate(range(0, len(rows), A_PAGE), start=1):
        part = rows[start : start + A_PAGE]
        contents = media(warehouse, [row["media_sha256"] for row in part])
        shown = [
            {
                "number": start + place,
                "sample_id": row["sample_id"],
                "caption": excerpt(row["caption"] or ""),
                "image": thumbnail(
                    contents.get(row["media_sha256"]),
                    is_blurred=is_blurring and is_unsafe(row["nsfw_score"], recipe),
                    max_pixels=max_pixels,
                ),
            }
            for place, row in enumerate(part, start=1)
        ]
        path = folder / f"{name}-{number:03d}.html"
        path.write_text(
            render(name, shown, page=number, pages=-(-len(rows) // A_PAGE)),
            encoding="utf-8",
            errors="replace",
        )
        pages.append(path)
    return pages


def render(name: str, shown: Sequence[Row], *, page: int, pages: int) -> str:
    """One sheet as HTML; whatever comes from a dump is escaped.

    Args:
        name: of the review.
        shown: `number`, `sample_id`, `caption` and `image`, a JPEG, of each row.
        page: from 1.
        pages: how many there are.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inlined"] = _inlined
    # Read as a resource: on a cluster the package is a zip.
    template = (resources.files("jobs") / "review_sheet.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(name=name, rows=shown, page=page, pages=pages)


def _inlined(image: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
