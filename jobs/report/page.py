"""The page: numbers, figures and thumbnails put into one static HTML file."""

import base64
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from jobs.models.card import Card
from jobs.recipe import BOUNDS, Recipe
from jobs.report import plots
from jobs.report.contact_sheet import excerpt, grid, thumbnail
from jobs.report.measure import BIN_WIDTHS, KEPT, Answer, measure, media
from jobs.runtime import lineage
from jobs.runtime.cards import find
from jobs.runtime.config import Config
from jobs.runtime.errors import NotFound
from jobs.runtime.lineage import Run
from jobs.runtime.tables import Warehouse
from schemas import gold, samples
from schemas.error_classes import ERROR_CLASSES

NUMBERS: Final = "report.json"  # what the page says in numbers, for programs
NSFW_SCORE: Final = "nsfw_score"
BLUR_FROM: Final = 0.5  # LAION-Aesthetics keeps punsafe < 0.5; a stricter recipe blurs from its own


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """One sample as people see it; `image` is a JPEG."""

    sample_id: str
    caption: str
    reasons: tuple[str, ...]
    clip_score: float | None
    nsfw_score: float | None
    is_blurred: bool
    image: bytes


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything the template shows.

    Attributes:
        recipe: whose decisions the page is about.
        run: the cycle that wrote it.
        run_link: where MLflow shows the run; null: it is read with `mlflow ui`.
        tracking_uri: where the run is recorded; null: it is not.
        docs_link: Data Docs, relative to the page.
        answers: question -> SQL and rows.
        figures: name -> SVG.
        sheets: `kept` or reason -> thumbnails.
        verdicts: suites as `jobs.runtime.quality` left them.
        cards: of the models that are configured.
        clip_recipes: whose decisions on clips it shows.
    """

    recipe: Recipe
    run: Run
    run_link: str | None
    tracking_uri: str | None
    docs_link: str
    answers: Mapping[str, Answer]
    figures: Mapping[str, str]
    sheets: Mapping[str, Sequence[Thumbnail]]
    verdicts: Sequence[Mapping[str, Any]]
    cards: Sequence[Card]
    clip_recipes: Sequence[Recipe] = ()

    @property
    def gold(self) -> str:
        """Name of the recipe's table."""
        return gold.table(self.recipe.name)

    @property
    def funnel(self) -> Mapping[str, int]:
        """The funnel's numbers; `undecided` is what no outcome accounts for yet."""
        counted = self.answers["funnel"].rows[0]
        names = ("quarantined", "rejected", "videos", "kept")
        outcomes = sum(counted[name] for name in names)
        return {**counted, "undecided": counted["met"] - outcomes}

    @property
    def sizes(self) -> Sequence[Mapping[str, int]]:
        """Samples by the shorter side of their images."""
        bins = self.answers["shorter_side_px"].rows
        return [
            {
                "shorter_side_from_px": int(start),
                "samples": sum(row["samples"] for row in of_size),
                "kept": sum(row["samples"] for row in of_size if row["is_kept"]),
            }
            for start, rows in groupby(bins, key=lambda row: float(row["bin"]))
            if (of_size := list(rows))
        ]

    @property
    def refusals(self) -> Sequence[Mapping[str, Any]] | None:
        """Critical results that the gate refused gold for; null: it was never asked."""
        for verdict in self.verdicts:
            if verdict["suite"] == self.gold:
                return [
                    result
                    for result in verdict["results"]
                    if result["severity"] == "critical" and not result["is_met"]
                ]
        return None


def write(
    warehouse: Warehouse,
    config: Config,
    recipe: Recipe,
    run: Run,
    *,
    folder: Path,
    clip_recipes: Sequence[Recipe] = (),
) -> Path:
    """Measure the warehouse and write the page, its figures and `report.json`.

    Returns:
        `folder/index.html`.

    Raises:
        NotFound: the recipe's tables do not exist.
        ModelProblem: a configured model has no card.
    """
    if not warehouse.exists(gold.table(recipe.name)):
        raise NotFound(
            f"table {gold.table(recipe.name)} is not in {warehouse.root}; run the pipeline first"
        )
    answers = measure(warehouse, recipe, run.run_id, clip_recipes=clip_recipes)
    tracking_uri = lineage.tracking_uri(config) if run.is_tracked else None
    is_served = tracking_uri is not None and tracking_uri.startswith("http")
    docs = Path(warehouse.root) / "_quality"
    page = Page(
        recipe=recipe,
        run=run,
        run_link=f"{tracking_uri}/#/runs/{run.run_id}" if is_served else None,
        tracking_uri=tracking_uri,
        docs_link=os.path.relpath(
            docs / "gx" / "uncommitted" / "data_docs" / "local_site" / "index.html", folder
        ),
        answers=answers,
        figures=figures(answers, recipe),
        sheets=_sheets(warehouse, answers["sheets"], recipe, config.ingest.max_pixels),
        verdicts=_verdicts(docs, [recipe, *clip_recipes]),
        cards=_cards(config),
        clip_recipes=clip_recipes,
    )
    return _save(page, folder)


def stored(folder: Path, recipe: Recipe) -> dict[str, Answer]:
    """What the report says in numbers, by question.

    Raises:
        NotFound: there is no report of this version of the recipe.
    """
    file = folder / NUMBERS
    tree = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if tree.get("recipe") != _named(recipe):
        raise NotFound(
            f"no report of recipe {recipe.name} {recipe.version} in {folder}; `sluice report`"
            " writes one"
        )
    return {name: Answer(a["sql"], tuple(a["rows"])) for name, a in tree["answers"].items()}


def _named(recipe: Recipe) -> dict[str, str]:
    return {"name": recipe.name, "version": recipe.version}


