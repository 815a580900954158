"""What programs can ask: whatever is sent, the answer is as described; lists come in parts that add up; a
request under a key is carried out once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from desks import a_clip, an_attribution, browser, counted, jobs_of, reading_desk, wav
from linernotes.catalog.store import Catalogue
from linernotes.desk.application import create_application
from linernotes.desk.desk import Desk, open_desk
from linernotes.desk.opened import Opened
from linernotes.desk.programs import api
from linernotes.desk.schema import AnswerRow, ClipRow, JobRow, ShareRow, StatementRow
from linernotes.desk.security import Gate

CLIP, ATTRIBUTION, STATEMENT = "1" * 16, "2" * 16, "3" * 16
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
KEY = {"Idempotency-Key": "one"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> Iterator[Desk]:
    """One with a catalogue and a row of everything that has an address."""
    folder = tmp_path_factory.mktemp("programs") / "desk"
    opened = Opened(folder=folder, model="no/model", catalogue=str(catalogue.path))
    with open_desk(opened, working=False) as desk:
        with desk.database.writing() as session:
            session.add(a_clip(CLIP, prompt="a jig"))
            session.flush()
            session.add(an_attribution(ATTRIBUTION, CLIP))
            session.add(StatementRow(id=STATEMENT, period="2026-11", clips=[ATTRIBUTION], left_out=[]))
            session.flush()
            share = {"score": 1.0, "named": True, "expected": 0.1, "low": 0.0, "high": 0.2, "share": 0.3}
            first = catalogue.tracks[0].track_id
            session.add(ShareRow(attribution_id=ATTRIBUTION, track_id=first, number=1, start_s=0.0, **share))
        for place in (desk.folder.attribution(ATTRIBUTION), desk.folder.statement(STATEMENT)):
            place.mkdir(parents=True)
        (desk.folder.attribution(ATTRIBUTION) / "attribution.json").write_text("{}")
        (desk.folder.attribution(ATTRIBUTION) / "credits.json").write_text("{}")
        (desk.folder.statement(STATEMENT) / "statement.json").write_text("{}")
        yield desk


@pytest.fixture(scope="module")
def described(desk: Desk) -> BaseSchema:
    application = create_application(desk, Gate(desk.token, frozenset({"testserver"})))
    return schemathesis.openapi.from_asgi("/openapi.json", application, headers=bearer(desk))


def bearer(desk: Desk) -> dict[str, str]:
    return {"Authorization": f"Bearer {desk.token}"}


CALLS = [(method, route.path) for route in api.routes for method in sorted(route.methods)]


@pytest.mark.parametrize("sent", GenerationMode)
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_whatever_is_sent_the_answer_is_as_described(
    described: BaseSchema, desk: Desk, method: str, path: str, sent: GenerationMode
) -> None:
    """What fits the description, and what does not."""
    known = {
        "clip_id": CLIP,
        "attribution_id": ATTRIBUTION,
        "statement_id": STATEMENT,
        "place": 0,
        "job_id": 1,
    }
    asked = {"headers": bearer(desk), "checks": CHECKS}

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(described[path][method].as_strategy(generation_mode=sent))
    def answers(case: schemathesis.Case) -> None:
        case.call_and_validate(**asked)
        for name in set(case.path_parameters or {}) & set(known):  # and where there is something
            case.path_parameters[name] = known[name]
            case.call_and_validate(**asked)

    answers()


def parts(client: TestClient, path: str, limit: int, **asked: str) -> tuple[list[object], int]:
    """A list, read in parts of a size."""
    rows: list[object] = []
    while True:
        page = client.get(path, params={**asked, "limit": limit, "offset": len(rows)}).json()
        rows += page["rows"]
        if len(page["rows"]) < limit:
            return rows, page["total"]


@pytest.mark.parametrize("path", ["/api/clips", "/api/jobs", "/api/tracks", "/api/statements"])
def test_a_list_in_parts_is_the_list(tmp_path: Path, catalogue: Catalogue, path: str) -> None:
    opened = Opened(folder=tmp_path / "desk", model="no/model", catalogue=str(catalogue.path))
    with open_desk(opened, working=False) as desk:
        with desk.database.writing() as session:
            for i in range(23):  # most of one moment: their order must not change from part to part
                moment = f"2026-11-{1 + i // 10:02}T00:00:00.000Z"
                session.add(a_clip(f"{i:016x}", moment))
                session.add(JobRow(kind="measure", asked={}, key=str(i)))
                statement = StatementRow(id=f"{i:016x}", period="2026", clips=[], left_out=[])
                statement.created = moment
                session.add(statement)
        client = browser(desk)
        whole, total = parts(client, path, 200)
        assert len(whole) == total == (len(catalogue.tracks) if path == "/api/tracks" else 23)
        for limit in (1, 7, 23):
            assert parts(client, path, limit) == (whole, total)
        beyond = client.get(path, params={"offset": 2**31}).json()
        assert beyond == {"rows": [], "total": total}


def test_words_and_filters_choose_the_same_in_parts(desk: Desk, catalogue: Catalogue) -> None:
    client = browser(desk)
    found, total = parts(client, "/api/tracks", 2, words="tone", split="train")
    assert total == len(found) == sum(track.split == "train" for track in catalogue.tracks)
    assert parts(client, "/api/tracks", 50, words="oscillators")[1] == len(catalogue.tracks)
    assert [row["title"] for row in parts(client, "/api/tracks", 50, words="tone 7")[0]] == ["Tone 7"]
    for nothing in ("AND", '"', "tone*x", "NEAR(", "-", "tone zither", "\x00"):  # words, and no language
        assert client.get("/api/tracks", params={"words": nothing}).status_code == 200


def test_the_clips_a_track_shaped(desk: Desk) -> None:
    (shaped,) = browser(desk).get("/api/tracks/0/clips").json()
    assert (shaped["clip_id"], shaped["share"], shaped["named"]) == (CLIP, 0.3, True)
    assert browser(desk).get("/api/tracks/1/clips").json() == []


def test_a_request_under_a_key_is_carried_out_once(tmp_path: Path) -> None:
    """Also when its job has ended meanwhile, and when the desk was ended."""
    with reading_desk(tmp_path / "desk") as desk:
        first = browser(desk).post("/api/clips/generate", json={"prompt": "a jig"}, headers=KEY)
        assert first.status_code == 202
        with desk.database.writing() as session:
            session.get_one(JobRow, 1).state = "done"
    with reading_desk(tmp_path / "desk") as desk:
        client = browser(desk)
        again = client.post("/api/clips/generate", json={"prompt": " a jig "}, headers=KEY)
        assert (again.status_code, again.json()) == (202, first.json())
        assert len(jobs_of(desk)) == 1
        for path, body in [
            ("/api/clips/generate", {"prompt": "a reel"}),
            ("/api/clips/generate", {"prompt": "a jig", "seed": 1}),
            ("/api/statements", {"period": "2026-11"}),
        ]:
            refused = client.post(path, json=body, headers=KEY)
            assert refused.status_code == 422
            assert "another request had the idempotency key 'one': give a new one" in refused.text.lower()
        assert client.post("/api/clips/generate", json={"prompt": "a jig"}).json()["id"] == 2
        assert len(jobs_of(desk)) == 2


def test_a_clip_under_a_key_is_the_same_clip_with_the_same_sidecar_and_prompt(tmp_path: Path) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        client = browser(desk)

        def post(**more: object) -> httpx.Response:
            return client.post("/api/clips", files={"file": ("a.wav", wav()), **more}, headers=KEY)

        first = post()
        assert post().json() == first.json() == {"clip_id": first.json()["clip_id"], "new": True, "job_id": 1}
        other = client.post("/api/clips", files={"file": ("a.wav", wav(500))}, headers=KEY)
        for refused in (other, post(sidecar=("a.wav.safetensors", b"x")), post(prompt=(None, "a jig"))):
            assert refused.status_code == 422
            assert "idempotency key" in refused.text
        assert counted(desk, ClipRow, JobRow, AnswerRow) == [1, 1, 1]


def test_what_is_refused_is_not_kept_under_its_key(tmp_path: Path) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        client = browser(desk)
        broken = client.post("/api/clips", files={"file": ("a.wav", b"RIFF")}, headers=KEY)
        assert broken.status_code == 400
        assert client.post("/api/clips", files={"file": ("a.wav", wav())}, headers=KEY).status_code == 201


@pytest.mark.parametrize("kind", ["clip", "job"])
def test_two_at_once_under_a_key_are_one(tmp_path: Path, kind: str) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        together, client = threading.Barrier(6), browser(desk)
        client.get("/api/jobs")  # draws up the routes, which is not for several threads at once

        def post(_: int) -> httpx.Response:
            together.wait()
            if kind == "clip":
                return client.post("/api/clips", files={"file": ("a.wav", wav())}, headers=KEY)
            return client.post("/api/clips/generate", json={"prompt": "a jig"}, headers=KEY)

        with ThreadPoolExecutor(6) as threads:
            answers = list(threads.map(post, range(6)))
        assert {answer.status_code for answer in answers} == {201 if kind == "clip" else 202}
        assert len({answer.text for answer in answers}) == 1
        assert counted(desk, JobRow, AnswerRow) == [1, 1]
