"""What the worker does for each kind of job: it calls what the command line calls, and enters what came of
it. Each can be begun again after the worker was killed in it, and then comes to the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

import linernotes
from linernotes.api.reporting import draw_content
from linernotes.artefacts import hash_json, replacing, write_json
from linernotes.attribution.result import RECORD
from linernotes.audio import read_sound
from linernotes.catalog.gathering import noted
from linernotes.credits.record import RECORD as CREDITS
from linernotes.credits.record import Credits
from linernotes.credits.signing import key_at
from linernotes.credits.statement import period_days
from linernotes.credits.statement_record import RECORD as STATEMENT
from linernotes.demo.opening import open_catalogue
from linernotes.demo.places import BENCHMARK, benchmark_parts
from linernotes.demo.provider import judge_for
from linernotes.desk import queue
from linernotes.desk.asks import Attribute, Audit, Compare, Credit, Generate, Measure, Sit, State, Verify
from linernotes.desk.database import Database
from linernotes.desk.filing import attribution_id, clip_id, file_attribution, named_tracks
from linernotes.desk.folder import CONTENT, PARTS, VERIFIED, DeskFolder
from linernotes.desk.opened import Opened, stamp_of
from linernotes.desk.schema import (
    AttributionRow,
    ClipRow,
    ComparisonRow,
    SittingRow,
    StatementRow,
    TrialRow,
    now,
)
from linernotes.desk.sitting import put_sounds
from linernotes.errors import LinernotesError
from linernotes.evaluation.comparison import agreement_of
from linernotes.evaluation.listening import alike_by, draw_pairs
from linernotes.models.contract import device_of
from linernotes.records.seal import sha256_of
from linernotes.report.truth import lds_table
from linernotes.settings.methods import METHOD_SETTINGS
from linernotes.settings.reading import settings_of
from linernotes.version import RECORD_VERSION, __version__

Made = dict[str, Any]
Progress = Callable[[str, int, int], None]


class Tasks:
    """A desk's worker: one model and catalogue, opened once."""

    def __init__(self, opened: Opened, database: Database, on_progress: Progress) -> None:
        self.opened, self.folder, self.database = opened, DeskFolder(opened.folder), database
        self.on_progress = on_progress
        self._work: linernotes.Workspace | None = None
        self._stamp: tuple[int, int] | None = None  # of the catalogue

    def open(self) -> linernotes.Workspace:
        """The workspace; opened again if its catalogue was built anew.

        Raises:
            LinernotesError: model or catalogue is not there any more, or they do not fit.
        """
        if self._work is not None and stamp_of(self._work.catalogue.path) != self._stamp:
            self._work.close()
            self._work = None
        if self._work is None:
            self._work = linernotes.Workspace(
                self.opened.model,
                self.opened.catalogue,
                self.opened.cache,
                on_progress=self.on_progress,
                drawn=self.opened.drawn,
                index=self.opened.index,
            )
            self._stamp = stamp_of(self._work.catalogue.path)
        return self._work

    def do(self, ask: object) -> Made:
        """Does what is asked, and says by id what came of it.

        Raises:
            LinernotesError: it cannot be done.
        """
        match ask:
            case Generate():
                return self._generate(ask)
            case Attribute():
                return {"attribution": self._attribute(ask.clip_id, ask.method)}
            case Compare():
                return self._compare(ask)
            case Verify():
                return self._verify(ask)
            case Credit():
                return self._credit(ask.attribution_id)
            case State():
                return self._state(ask)
            case Audit():
                return self._audit(ask.statement_id)
            case Sit():
                return self._sit(ask)
            case Measure():
                return self._measure()
        raise TypeError(f"nobody does {type(ask).__name__}")

    # ---- clips

    def _generate(self, ask: Generate) -> Made:
        work = self.open()
        made = self.folder.making / hash_json(ask.model_dump())
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        settings: dict[str, Any] = {"seed": ask.seed}
        settings |= {"seconds": ask.seconds} if ask.seconds is not None else {}
        clip = work.generate(ask.prompt, made / "clip.flac", **settings)
        name = clip_id(sha256_of(clip), ask.prompt, True)
        place = self.folder.clip(name)
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            made.replace(place)
        shutil.rmtree(made, ignore_errors=True)
        with self.database.writing() as session:
            if session.get(ClipRow, name) is None:
                row = ClipRow(
                    id=name,
                    name=f"{ask.prompt[:60]} ({ask.seed})",
                    prompt=ask.prompt,
                    file="clip.flac",
                    seconds=read_sound(place / "clip.flac").seconds,
                    origin="generated",
                    seed=ask.seed,
                    model_hash=work.model.weights_hash,
                )
                session.add(row)
                session.flush()
            next_one = Attribute(clip_id=name, method=self.opened.method)
            queue.ask(session, next_one, name)
        return {"clip": name}

    def _clip(self, name: str) -> ClipRow:
        with self.database.reading() as session:
            clip = session.get(ClipRow, name)
        if clip is None:
            raise LinernotesError(f"there is no clip {name}: it was removed")
        return clip

    def _row(self, name: str) -> AttributionRow:
        with self.database.reading() as session:
            row = session.get(AttributionRow, name)
        if row is None:
            raise LinernotesError(f"there is no attribution {name}: it was removed")
        return row

    def _attribute(self, clip: str, method: str) -> str:
        work, row = self.open(), self._clip(clip)
        calibration = self.opened.calibration if method == self.opened.method else None
        given = Path(calibration) if calibration else None
        settings, index = settings_of(method)(), work.index_for(method)
        judge = judge_for(work.model, work.catalogue, method, settings, given)
        name = attribution_id(
            clip,
            method,
            work.model.weights_hash,
            work.catalogue.hash,
            judge.calibration.hash if judge else "",
            work.prepared.drawn,
            index.hash if index else "",
            hash_json(settings.model_dump()),
            f"{__version__} {device_of(work.model).type}",
            f"{RECORD_VERSION}{noted(work.catalogue, settings.gather) or ''}",
        )
        path, folder = self.folder.clip(clip) / row.file, self.folder.attribution(name)
        prompt = None if row.origin == "generated" else row.prompt
        (read,) = work.attribute(path, folder, prompt=prompt, method=method, calibration=calibration)
        self._draw(name, path)
        with self.database.writing() as session:
            file_attribution(session, name, clip, read)
        return name

    def _draw(self, name: str, clip: Path) -> None:
        """The parts of an attribution's page, as the server needs them."""
        folder = self.folder.attribution(name)
        content = draw_content(folder, folder / PARTS, f"/attributions/{name}/parts/", clip)
        with replacing(folder / CONTENT) as temporary:
            temporary.write_text(content, encoding="utf-8")

    def _compare(self, ask: Compare) -> Made:
        made = [self._attribute(ask.clip_id, method) for method in ask.methods]
        name = hash_json([ask.clip_id, made])
        folders = {
            method: [self.folder.attribution(one)] for method, one in zip(ask.methods, made, strict=True)
        }
        agreement = agreement_of(folders, [self._clip(ask.clip_id).name])
        write_json(self.folder.comparison(name) / "agreement.json", agreement.record())
        with self.database.writing() as session:
            if session.get(ComparisonRow, name) is None:
                session.add(
                    ComparisonRow(id=name, clip_id=ask.clip_id, methods=list(ask.methods), attributions=made)
                )
        return {"comparison": name}

    def _verify(self, ask: Verify) -> Made:
        row = self._row(ask.attribution_id)
        folder = self.folder.attribution(row.id)
        linernotes.verify(
            folder / RECORD,
            folder / VERIFIED,
            model=self.opened.model,
            catalogue=self.opened.catalogue,
            on_progress=self.on_progress,
            k=ask.k,
            repeats=ask.repeats,
        )
        with self.database.writing() as session:
            session.merge(row).verified = now()
        return {"attribution": row.id}

    # ---- accounts

    def _credit(self, name: str) -> Made:
        row = self._row(name)
        folder = self.folder.attribution(name)
        if not (folder / CREDITS).exists():
            linernotes.credit(folder, catalogue=self.opened.catalogue)
        with self.database.writing() as session:
            session.merge(row).credited = row.credited or now()
        return {"attribution": name}

    def _state(self, ask: State) -> Made:
        start, end = period_days(ask.period)
        with self.database.reading() as session:
            clips = [
                clip
                for clip in session.scalars(select(ClipRow).order_by(ClipRow.created, ClipRow.id))
                if start <= date.fromisoformat(clip.created[:10]) <= end
            ]
            counted = self._accounted(session, start, end)
            rows = {
                row.clip_id: row
                for row in session.scalars(
                    select(AttributionRow)
                    .where(AttributionRow.method == self.opened.method)
                    .order_by(AttributionRow.created)
                )
            }
        clips.sort(key=lambda clip: clip.origin != "generated")  # of one sound that of which most is known
        credited, left_out = [], []
        for i, clip in enumerate(clips):
            self.on_progress("crediting", i, len(clips))
            attribution = rows.get(clip.id)
            if attribution is None:
                left_out.append([clip.id, "it was not attributed"])
                continue
            try:
                self._credit(attribution.id)
                same = Credits.load(self.folder.attribution(attribution.id) / CREDITS).hashes.of_clip
            except LinernotesError as error:
                left_out.append([clip.id, str(error)])
                continue
            twin = next((counted[one] for one in sorted(same & counted.keys())), None)
            if twin:
                left_out.append([clip.id, f"it is the same sound as {twin}, and a clip counts once"])
                continue
            credited.append(attribution.id)
            counted |= dict.fromkeys(same, f"{clip.name}, of {clip.created[:10]}")
        if not credited:
            why = f" ({left_out[0][1]})" if left_out else ""
            raise LinernotesError(
                f"no clip of {ask.period} has credits to account for{why}: make or attribute one first"
            )
        sources = [self.folder.attribution(one) / CREDITS for one in credited]
        name = hash_json([ask.period, [sha256_of(path) for path in sources]])
        folder = self.folder.statement(name)
        key_at(self.folder.key)
        if not (folder / STATEMENT).exists():
            linernotes.write_statement(sources, ask.period, folder, key=self.folder.key)
        with self.database.writing() as session:
            if session.get(StatementRow, name) is None:
                session.add(StatementRow(id=name, period=ask.period, clips=credited, left_out=left_out))
        return self._audit(name)

    def _accounted(self, session: Session, start: date, end: date) -> dict[str, str]:
        """What statements of other days account for: by what says that a clip is the same one, its name and
        where it stands. Those of a period that this one is part of, or has in it, are of the same clips.
        """
        counted: dict[str, str] = {}
        for statement in session.scalars(select(StatementRow).order_by(StatementRow.created)):
            first, last = period_days(statement.period)
            if first <= end and start <= last:
                continue
            for name in statement.clips:
                row = session.get(AttributionRow, name)
                clip = session.get(ClipRow, row.clip_id) if row else None
                path = self.folder.attribution(name) / CREDITS
                if clip and path.exists():
                    said = f"{clip.name}, which the statement of {statement.period} accounts for"
                    counted |= dict.fromkeys(Credits.load(path).hashes.of_clip, said)
        return counted

    def _audit(self, name: str) -> Made:
        public = self.folder.key.with_name(self.folder.key.name + ".pub")
        checks = linernotes.audit(self.folder.statement(name), key=public)
        with self.database.writing() as session:
            row = session.get(StatementRow, name)
            if row is None:
                raise LinernotesError(f"there is no statement {name}: it was removed")
            row.checks, row.audited = [vars(check) for check in checks], now()
        return {"statement": name}

    # ---- truth

    def _measure(self) -> Made:
        with linernotes.Workspace(BENCHMARK, BENCHMARK, self.opened.cache, self.on_progress) as work:
            opened = work.open_bank(BENCHMARK)
            table = lds_table(linernotes.evaluate_lds(opened, _stored()))
        found = {
            "bank": BENCHMARK,
            "headings": [column.heading for column in table.shown],
            "kinds": [column.kind for column in table.shown],
            "rows": table.cells(),
            "notes": list(table.notes),
            "measured": now(),
        }
        write_json(self.folder.truth / "leaderboard.json", found)
        return {}

    # ---- blind tests

    def _sit(self, ask: Sit) -> Made:
        row = self._row(ask.attribution_id)
        catalogue = open_catalogue(self.opened.catalogue)
        if catalogue.hash != row.catalogue_hash:
            raise LinernotesError(
                "the catalogue was rebuilt since this clip was attributed, so its tracks cannot be heard: "
                "attribute the clip anew"
            )
        places = {track.track_id: n for n, track in enumerate(catalogue.tracks)}
        with self.database.reading() as session:
            named = [places[share.track_id] for share in named_tracks(session, row.id)]
        pairs = draw_pairs(catalogue.tracks, named, ask.pairs, ask.seed)
        name = hash_json([row.id, ask.seed, ask.pairs])
        clip = self._clip(row.clip_id)
        levels = put_sounds(
            folder=self.folder.sitting(name),
            clip=self.folder.clip(clip.id) / clip.file,
            attribution=self.folder.attribution(row.id),
            catalogue=catalogue,
            pairs=pairs,
            on_progress=self.on_progress,
        )
        trials = [
            TrialRow(
                sitting_id=name,
                number=number,
                named_track=catalogue.tracks[pair.named].track_id,
                other_track=catalogue.tracks[pair.other].track_id,
                named_is=pair.named_is,
                gains=level,
            )
            for number, (pair, level) in enumerate(zip(pairs, levels, strict=True), start=1)
        ]
        with self.database.writing() as session:
            if session.get(SittingRow, name) is None:
                session.add(SittingRow(id=name, attribution_id=row.id, alike=alike_by(catalogue.tracks)))
                session.flush()
                session.add_all(trials)
        return {"sitting": name}


def _stored() -> list[str]:
    """Methods whose scores of the benchmark's clips come with the package."""
    names = {path.stem.rpartition("-")[0] for path in (benchmark_parts(BENCHMARK) / "scores").iterdir()}
    return [name for name in METHOD_SETTINGS if name in names]
