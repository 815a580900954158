"""Verbs about people: whose a clip is, what they get over a period, and whether a record can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.checks import check_attribution, clips_in
from linernotes.cli.options import JsonOption, given, settings_flags
from linernotes.cli.output import Bars, plainly, print_json, print_table, stderr, stdout
from linernotes.demo.places import require_catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.settings.engine import RetrainEngineSettings
from linernotes.settings.paths import require_file, require_folder, require_there
from linernotes.settings.reading import checked

FIRST = 20  # parties a terminal shows

app = typer.Typer()


@app.command("credits")
@plainly
def credit(
    attributions: Annotated[
        list[Path],
        typer.Argument(
            help="The calibrated attribution.json of each clip, their folders, or a folder of these."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for credits.json and .csv of one clip; the attribution's if left out."
        ),
    ] = None,
    rights: Annotated[
        Path | None,
        typer.Option(help="Table of rights; the one kept beside the catalogue, or its artists, if left out."),
    ] = None,
    rule: Annotated[
        Literal["proportion", "equal"],
        typer.Option(help="How named tracks share: in proportion to their expected effects, or equally."),
    ] = "proportion",
    smallest_share: Annotated[
        str, typer.Option(help="Parties with less of a right are not paid: 0.001, or 0.1 %.")
    ] = "0",
    catalog: Annotated[
        str | None, typer.Option("--catalog", help="Where the catalogue lies now, if it was moved.")
    ] = None,
    reporter: Annotated[str | None, typer.Option(help="Who vouches for the credits.")] = None,
    supersedes: Annotated[
        Path | None, typer.Option(help="An earlier credits.json of this clip that these replace.")
    ] = None,
    c2pa: Annotated[
        Path | None, typer.Option(help="The clip: writes a copy that carries its credits in a C2PA manifest.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Private key to sign that manifest with; its chain may be KEY.crt.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whose a clip is: shares of recordings and works by party, and what nobody can be named for.

    Shares and remainder of each right sum to exactly 1.
    """
    attributions = clips_in(attributions)
    if len(attributions) > 1:
        for option, value in (("--out", out), ("--supersedes", supersedes), ("--c2pa", c2pa)):
            if value is not None:
                raise UsageError(f"{option} is of one clip, and {len(attributions)} are given: give one")
    for attribution in attributions:
        check_attribution(attribution)
        require_folder(out or attribution.parent)
    if rights is not None:
        require_file(rights, "a table of rights")
    if catalog is not None:
        require_catalogue(catalog)
    if c2pa is not None:
        require_file(c2pa, "the clip that was attributed")
    from linernotes.report.credits import credits_table

    found, refused = [], []
    for attribution in attributions:
        try:
            credits = linernotes.credit(
                attribution, out, rights, rule, smallest_share, catalog, reporter, supersedes, c2pa, key
            )
        except LinernotesError as error:  # the other clips are credited nevertheless
            refused.append(error)
            continue
        found.append(credits.model_dump(mode="json"))
        if not as_json:
            stdout.print(f"[bold]{escape(str(credits.query['name']))}[/]  {escape(credits.verdict)}")
            print_table(credits_table(credits))
    if len(attributions) == 1 and refused:
        raise refused[0]
    if as_json:
        print_json(found if len(attributions) > 1 else found[0])
    if refused:
        sentences = "\n".join(str(error) for error in refused)
        raise LinernotesError(f"{len(refused)} of {len(attributions)} clips are not credited:\n{sentences}")


@app.command()
@plainly
def statement(
    credits: Annotated[
        list[Path],
        typer.Argument(help="The credits.json of each clip, their folders, or a folder of these."),
    ],
    period: Annotated[str, typer.Option(help="2026-11, 2026-Q4 or 2026.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for statement.json, .csv and .tsv.")],
    key: Annotated[
        Path | None, typer.Option(help="Private key to sign it with, made by 'linernotes key new'.")
    ] = None,
    reporter: Annotated[str | None, typer.Option(help="Who vouches for it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Sum up CREDITS of many clips for a period: who gets how much of which recording and work.

    Amounts are in clips: 0.25 is a quarter of one clip's worth.
    """
    require_folder(out)
    credits = clips_in(credits)
    for place in credits:
        record = place / "credits.json" if place.is_dir() else place
        require_there(record, f"{record} is missing: credit the clip first, with 'linernotes credits'")
    from linernotes.report.credits import statement_table

    drawn = linernotes.write_statement(credits, period, out, key, reporter)
    if as_json:
        print_json(drawn.model_dump(mode="json"))
        return
    print_table(statement_table(drawn, FIRST))
    signed = f", signed: {out / 'statement.sig.json'}" if key else ""
    clips = f"{len(drawn.clips)} clip{'s' if len(drawn.clips) != 1 else ''}"
    stderr.print(f"\n{clips}: {escape(str(out / 'statement.json'))}{escape(signed)}")


@app.command()
@plainly
@settings_flags(RetrainEngineSettings, "Where a challenge trains")
def audit(
    record: Annotated[
        Path, typer.Argument(help="An attribution.json, credits.json or statement.json, or its folder.")
    ],
    key: Annotated[
        Path | None, typer.Option(help="Public key (.pub) of whoever must have signed it.")
    ] = None,
    recompute: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the segments to score again, drawn at random: 0.1, say."),
    ] = 0.0,
    challenge: Annotated[
        int,
        typer.Option(
            min=0,
            help="Train the model again on so many random halves of its catalogue, and say whether the named "
            "tracks predict what becomes of the clips. How long that takes is said first.",
        ),
    ] = 0,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Check a record: unchanged, adding up, its identifiers right, its sources those at hand, its signature.

    What fails is named with its place, and the exit code is 1.
    """
    engine = checked(RetrainEngineSettings, given(flags))
    from linernotes.report.credits import audit_table

    if challenge:
        stderr.print(escape(linernotes.forecast_challenge(record, challenge).sentence))
    with Bars() as bars:
        checks = linernotes.audit(record, key, recompute, bars, challenge, engine)
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        print_table(audit_table(checks))
    failed = [check for check in checks if check.outcome == "fails"]
    if failed:
        raise LinernotesError(
            f"{record} fails {len(failed)} of {len(checks)} checks, the first is {failed[0].what} "
            f"({failed[0].detail}): do not rely on it"
        )
