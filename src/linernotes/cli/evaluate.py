"""``linernotes evaluate ...``: whether attributions, and the model, are any good."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from linernotes.cli.checks import check_places
from linernotes.cli.options import (
    CatalogueOption,
    JsonOption,
    MethodOption,
    ModelOption,
    SettingsOption,
    method_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, stdout
from linernotes.cli.truth import OutOption, told, truth_app
from linernotes.settings.reading import read_settings

evaluate_app = typer.Typer(no_args_is_help=True, help="Measure whether attributions, and the model, are any good.")
evaluate_app.add_typer(truth_app)


@evaluate_app.command("self-influence")
@plainly
@method_flags
def evaluate_self_influence(
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    segments: Annotated[
        int, typer.Option(help="Training segments to unlearn, each of another track as far as there are.")
    ] = 20,
    method: MethodOption = None,
    settings: SettingsOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Take training segments themselves as queries: each one's own track must come first."""
    chosen, values = read_settings(method, settings, flags)
    check_places(model, catalog)
    from linernotes import api

    with Bars() as bars:
        ranks = api.self_influence(model, catalog, segments, chosen, on_progress=bars, **values.model_dump())
    found = api.tell_self_influence(chosen, ranks)
    if told(found, out, as_json):
        return
    table = Table("track", "from", "rank of its track", "rank of the segment", box=None, header_style="dim")
    for rank in ranks:
        table.add_row(escape(rank.title), f"{rank.start_s:.0f} s", f"{rank.track_rank:g}", f"{rank.segment_rank:g}")
    stdout.print(table)
    a = found.about
    stdout.print(
        f"\n{a['first']} of {len(ranks)} segments have their own track first "
        f"({a['first_share']:.2f} \\[{a['first_share_low']:.2f},{a['first_share_high']:.2f}]); mean rank {a['mean_rank']:.2f}"
    )


@evaluate_app.command("model")
@plainly
def evaluate_model(
    clips: Annotated[int, typer.Option(min=1, help="Clips to generate.")] = 96,
    every: Annotated[int, typer.Option(min=1, help="Hear every n-th track only, to see that it runs.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure the built-in model: what its codec keeps, and whether clips have the instrument their prompt names."""
    from linernotes import api

    with Bars() as bars:
        f = api.model_fidelity(clips, on_progress=bars, every=every)
    if as_json:
        print_json(f.__dict__)
        return
    table = Table("what", "measured", "bar", box=None, header_style="dim")
    lost = 100 * (f.instrument_before - f.instrument_after)
    table.add_row(
        f"chroma correlation, original and decoded ({f.tracks} tracks never trained on)",
        f"{f.chroma_correlation:.3f}",
        ">= 0.9",
    )
    table.add_row("instrument named, original sound", f"{100 * f.instrument_before:.1f} %", "")
    table.add_row(
        "instrument named, decoded sound", f"{100 * f.instrument_after:.1f} % ({lost:.1f} points lost)", "<= 5 points lost"
    )
    table.add_row(
        f"instrument of the prompt found ({f.clips} generated clips)", f"{100 * f.instrument_generated:.1f} %", ">= 95 %"
    )
    stdout.print(table)
