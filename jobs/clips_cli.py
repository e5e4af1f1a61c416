"""`sluice clips export | frames`."""

from typing import Annotated, Final

import typer
from rich.console import Console

from jobs.options import ConfigOption, Configured, Guard, Opened, SetOption, VerboseOption
from jobs.runtime.errors import ConfigError

# What a command needs of Spark is imported inside it: `--help` must answer at once.

out: Final = Console()

WhereOption = Annotated[
    str | None, typer.Option(metavar="SQL", help="condition on silver.clips, e.g. 'NOT is_static'")
]
RecipeOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="the clips of gold.NAME, e.g. clips_high_quality")
]


def add_to(group: typer.Typer, guard: Guard, configured: Configured, opened: Opened) -> None:
    """Put the commands into a group.

    Args:
        group: the group of the command line.
        guard: turns our errors into one line and their exit code.
        configured: gives the configuration of a file and some overrides.
        opened: the warehouse of a configuration.
    """

    @group.command("export")
    @guard
    def export_(
        folder: Annotated[str, typer.Argument(help="that gets the shards; new, a path or URI")],
        where: WhereOption = None,
        recipe: RecipeOption = None,
        how: Annotated[
            str, typer.Option(help="encoded: exactly the clip's frames; copied: not encoded anew")
        ] = "encoded",
        stills: Annotated[
            bool, typer.Option(help="a JPEG of the frame in the middle of encoded clips")
        ] = True,
        shard_clips: Annotated[int, typer.Option(help="most clips of a shard")] = 1_000,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Cut clips out of their videos into WebDataset shards with a manifest."""
        from jobs import export_clips

        if how not in ("encoded", "copied"):
            raise ConfigError(f"--how got {how}; allowed encoded, copied; choose one")
        settings = configured(config, overrides)
        found = export_clips.run(
            opened(settings, verbose=verbose),
            settings,
            folder,
            where=where,
            recipe=recipe,
            how=how,  # type: ignore[arg-type]  # checked above
            has_stills=stills,
            shard_clips=shard_clips,
        )
        failed = f", {found.failed:,} of them failed" if found.failed else ""
        out.print(f"{found.clips:,} clips in {found.shards:,} shards{failed}: {folder}")

    @group.command("frames")
    @guard
    def frames(
        folder: Annotated[str, typer.Argument(help="that gets the files; new, a path or URI")],
        query: Annotated[
            str | None,
            typer.Option(metavar="TEXT", help="what to show; default: what a video came with"),
        ] = None,
        most: Annotated[
            int | None, typer.Option(help="frames of a video; default: 8 to 32 by its length")
        ] = None,
        where: WhereOption = None,
        recipe: RecipeOption = None,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Choose the few key frames that say most of each video, and of a query, into Parquet."""
        from jobs import choose_frames

        settings = configured(config, overrides)
        found = choose_frames.run(
            opened(settings, verbose=verbose),
            settings,
            folder,
            query=query,
            most=most,
            where=where,
            recipe=recipe,
        )
        out.print(f"{found.frames:,} frames of {found.videos:,} videos: {folder}")
        out.print(
            f"key frames: {found.keyframes:,}, of them like the one before"
            f" {found.merged_fraction:.0%}"
        )
        if found.clip_score is not None:
            out.print(
                f"best cosine with what was asked for, mean over videos: {found.clip_score:.3f};"
                f" of evenly spread frames {found.uniform_clip_score:.3f}"
            )
