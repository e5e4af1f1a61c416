"""Export clips: what a recipe or a condition chooses, cut out of its videos into shards."""

from dataclasses import dataclass, replace
from typing import Final

from pyarrow import fs
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import score_videos
from jobs.chosen import chosen
from jobs.cut_clips import COLUMNS, MANIFEST, Cut, How, cutting
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.held import held
from jobs.runtime.tables import Warehouse
from jobs.sources.place import filesystem_of
from schemas import captions, clip_pairs, clips, gold, gold_clips, media, samples
from udfs.clip_record import SUCCESS

# Chosen: of clips of 10 s in 2 MB a shard is 2 GB, about what is read at a time from a store.
SHARD_CLIPS: Final = 1_000
_PARTS: Final = "_parts"
# Encoding takes longer than decoding. Chosen: 1080p is encoded by one busy core at half its speed.
_ENCODING_FACTOR: Final = 4.0


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Attributes:
        clips: that were chosen, and are in the manifest.
        failed: of them, that could not be cut.
        shards: number of tars.
    """

    clips: int
    failed: int
    shards: int


def videos_of(
    warehouse: Warehouse, signal_set: str, *, where: str | None = None, recipe: str | None = None
) -> DataFrame:
    """Videos with their chosen clips: `jobs.cut_clips.COLUMNS`, and `clips`, how many.

    A clip's caption is that of the first sample that brought it; of those that a recipe keeps.

    Args:
        warehouse: holds the clips.
        signal_set: whose clips, where no recipe says it.
        where: a condition on columns of `silver.clips`; null: none.
        recipe: its clips alone, with all their captions; null: all.

    Raises:
        NotFound: there are no clips yet, or the recipe has published none.
        ConfigError: Spark cannot make sense of the condition.
    """
    found = clips_of(warehouse, signal_set, where=where, recipe=recipe)
    texts = (
        [F.col("first.caption").alias("caption")]
        if recipe is None
        else [F.col("caption"), F.col("captions")]
    )
    first = (
        warehouse.read(samples.TABLE)
        .join(found.select("media_sha256").distinct(), "media_sha256", "left_semi")
        .groupBy("media_sha256")
        .agg(F.min_by(F.struct("sample_id", "caption"), "ingest_ordinal").alias("first"))
    )
    facts = [f.name for f in clips.SIGNALS if f.name not in ("start_frame", "phash_runs")]
    of_video = (
        found.join(first, "media_sha256", "left")
        .groupBy("media_sha256")
        .agg(
            F.sort_array(F.collect_list(F.struct("start_frame", *facts, *texts))).alias("clips"),
            F.first("first.sample_id").alias("sample_id"),
        )
    )
    place = [name for name in COLUMNS if name != "told"]
    told = F.struct(
        # A video whose samples are taken down meanwhile is named by its bytes.
        F.coalesce("sample_id", "media_sha256").alias("key"),
        "clips",
    )
    return of_video.join(warehouse.read(media.TABLE).select(*place), "media_sha256").select(
        *place,
        F.to_json(told, {"ignoreNullFields": "false"}).alias("told"),
        F.size("clips").alias("clips"),
    )


def clips_of(
    warehouse: Warehouse, signal_set: str, *, where: str | None, recipe: str | None
) -> DataFrame:
    """Rows of `silver.clips`; of clips that a recipe keeps, with `caption` and `captions`.

    Args, and what is raised, as of `videos_of`.
    """
    if recipe is None:
        return chosen(warehouse, clips.TABLE, signal_set, where)
    kept, signal_set = _published(warehouse, recipe)
    return chosen(warehouse, clips.TABLE, signal_set, where).join(kept, "clip_id")


def _published(warehouse: Warehouse, recipe: str) -> tuple[DataFrame, str]:
    """Clips that a recipe keeps, each with the texts of the first sample, and their signal set."""
    table = gold.table(recipe)
    there = [name for name in warehouse.tables() if name.startswith(gold_clips.PREFIX)]
    if table not in there:
        names = ", ".join(name.removeprefix("gold.") for name in there) or "none yet"
        raise NotFound(f"--recipe got {recipe}; published recipes of clips: {names}")
    rows = warehouse.read(table)
    of_sets = rows.select("clip_signal_set").distinct().head(1)  # gold holds those of one
    signal_set = of_sets[0].clip_signal_set if of_sets else ""
    first = F.min_by(F.struct("caption", "captions"), "ingest_ordinal").alias("first")
    kept = rows.groupBy("clip_id").agg(first).select("clip_id", "first.*")
    if warehouse.exists(captions.TABLE):
        kept = _with_later(kept, warehouse.read(captions.TABLE), signal_set)
    return kept, signal_set


def _with_later(kept: DataFrame, every: DataFrame, signal_set: str) -> DataFrame:
    """Kept clips with captions too that were added since they were paired, without scores."""
    known = {"annotator", "language", "text", "text_sha256"}
    caption = F.struct(
        *(
            (F.col(f.name) if f.name in known else F.lit(None).cast(f.dataType)).alias(f.name)
            for f in clip_pairs.CAPTION
        )
    )
    of_set = every.where(F.col("signal_set") == signal_set)
    of_clip = of_set.groupBy("clip_id").agg(F.sort_array(F.collect_list(caption)).alias("every"))
    later = F.expr(
        "filter(coalesce(every, array()),"
        " e -> NOT exists(captions, c -> c.annotator = e.annotator))"
    )
    joined = kept.join(of_clip, "clip_id", "left")
    return joined.withColumn("captions", F.concat("captions", later)).drop("every")


def new_folder(folder: str) -> tuple[fs.FileSystem, str]:
    """Where a folder lies that is to be filled.

    Raises:
        ConfigError: it holds something.
    """
    filesystem, inside = filesystem_of(folder)
    if filesystem.get_file_info(fs.FileSelector(inside, allow_not_found=True)):
        raise ConfigError(f"the folder {folder} holds files; allowed a new one; choose another")
    return filesystem, inside


def run(
    warehouse: Warehouse,
    config: Config,
    folder: str,
    *,
    where: str | None = None,
    recipe: str | None = None,
    how: How = "encoded",
    has_stills: bool = True,
    shard_clips: int = SHARD_CLIPS,
) -> Exported:
    """Cut clips of the configuration's signal set into shards `00000.tar`, `00001.tar` and so on.

    The manifest, a table of Parquet in the folder `manifest`, is written last: it has a row for
    each clip that was chosen, and a folder without it is not whole.

    Args:
        warehouse: holds the clips.
        config: names the signal set, and what a video may take.
        folder: that gets the shards; new, or empty.
        where: an SQL condition on columns of `silver.clips`; it may ask any table.
        recipe: exactly the clips of its table of gold, of the signal set that it was published by;
            null: any. With `where`, those of them that it holds for.
        how: "encoded" anew frame by frame, or "copied" from key frame to key frame.
        has_stills: with a JPEG of the frame in the middle; of encoded clips.
        shard_clips: most clips of a shard.

    Raises:
        NotFound: there are no clips, no such recipe has published any, or none is chosen.
        ConfigError: the folder holds something; or Spark cannot make sense of the condition.
    """
    if shard_clips < 1:
        raise ConfigError(f"--shard-clips got {shard_clips}; allowed from 1; change it")
    filesystem, inside = new_folder(folder)
    of = score_videos.side(config)
    videos = held(
        videos_of(warehouse, of.signal_set, where=where, recipe=recipe), clips=F.sum("clips")
    )
    if not videos.rows:
        raise NotFound(
            "no clip is chosen; change --where or --recipe, or the section video of the settings"
        )
    parts = f"{inside}/{_PARTS}"
    filesystem.create_dir(parts)
    limits = score_videos.limits(config)
    if how == "encoded":
        limits = replace(limits, deadline_factor=limits.deadline_factor + _ENCODING_FACTOR)
    cut = Cut(how, has_stills, limits.of_pass())
    work = cutting(cut, limits, f"{folder}/{_PARTS}", shard_clips)
    # So many parts that each makes about one shard; a video's clips stay together.
    tasks = max(1, min(videos.rows, -(-videos.said["clips"] // shard_clips)))
    rows = held(
        videos.frame.select(*COLUMNS)
        .repartition(tasks, "media_sha256")
        .sortWithinPartitions("media_sha256")
        .mapInArrow(work, MANIFEST),
        failed=F.count_if(F.col("status") != SUCCESS),
    )
    names = _named(rows.frame, filesystem, inside)
    shards = warehouse.spark.createDataFrame(names, "drawn string, shard string")
    told = rows.frame.withColumnRenamed("shard", "drawn").join(F.broadcast(shards), "drawn")
    told.select(*MANIFEST.names).coalesce(1).write.parquet(f"{folder}/manifest")
    filesystem.delete_dir(parts)
    return Exported(clips=rows.rows, failed=rows.said["failed"], shards=len(names))


def _named(rows: DataFrame, filesystem: fs.FileSystem, inside: str) -> list[tuple[str, str]]:
    """Give the shards that rows speak of numbers, in the order of their first clip.

    Returns:
        The name that was drawn and the one that was given, of each.
    """
    firsts = rows.groupBy("shard").agg(F.min("key").alias("key")).orderBy("key").collect()
    names = [(row.shard, f"{number:05d}.tar") for number, row in enumerate(firsts)]
    for drawn, name in names:
        filesystem.move(f"{inside}/{_PARTS}/{drawn}", f"{inside}/{name}")
    return names