def render(page: Page) -> str:
    """The page as HTML; whatever comes from a dump is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "inlined": _inlined}
    # Read as a resource: on a cluster the package is a zip.
    template = (resources.files("jobs.report") / "page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        page=page, error_classes=ERROR_CLASSES, kept=KEPT
    )


def number(value: object) -> str:
    """A cell as people read it.

    >>> number(12345), number(0.123456), number(None), number(True)
    ('12,345', '0.1235', '-', 'yes')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def thresholds(recipe: Recipe, signal: str) -> dict[str, float]:
    """What a recipe asks of a score: a label for each bound -> the bound."""
    asked = [rule for rule in recipe.rules if rule.signal == signal]
    of_all = [("", bound, limit) for rule in asked for bound, limit in rule.limits.items()]
    of_one = [
        (f"{language} ", bound, limit)
        for rule in asked
        for language, limits in (rule.of_language or {}).items()
        for bound, limit in limits.items()
    ]
    return {f"{of}kept: {BOUNDS[bound]} {n:.4g}": n for of, bound, n in (*of_all, *of_one)}


def figures(answers: Mapping[str, Answer], recipe: Recipe) -> dict[str, str]:
    """The funnel and the histograms: name -> SVG."""
    counted = answers["funnel"].rows[0]
    rejected = [
        (f"rejected: {row['reason']}", row["samples"], plots.REJECTED_COLOUR)
        for row in answers["first_reasons"].rows
    ]
    steps = [
        ("met", counted["met"], plots.KEPT_COLOUR),
        ("quarantined", counted["quarantined"], plots.QUARANTINED_COLOUR),
        *rejected,
        *([("videos", counted["videos"], plots.KEPT_COLOUR)] if counted["videos"] else []),
        ("kept", counted["kept"], plots.KEPT_COLOUR),
        ("in gold", counted["gold"], plots.KEPT_COLOUR),
    ]
    return {"funnel": plots.funnel(steps)} | {
        name: _histogram(name, answers[name], recipe) for name in BIN_WIDTHS
    }


def _histogram(name: str, answer: Answer, recipe: Recipe) -> str:
    is_log10 = name == "sharpness"  # spreads over decades
    limits = thresholds(recipe, name)
    if is_log10:
        limits = {label: math.log10(limit) for label, limit in limits.items() if limit > 0}
    return plots.histogram(
        name, answer.rows, width=BIN_WIDTHS[name], thresholds=limits, is_log10=is_log10
    )


def is_unsafe(nsfw_score: float | None, recipe: Recipe) -> bool:
    """Whether people should not see the image unasked; an image without a score is."""
    limits = [BLUR_FROM, *thresholds(recipe, NSFW_SCORE).values()]
    return nsfw_score is None or not nsfw_score < min(limits)


def _sheets(
    warehouse: Warehouse, chosen: Answer, recipe: Recipe, max_pixels: int
) -> dict[str, list[Thumbnail]]:
    contents = media(warehouse, [row["media_sha256"] for row in chosen.rows])

    def shown(row: Mapping[str, Any]) -> Thumbnail:
        is_blurred = is_unsafe(row["nsfw_score"], recipe)
        return Thumbnail(
            sample_id=row["sample_id"],
            caption=excerpt(row["caption"]),
            reasons=tuple(dict.fromkeys(row["reasons"])),
            clip_score=row["clip_score"],
            nsfw_score=row["nsfw_score"],
            is_blurred=is_blurred,
            image=thumbnail(
                contents.get(row["media_sha256"]), is_blurred=is_blurred, max_pixels=max_pixels
            ),
        )

    sheets = {
        sheet: [shown(row) for row in rows]
        for sheet, rows in groupby(chosen.rows, key=lambda row: str(row["sheet"]))
    }
    return dict(sorted(sheets.items(), key=lambda item: (item[0] != KEPT, item[0])))


def _verdicts(docs: Path, recipes: Iterable[Recipe]) -> list[dict[str, Any]]:
    suites = [samples.TABLE, *(gold.table(recipe.name) for recipe in recipes)]
    stored = (docs / f"{suite}.json" for suite in suites)
    return [json.loads(file.read_text(encoding="utf-8")) for file in stored if file.is_file()]


def _cards(config: Config) -> list[Card]:
    return [find(name, task)[0] for task, name in config.models_in_use().items()]


def _inlined(content: str | bytes, mime: str) -> str:
    """A data URI: the page stays one file that asks for nothing."""
    encoded = content.encode() if isinstance(content, str) else content
    return f"data:{mime};base64,{base64.b64encode(encoded).decode()}"


def _save(page: Page, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("contact_*.jpg"):  # a reason may have no sample any more
        stale.unlink()
    for name, svg in page.figures.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    for name, thumbnails in page.sheets.items():
        (folder / f"contact_{name}.jpg").write_bytes(grid([t.image for t in thumbnails]))
    (folder / NUMBERS).write_text(_numbers(page), encoding="utf-8")
    index = folder / "index.html"
    index.write_text(render(page), encoding="utf-8")
    return index


def _numbers(page: Page) -> str:
    """What the page says in numbers, for programs; no captions."""
    answers = {
        name: {"sql": answer.sql, "rows": answer.rows}
        for name, answer in page.answers.items()
        if name != "sheets"
    }
    tree = {
        "recipe": _named(page.recipe),
        "run": {"run_id": page.run.run_id, "is_tracked": page.run.is_tracked},
        "funnel": page.funnel,
        "quality": page.verdicts,
        "models": [card.model_dump(mode="json", exclude={"training"}) for card in page.cards],
        "answers": answers,
    }
    return json.dumps(tree, indent=1, default=float)  # Spark's decimals
