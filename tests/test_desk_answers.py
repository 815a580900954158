"""What the desk answers is what the command line writes: its worker calls the same functions."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import linernotes
from conftest import write_recordings
from desks import a_worker, browser, counted, lossless, wav, worked_off
from linernotes.attribution.result import Attribution
from linernotes.catalog.store import Catalogue
from linernotes.desk.desk import Desk, open_desk
from linernotes.desk.opened import Opened
from linernotes.desk.schema import AttributionRow, ClipRow, JobRow, ShareRow, StatementRow
from linernotes.desk.supervisor import Supervisor

DROPPED, MADE = 0, 1


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, model_path: Path, catalogue: Catalogue) -> Iterator[Desk]:
    """One at which a clip was dropped in and another was made, and both were attributed."""
    folder = tmp_path_factory.mktemp("answers") / "desk"
    opened = Opened(folder=folder, model=str(model_path), catalogue=str(catalogue.path))
    with open_desk(opened, working=False) as desk:
        client = browser(desk)
        client.post("/api/clips", files={"file": ("a.wav", wav())}, data={"prompt": "tone 1"})
        client.post("/api/clips/generate", json={"prompt": "tone 2", "seed": 3, "seconds": 0.4})
        jobs = worked_off(desk)
        assert [(job.kind, job.state, job.sentence) for job in jobs] == [
            ("attribute", "done", ""),
            ("generate", "done", ""),
            ("attribute", "done", ""),
        ]
        yield desk


def attributions(desk: Desk) -> list[AttributionRow]:
    with desk.database.reading() as session:
        return list(session.query(AttributionRow).order_by(AttributionRow.created))


@pytest.mark.parametrize(("number", "prompt"), [(DROPPED, "tone 1"), (MADE, None)])
def test_the_answer_is_the_record_that_the_command_line_writes(
    desk: Desk, tmp_path: Path, model_path: Path, catalogue: Catalogue, number: int, prompt: str | None
) -> None:
    row = attributions(desk)[number]
    answer = browser(desk).get(f"/api/attributions/{row.id}")
    assert answer.headers["content-type"] == "application/json"
    folder = desk.folder.attribution(row.id)
    assert answer.content == (folder / "attribution.json").read_bytes()
    with desk.database.reading() as session:
        clip = session.get_one(ClipRow, row.clip_id)
    path = desk.folder.clip(clip.id) / clip.file
    with linernotes.Workspace(model_path, catalogue.path) as work:
        work.attribute(path, tmp_path / "out", prompt=prompt)
    own, there = answer.text, (tmp_path / "out" / "attribution.json").read_text()
    assert without_places(own) == without_places(there)
    assert [line for line in own.split("\n") if line not in there.split("\n")] == [
        line for line in own.split("\n") if str(folder) in line
    ]
    for name in ("scores.parquet", "evidence.parquet", "alignment.parquet"):
        assert (folder / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def without_places(record: str) -> dict[str, Any]:
    """A record without the paths and the command that it was made with."""
    return {name: value for name, value in json.loads(record).items() if name != "sources"}


def test_a_clip_is_attributed_once_by_each_method_and_again_if_asked(desk: Desk) -> None:
    before = counted(desk, AttributionRow, ShareRow)
    row = attributions(desk)[DROPPED]
    record = desk.folder.attribution(row.id) / "attribution.json"
    content = record.read_bytes()
    asked = browser(desk).post(f"/api/clips/{row.clip_id}/attributions", json={})
    assert asked.status_code == 202
    assert worked_off(desk)[-1].made == {"attribution": row.id}
    assert counted(desk, AttributionRow, ShareRow) == before
    assert record.read_bytes() == content


def test_attributing_again_mends_an_attribution_whose_files_are_gone(desk: Desk) -> None:
    """As in a copy of the folder that was made just when they were written."""
    row = attributions(desk)[DROPPED]
    page = f"/clips/{row.clip_id}"
    whole = browser(desk).get(page).text
    shutil.move(desk.folder.attribution(row.id), desk.folder.path / "aside")
    broken = browser(desk).get(page)
    assert broken.status_code == 200
    assert "The files of this attribution are not in the desk&#39;s folder" in broken.text.replace(
        "'", "&#39;"
    )
    for path in (f"/api/attributions/{row.id}", f"/attributions/{row.id}/scores.parquet"):
        gone = browser(desk).get(path)
        assert gone.status_code == 404
    browser(desk).post(f"{page}/attribute", data={"method": desk.opened.method})
    assert worked_off(desk)[-1].state == "done"
    assert without_jobs(browser(desk).get(page).text) == without_jobs(whole)
    shutil.rmtree(desk.folder.path / "aside")


def without_jobs(page: str) -> str:
    return page[page.index("<main") :]


def test_a_catalogue_built_anew_under_the_same_name_is_said_and_asked_from_then_on(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    place = tmp_path / "catalogue"
    shutil.copytree(catalogue.path, place)
    opened = Opened(folder=tmp_path / "desk", model=str(model_path), catalogue=str(place), method="latent")
    with open_desk(opened, working=False) as desk:
        client = browser(desk)
        clip = client.post("/api/clips", files={"file": ("a.wav", wav())}).json()["clip_id"]
        worker = a_worker(desk)
        assert worker.one()
        assert "was rebuilt" not in client.get(f"/clips/{clip}").text
        assert client.get("/api/tracks").json()["total"] == len(catalogue.tracks)
        shutil.rmtree(place)
        for path, status in [
            ("/catalogue", 200),
            ("/api/tracks", 400),
            (f"/clips/{clip}", 200),
            ("/clips", 200),
        ]:
            assert client.get(path).status_code == status
        assert "not heard" not in client.get("/catalogue").text
        linernotes.build_catalogue(write_recordings(tmp_path / "few", [4096] * 3), place, model_path)
        assert "The catalogue was rebuilt since this clip was attributed" in client.get(f"/clips/{clip}").text
        assert client.get("/api/tracks").json()["total"] == 3
        client.post(f"/clips/{clip}/attribute", data={"method": "latent"})
        assert worker.one()
        old, new = attributions(desk)
        assert (old.tracks, new.tracks) == (7, 3)
        assert "was rebuilt" not in client.get(f"/clips/{clip}").text
        assert "was rebuilt" in client.get(f"/clips/{clip}?attribution={old.id}").text


def test_a_model_that_is_gone_is_said_and_everything_can_still_be_read(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    opened = Opened(
        folder=tmp_path / "desk", model=str(tmp_path / "gone"), catalogue=str(catalogue.path), method="latent"
    )
    with open_desk(opened, working=False) as desk:
        desk.supervisor = Supervisor(opened, desk.database)  # not started: the work is done here
        client = browser(desk)
        clip = client.post("/api/clips", files={"file": ("a.wav", wav())}).json()["clip_id"]
        (job,) = worked_off(desk)
        assert job.state == "failed"
        assert str(tmp_path / "gone") in job.sentence
        for path in ("/clips", f"/clips/{clip}", "/catalogue", "/accounts", "/truth", "/blind", "/compare"):
            page = client.get(path)
            assert page.status_code == 200
            assert f"Nothing can be made or attributed: {job.sentence}" in html.unescape(page.text)
        assert client.get(f"/clips/{clip}/sound").content == wav()
        shutil.copytree(model_path, tmp_path / "gone")  # put back, and started again
        client.post(f"/clips/{clip}/attribute", data={"method": "latent"})
        assert worked_off(desk)[-1].state == "done"
        assert "Nothing can be made" not in client.get("/clips").text


def test_a_job_of_another_version_is_a_sentence(desk: Desk) -> None:
    with desk.database.writing() as session:
        session.add(JobRow(kind="generate", asked={"prompt": "a jig", "tempo": 120}, key="old"))
        session.add(JobRow(kind="dance", asked={}, key="older"))
    done = worked_off(desk)[-2:]
    assert {job.sentence for job in done} == {
        "this job was asked for by another version of linernotes: ask for it again"
    }


def test_what_an_answer_rests_on_makes_it_another_and_the_first_one_stays(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    opened = Opened(folder=tmp_path / "desk", model=str(model_path), catalogue=str(catalogue.path))
    with open_desk(opened, working=False) as desk:
        browser(desk).post("/api/clips", files={"file": ("a.wav", wav())})
        worked_off(desk)
        (first,) = attributions(desk)
        record = (desk.folder.attribution(first.id) / "attribution.json").read_bytes()
    with open_desk(opened.model_copy(update={"drawn": "segments"}), working=False) as desk:
        asked = browser(desk).post(f"/api/clips/{first.clip_id}/attributions", json={})
        assert asked.status_code == 202
        assert [job.sentence for job in worked_off(desk)] == ["", ""]
        assert [row.id == first.id for row in attributions(desk)] == [True, False]
        assert (desk.folder.attribution(first.id) / "attribution.json").read_bytes() == record


def test_one_sound_is_accounted_for_once_whatever_it_was_dropped_as(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    """With another prompt, or in another container: clips of their own, each with its answer, of which the
    first one counts; and what an earlier month accounts for is not counted again."""
    opened = Opened(folder=tmp_path / "desk", model=str(model_path), catalogue=str(catalogue.path))
    with open_desk(opened, working=False) as desk:
        client = browser(desk)
        one, packed = lossless()
        for name, sound, prompt in (
            ("a.wav", one, "tone 1"),
            ("b.wav", one, None),
            ("c.flac", packed, "tone 1"),
        ):
            said = {"prompt": prompt} if prompt else {}
            client.post("/api/clips", files={"file": (name, sound)}, data=said)
        client.post("/api/clips", files={"file": ("other.wav", wav(660.0))})
        worked_off(desk)
        with desk.database.writing() as session:
            clips = session.query(ClipRow).order_by(ClipRow.created, ClipRow.id).all()
            names = [clip.name for clip in clips]
            first = clips[0].id
            month = clips[0].created[:7]
        client.post("/api/statements", json={"period": month})
        assert [(job.kind, job.state, job.sentence) for job in worked_off(desk)][-1] == ("state", "done", "")
        with desk.database.reading() as session:
            (statement,) = session.query(StatementRow).all()
        assert len(names) == 4 and len(statement.clips) == 2
        assert [why for _, why in statement.left_out] == [
            f"it is the same sound as a.wav, of {clips[0].created[:10]}, and a clip counts once"
        ] * 2
        # the first one is of an earlier month, which is accounted for only when somebody has stated it
        with desk.database.writing() as session:
            session.get_one(ClipRow, first).created = "2020-01-31T00:00:00.000Z"
        for period, counts, left_out in (
            (month, 2, 1),
            ("2020-01", 0, 1),  # of other days: what the later month has stated is not paid again
            (month[:4], 2, 1),
        ):
            client.post("/api/statements", json={"period": period})
            job = worked_off(desk)[-1]
            assert (job.state == "done") == (counts > 0)
            if not counts:
                assert f"which the statement of {month} accounts for, and a clip counts once" in job.sentence
                continue
            with desk.database.reading() as session:
                newest = session.query(StatementRow).order_by(StatementRow.created.desc()).first()
            assert newest and (len(newest.clips), len(newest.left_out)) == (counts, left_out)


def test_a_desk_with_an_index_compares_methods_that_take_no_shortlists(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    index = linernotes.build_index(tmp_path / "index", model_path, catalogue.path, queries=3)
    opened = Opened(
        folder=tmp_path / "desk", model=str(model_path), catalogue=str(catalogue.path), index=str(index.path)
    )
    with open_desk(opened, working=False) as desk:
        client = browser(desk)
        client.post("/api/clips", files={"file": ("a.wav", wav())}, data={"prompt": "tone 1"})
        (job,) = worked_off(desk)
        client.post(f"/api/clips/{job.clip_id}/comparisons", json={"methods": ["readout", "latent"]})
        assert [(job.kind, job.state, job.sentence) for job in worked_off(desk)][-1] == (
            "compare",
            "done",
            "",
        )
        read = {
            row.method: Attribution.load(desk.folder.attribution(row.id) / "attribution.json")
            for row in attributions(desk)
        }
        assert read["readout"].shortlist and not read["latent"].shortlist
        assert "--index" not in read["latent"].sources.command


def test_what_an_answer_rests_on_names_it(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer linernotes answers anew, and keeps what an older one answered."""
    opened = Opened(
        folder=tmp_path / "desk", model=str(model_path), catalogue=str(catalogue.path), method="latent"
    )
    with open_desk(opened, working=False) as desk:
        client = browser(desk)
        client.post("/api/clips", files={"file": ("a.wav", wav())})
        (job,) = worked_off(desk)
        for module in ("desk.tasks", "attribution.filing", "attribution.result"):
            monkeypatch.setattr(f"linernotes.{module}.__version__", "9.9")
        client.post(f"/api/clips/{job.clip_id}/attributions", json={})
        assert [(job.state, job.sentence) for job in worked_off(desk)][-1] == ("done", "")
        assert len(attributions(desk)) == 2
