"""The report's numbers: every one is the answer to an SQL statement that the page shows.

Aggregations only, but for the few thumbnails: it costs scans of narrow columns, never rows held.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from jobs.media import COLUMNS, Files
from jobs.recipe import Recipe
from jobs.runtime.tables import Warehouse
from schemas import clip_pairs, clips, gold
from schemas.decisions import TAKEN_DOWN

KEPT: Final = "kept"
# Of a table that is made when the first video comes.
CLIPS: Final = """\
SELECT begins_by, count(*) AS clips, round(sum(end_ms - start_ms) / 1000, 1) AS seconds,
  count_if(is_static) AS static, count_if(has_audio) AS with_sound,
  round(avg(motion_score), 3) AS mean_motion, round(avg(sharpness_mean), 1) AS mean_sharpness
FROM silver.clips
GROUP BY begins_by
ORDER BY clips DESC, begins_by"""
# Statements that are asked together: of a small one most is planning, the work of one thread
# (chosen: as many as a small machine has cores).
AT_A_TIME: Final = 4
THUMBNAILS: Final = 12  # chosen: a sheet of 2 x 6 or 3 x 4, enough to see what a rule catches
LANGUAGES: Final = 20  # chosen: what one looks through

# Bins by SQL, so that a histogram is as small over 10^8 rows as over 1,000.
BINS: Final = {
    "clip_score": "floor(p.clip_score / 0.02) * 0.02",  # 100 bins over [-1, 1]
    "nsfw_score": "least(floor(i.nsfw_score / 0.02), 49) * 0.02",  # 50 bins; 1 joins the last
    "sharpness": "floor(log10(greatest(i.sharpness, 0.1)) / 0.1) * 0.1",  # tenths of a decade
    "shorter_side_px": "pow(2, floor(log2(least(i.width_px, i.height_px))))",  # doubling
}
# Of those that are drawn, on an even scale.
BIN_WIDTHS: Final = {"clip_score": 0.02, "nsfw_score": 0.02, "sharpness": 0.1}
# What was taken down is neither among what was met nor among the outcomes.
_GONE: Final = "(SELECT key AS sample_id FROM ops.tombstones WHERE kind = 'sample_id')"
# What stands in quarantine: retried inputs have another outcome by now, or wait for one.
STANDING: Final = f"""\
ops.quarantine LEFT ANTI JOIN ops.retries USING (quarantine_id)
  LEFT ANTI JOIN {_GONE} gone USING (sample_id)"""
# What was turned away; the URL of what was fetched, and is gone, is listed no more.
TURNED_AWAY: Final = f"""\
ops.rejects r LEFT ANTI JOIN {_GONE} gone ON r.stage = 'fetch' AND r.sample_id = gone.sample_id
  WHERE r.reason <> 'already_present'"""
# The same by inputs: a video is refused once, whatever the number of samples that are it.
REFUSED: Final = f"""(
  SELECT stage, error_class FROM {STANDING} WHERE stage <> 'score_videos'
  UNION ALL
  SELECT refused.stage, refused.error_class
  FROM (SELECT * FROM {STANDING} WHERE stage = 'score_videos') refused
  JOIN bronze.samples USING (media_sha256)
)"""


@dataclass(frozen=True)
class Answer:
    """A statement as it was run, and its rows."""

    sql: str
    rows: tuple[dict[str, Any], ...]


def measure(
    warehouse: Warehouse, recipe: Recipe, run_id: str, *, clip_recipes: Sequence[Recipe] = ()
) -> dict[str, Answer]:
    """Ask everything the page shows.

    Returns:
        name of the question -> its answer; the names are those of `questions`, but of `BINS` in
        place of `distributions`, and `clips` and `clip_outcomes` where there are any.
    """
    ledger = ask(warehouse, _signal_set(recipe))
    signal_set = ledger.rows[0]["signal_set"] if ledger.rows else ""
    asked = dict(questions(recipe, run_id, signal_set))
    if warehouse.exists(clips.TABLE):
        asked["clips"] = CLIPS
    if clip_recipes and warehouse.exists(clip_pairs.TABLE):
        asked["clip_outcomes"] = clip_outcomes(clip_recipes)
    warehouse.register(*asked.values())
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        rows = pool.map(partial(_asked, warehouse), asked.values())
        answers = dict(zip(asked, rows, strict=True))
    return {"signal_set": ledger, **answers, **_by_signal(answers.pop("distributions"))}


def _by_signal(distributions: Answer) -> dict[str, Answer]:
    """The bins of each signal, as an answer of its own."""
    return {
        name: Answer(
            distributions.sql, tuple(row for row in distributions.rows if row["signal"] == name)
        )
        for name in BINS
    }


def clip_outcomes(clip_recipes: Sequence[Recipe]) -> str:
    """SQL: what became of clips by each recipe version, kept or their first reason."""
    versions = ", ".join(f"('{recipe.name}', '{recipe.version}')" for recipe in clip_recipes)
    return f"""\
