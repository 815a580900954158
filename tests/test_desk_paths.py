"""No path from a request reaches the file system: names are looked up, and never joined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from desks import a_clip, an_attribution, browser, jobs_of, reading_desk, wav
from linernotes.desk.desk import Desk
from linernotes.desk.schema import ClipRow, SittingRow, StatementRow, TrialRow

CLIP, ATTRIBUTION, STATEMENT, SITTING = "1" * 16, "2" * 16, "3" * 16, "4" * 16
SECRET = b"nobody's business"
ROUTES = (
    "/clips/{}",
    "/clips/{}/sound",
    f"/clips/{CLIP}?attribution={{}}",
    "/attributions/{}",
    "/attributions/{}/attribution.json",
    f"/attributions/{ATTRIBUTION}/{{}}",
    f"/attributions/{ATTRIBUTION}/parts/{{}}",
    "/attributions/{}/verify.html",
    "/accounts/{}",
    "/accounts/{}/statement.json",
    f"/accounts/{STATEMENT}/{{}}",
    "/blind/{}",
    f"/blind/{SITTING}/{{}}.mp3",
    "/compare/{}",
    "/compare?clip={}",
    "/compare/prompt?clip={}",
    "/catalogue/tracks/{}",
    "/catalogue/tracks/{}/sound",
    "/catalogue/tracks/{}/peaks.json",
    "/static/{}",
    "/static/vendor/{}",
    "/api/clips/{}",
    "/api/attributions/{}",
    "/api/attributions/{}/credits",
    "/api/statements/{}",
    "/api/jobs/{}",
    "/api/tracks/{}/clips",
)
STEPS = st.sampled_from(
    ["..", ".", "/", "\\", "%2e", "%2f", "\x00", "desk.sqlite", "token", "keys", "secret"]
)
NASTY = st.lists(STEPS | st.text(max_size=8), min_size=1, max_size=8).map("".join)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One with a row of everything, and secrets beside what may be read."""
    folder = tmp_path_factory.mktemp("paths") / "desk"
    with reading_desk(folder) as desk:
        with desk.database.writing() as session:
            session.add(a_clip(CLIP, prompt="a jig"))
            session.flush()
            session.add(an_attribution(ATTRIBUTION, CLIP))
            session.flush()
            session.add(StatementRow(id=STATEMENT, period="2026-11", clips=[ATTRIBUTION], left_out=[]))
            session.add(SittingRow(id=SITTING, attribution_id=ATTRIBUTION, alike=""))
            session.flush()
            session.add(
                TrialRow(
                    sitting_id=SITTING, number=1, named_track="a", other_track="b", named_is="a", gains={}
                )
            )
        places = [desk.folder.clip(CLIP), desk.folder.attribution(ATTRIBUTION), desk.folder.key.parent]
        places += [desk.folder.statement(STATEMENT), desk.folder.sitting(SITTING), folder.parent]
        for place in [*places, *(place / "parts" for place in places)]:
            place.mkdir(parents=True, exist_ok=True)
            (place / "secret").write_bytes(SECRET)
            (place / "secret.mp3").write_bytes(SECRET)
        (desk.folder.attribution(ATTRIBUTION) / "parts" / "secret").unlink()
        (desk.folder.attribution(ATTRIBUTION) / "parts" / "secret.mp3").unlink()
        desk.folder.key.write_bytes(SECRET)
        yield desk


@pytest.fixture(scope="module")
def client(desk: Desk) -> TestClient:
    return browser(desk)


@settings(deadline=None)
@given(st.sampled_from(ROUTES), NASTY)
@example("/attributions/{}/attribution.json", f"../attributions/{ATTRIBUTION}")
@example(f"/attributions/{ATTRIBUTION}/parts/{{}}", "../secret")
@example(f"/accounts/{STATEMENT}/{{}}", "secret")
@example(f"/blind/{SITTING}/{{}}.mp3", "secret")
@example(f"/blind/{SITTING}/{{}}.mp3", "../../../keys/desk")
@example("/static/vendor/{}", "../../desk.py")
@example("/catalogue/tracks/{}", str(2**70))
@example("/api/jobs/{}", str(2**70))
def test_no_name_gives_a_file_that_is_not_meant(client: TestClient, route: str, name: str) -> None:
    for written in (quote(name, safe=""), quote(name, safe="/")):
        answer = client.get(route.format(written))
        assert answer.status_code < 500, answer.text
        assert SECRET not in answer.content
        assert client.app.state.desk.token not in answer.text
        assert not answer.content.startswith(b"SQLite format")


def test_files_that_are_meant_are_given(client: TestClient, desk: Desk) -> None:
    parts = desk.folder.attribution(ATTRIBUTION) / "parts"
    (parts / "clip.mp3").write_bytes(b"sound")
    assert client.get(f"/attributions/{ATTRIBUTION}/parts/clip.mp3").content == b"sound"
    (desk.folder.sitting(SITTING) / "1a.mp3").write_bytes(b"a side")
    assert client.get(f"/blind/{SITTING}/1a.mp3").content == b"a side"
    (parts / "clip.mp3").unlink()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../../tmp/evil.wav", "evil.wav"),
        ("..\\..\\evil.wav", "evil.wav"),
        ("/etc/cron.d/evil.wav", "evil.wav"),
        ("a\x1b[31m\x7f.wav", "a[31m.wav"),
        ("x" * 300 + ".wav", None),
    ],
)
def test_an_uploads_name_is_shown_and_no_file_is_called_by_it(
    tmp_path: Path, name: str, shown: str | None
) -> None:
    with reading_desk(tmp_path / "inside" / "desk") as desk:
        before = {path for path in tmp_path.rglob("*") if "desk" not in path.parts}
        answer = browser(desk).post("/api/clips", files={"file": (name, wav())})
        assert answer.status_code == 201, answer.text
        with desk.database.reading() as session:
            row = session.get(ClipRow, answer.json()["clip_id"])
        assert row is not None
        assert row.name == shown or (shown is None and len(row.name) <= 120)
        assert [path.name for path in desk.folder.clip(row.id).iterdir()] == ["clip.wav"]
        assert {path for path in tmp_path.rglob("*") if "desk" not in path.parts} == before
        assert len(jobs_of(desk)) == 1