SELECT recipe, coalesce(first_reason, '{KEPT}') AS outcome, count(*) AS clips
FROM ops.current_decisions
WHERE (recipe, recipe_version) IN ({versions})
  AND first_reason IS DISTINCT FROM '{TAKEN_DOWN}'
GROUP BY recipe, first_reason
ORDER BY recipe, first_reason IS NOT NULL, clips DESC, first_reason"""


def ask(warehouse: Warehouse, sql: str) -> Answer:
    """Run one statement."""
    warehouse.register(sql)
    return _asked(warehouse, sql)


def _asked(warehouse: Warehouse, sql: str) -> Answer:
    return Answer(sql, tuple(row.asDict() for row in warehouse.spark.sql(sql).collect()))


def media(warehouse: Warehouse, sha256s: Sequence[str]) -> dict[str, bytes]:
    """Bytes of exactly these media, of those that their dumps still hold.

    The batches that brought them are looked up first: Delta then skips every other file, where
    a search by hash alone would read the pixels of the whole table.
    """
    if not sha256s:
        return {}
    keys = ", ".join(f"'{key}'" for key in sorted(set(sha256s)))
    where = f"FROM bronze.media WHERE media_sha256 IN ({keys})"
    found = ask(warehouse, f"SELECT DISTINCT batch {where}").rows
    batches = ", ".join(f"'{row['batch']}'" for row in found)
    if not batches:
        return {}
    rows = ask(warehouse, f"SELECT {', '.join(COLUMNS)} {where} AND batch IN ({batches})").rows
    files = Files()
    contents = {row["media_sha256"]: files.content(row) for row in rows}
    files.close()
    return {key: bytes(content) for key, content in contents.items() if content is not None}


def _signal_set(recipe: Recipe) -> str:
    """The signal set that the recipe version last decided on: the end of its checkpoint."""
    return f"""\
SELECT substring_index(checkpoint, '-', -1) AS signal_set
FROM ops.batches
WHERE stage = 'curate' AND checkpoint LIKE '{recipe.name}-{recipe.version}-%'
ORDER BY started_at DESC
LIMIT 1"""


def questions(recipe: Recipe, run_id: str, signal_set: str) -> Mapping[str, str]:
    """Every question of the page: name -> SQL over the tables by their names."""
    version = (
        f"recipe = '{recipe.name}' AND recipe_version = '{recipe.version}'"
        f" AND first_reason IS DISTINCT FROM '{TAKEN_DOWN}'"
    )
    decided = f"""\
FROM ops.current_decisions d
JOIN silver.pairs p ON p.sample_id = d.sample_id AND p.signal_set = '{signal_set}'"""
    with_image = f"""\
{decided}
JOIN silver.image_signals i
  ON i.media_sha256 = p.media_sha256 AND i.signal_set = p.image_signal_set"""
    with_text = f"""\
{decided}
JOIN silver.text_signals t
  ON t.text_sha256 = p.text_sha256 AND t.signal_set = p.text_signal_set"""
    bins = "".join(f",\n  '{name}', CAST({bin_} AS DOUBLE)" for name, bin_ in BINS.items())
    of_version = f"WHERE d.recipe = '{recipe.name}' AND d.recipe_version = '{recipe.version}'"
    return {
        "funnel": f"""\
WITH refused AS (
  SELECT count(*) AS inputs, count_if(stage IN ('ingest', 'fetch')) AS before_bronze,
    count_if(stage = 'fetch') AS by_fetch, count_if(stage = 'score_videos') AS videos
  FROM {REFUSED}
), turned_away AS (
  SELECT count(*) AS inputs, count_if(stage = 'fetch') AS by_fetch
  FROM {TURNED_AWAY}
), arrived AS (
  SELECT count(*) AS samples, count_if(batch LIKE '%.fetch') AS by_fetch,
    count_if(modality = 'video_text') AS videos
  FROM bronze.samples
), listed AS (
  SELECT count(DISTINCT sample_id) AS samples FROM bronze.urls
), decided AS (
  SELECT count_if(NOT is_kept) AS rejected, count_if(is_kept) AS kept
  FROM ops.current_decisions WHERE {version}
)
SELECT
  arrived.samples + refused.before_bronze + turned_away.inputs
    + listed.samples - arrived.by_fetch - refused.by_fetch - turned_away.by_fetch AS met,
  refused.inputs AS quarantined,
  decided.rejected + turned_away.inputs AS rejected,
  arrived.videos - refused.videos AS videos,
  decided.kept AS kept,
  (SELECT count(*) FROM {gold.table(recipe.name)}) AS gold
FROM refused, turned_away, arrived, listed, decided""",
        "first_reasons": f"""\
SELECT reason, count(*) AS samples
FROM (
  SELECT first_reason AS reason FROM ops.current_decisions WHERE {version} AND NOT is_kept
  UNION ALL
  SELECT reason FROM {TURNED_AWAY}
)
GROUP BY reason
ORDER BY samples DESC, reason""",
        "overlap": f"""\
WITH named AS (
  SELECT array_distinct(transform(reasons, r -> r.reason)) AS names
  FROM ops.current_decisions
  WHERE {version} AND NOT is_kept
)
SELECT reason, other, count(*) AS samples
FROM named LATERAL VIEW explode(names) AS reason LATERAL VIEW explode(names) AS other
GROUP BY reason, other
ORDER BY reason, other""",
        "quarantine": f"""\
SELECT error_class, stage, count(*) AS inputs
FROM {REFUSED}
GROUP BY error_class, stage
ORDER BY inputs DESC, error_class""",
        # All of them by one pass over what was decided.
        "distributions": f"""\
SELECT measured.signal, measured.bin, d.is_kept, count(*) AS samples
{with_image}
LATERAL VIEW stack({len(BINS)}{bins}) measured AS signal, bin
{of_version} AND measured.bin IS NOT NULL
GROUP BY measured.signal, measured.bin, d.is_kept
ORDER BY measured.signal, measured.bin, d.is_kept""",
        "languages": f"""\
SELECT t.language, count(*) AS samples, count_if(d.is_kept) AS kept,
  round(avg(t.language_score), 2) AS mean_confidence
{with_text}
{of_version}
GROUP BY t.language
ORDER BY samples DESC, t.language
LIMIT {LANGUAGES}""",
        "sheets": f"""\
WITH chosen AS (
  SELECT * FROM (
    SELECT sample_id, coalesce(first_reason, '{KEPT}') AS sheet, reasons,
      row_number() OVER (PARTITION BY first_reason ORDER BY sample_id) AS place
    FROM ops.current_decisions
    WHERE {version}
  ) WHERE place <= {THUMBNAILS}
)
SELECT c.sheet, c.sample_id, left(s.caption, 200) AS caption, s.media_sha256,
  p.clip_score, i.nsfw_score, transform(c.reasons, r -> r.reason) AS reasons
FROM chosen c
JOIN bronze.samples s ON s.sample_id = c.sample_id
JOIN silver.pairs p ON p.sample_id = c.sample_id AND p.signal_set = '{signal_set}'
JOIN silver.image_signals i
  ON i.media_sha256 = p.media_sha256 AND i.signal_set = p.image_signal_set
ORDER BY c.sheet, c.place""",
        "ledger": """\
SELECT stage, count(*) AS batches, sum(rows_in) AS rows_in, sum(rows_kept) AS kept,
  sum(rows_rejected) AS rejected, sum(rows_quarantined) AS quarantined,
  sum(rows_reused) AS reused, round(sum(duration_s), 1) AS seconds,
  bool_and(rows_in = rows_kept + rows_rejected + rows_quarantined) AS adds_up
FROM ops.batches
GROUP BY stage
ORDER BY min(started_at)""",
        "this_run": f"""\
SELECT count(*) AS batches, coalesce(sum(rows_in), 0) AS rows_in
FROM ops.batches
WHERE run_id = '{run_id}'""",
        "versions": """\
SELECT name AS table, max(version) AS version
FROM ops.batches LATERAL VIEW explode(output_versions) AS name, version
GROUP BY name
ORDER BY name""",
        "models": """\
SELECT 'image' AS side, signal_set, clip_model, nsfw_model, count(*) AS scored
FROM silver.image_signals GROUP BY signal_set, clip_model, nsfw_model
UNION ALL
SELECT 'text', signal_set, clip_model, NULL, count(*)
FROM silver.text_signals GROUP BY signal_set, clip_model
ORDER BY side, signal_set""",
    }
