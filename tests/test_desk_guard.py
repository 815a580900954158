"""Who may drive a desk: its own name, its own pages, and its token for whoever comes from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from desks import OWN, browser, jobs_of, reading_desk, wav
from linernotes.desk.desk import Desk, token_of
from linernotes.desk.folder import DeskFolder
from linernotes.desk.security import COOKIE, Gate, own_page

PAGES = ("/clips", "/catalogue", "/compare", "/blind", "/accounts", "/truth", "/docs")
ELSEWHERE = "192.0.2.7"
ASKED = {"prompt": "a jig"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with reading_desk(tmp_path_factory.mktemp("guard") / "desk") as desk:
        yield desk


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8420", "127.0.0.1.evil.example", ""])
def test_a_name_elsewhere_that_points_here_is_not_answered(desk: Desk, host: str) -> None:
    """DNS rebinding: the page believes to be of its own site, and only Host tells."""
    for path in (*PAGES, "/api/clips", "/static/desk.css", "/nothing"):
        assert browser(desk).get(path, headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "LOCALHOST:9000", "[::1]:8420", "[::1]"])
def test_this_machines_names_are_answered_on_any_port(desk: Desk, host: str) -> None:
    assert browser(desk).get("/clips", headers={"host": host}).status_code == 200


def test_a_name_that_was_given_is_answered(desk: Desk) -> None:
    gate = Gate(desk.token, frozenset({"studio.local"}))
    for host, status in [("Studio.local:8420", 200), ("studio.local", 200), ("other.local", 421)]:
        assert browser(desk, gate).get("/clips", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    "comes_from",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},  # another port of this machine
        {"sec-fetch-site": "cross-site", "origin": OWN},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://127.0.0.1:8420.evil.example"},
    ],
)
def test_another_sites_page_changes_nothing(desk: Desk, comes_from: dict[str, str]) -> None:
    client = browser(desk)
    for answer in (
        client.post("/clips/generate", data=ASKED, headers=comes_from),
        client.post("/api/clips/generate", json=ASKED, headers=comes_from),
        client.post("/clips", files={"file": ("a.wav", wav())}, headers=comes_from),
    ):
        assert answer.status_code == 403
        assert "another site" in answer.text
    assert jobs_of(desk) == []


@pytest.mark.parametrize(
    "comes_from", [{}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {"origin": OWN}]
)
def test_own_pages_and_programs_may(tmp_path: Path, comes_from: dict[str, str]) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        assert browser(desk).post("/clips/generate", data=ASKED, headers=comes_from).status_code == 303
        assert [job.kind for job in jobs_of(desk)] == ["generate"]


@settings(deadline=None)
@given(st.text(st.characters(codec="latin-1")))
def test_no_origin_but_the_hosts_own_is_an_own_page(name: str) -> None:
    """Whatever a program sends as Origin is no error, and passes only if it is the host itself."""
    assert own_page(Headers({"origin": f"http://{name}"}), "127.0.0.1:8420") is (name == "127.0.0.1:8420")


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (ELSEWHERE, {}),
        ("::ffff:192.0.2.7", {}),
        ("", {}),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}),
        ("127.0.0.1", {"x-real-ip": "127.0.0.1"}),
    ],
)
def test_whoever_is_from_elsewhere_needs_the_token(desk: Desk, client: str, headers: dict[str, str]) -> None:
    asking = browser(desk, client=client)
    for path in (*PAGES, "/api/clips", "/openapi.json", "/static/desk.js", "/static/vendor/htmx.min.js"):
        refused = asking.get(path, headers=headers)
        assert refused.status_code == 401
        assert desk.token not in refused.text
    for given_token in ("", "wrong", desk.token[:-1], desk.token + "x"):
        with_it = {**headers, "authorization": f"Bearer {given_token}"}
        assert asking.get("/clips", headers=with_it).status_code == 401
        assert asking.get("/clips", params={"token": given_token}, headers=headers).status_code == 401
        assert (
            asking.get("/clips", headers={**headers, "cookie": f"{COOKIE}={given_token}"}).status_code == 401
        )
    assert (
        asking.get("/clips", headers={**headers, "authorization": f"Bearer {desk.token}"}).status_code == 200
    )


def test_the_link_lets_in_once_and_the_cookie_from_then_on(desk: Desk) -> None:
    asking = browser(desk, client=ELSEWHERE)
    entered = asking.get(f"/clips?words=jig&token={desk.token}")
    assert entered.status_code == 303
    assert entered.headers["location"] == "/clips?words=jig"  # the token does not stay in the history
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/;" in cookie + ";"
    assert asking.get("/clips").status_code == 200  # the client keeps the cookie, as a browser does


def test_a_shared_machines_users_need_the_token_too(desk: Desk) -> None:
    gate = Gate(desk.token, everyone=True)
    assert browser(desk, gate).get("/clips").status_code == 401
    bearer = {"authorization": f"Bearer {desk.token}"}
    assert browser(desk, gate).get("/clips", headers=bearer).status_code == 200


@pytest.mark.parametrize(
    "path", ["//evil.example", "/%2Fevil.example", "/\\evil.example", "/%5Cevil.example/a"]
)
def test_the_link_leads_to_no_other_site(desk: Desk, path: str) -> None:
    entered = browser(desk).get(f"{OWN}{path}?token={desk.token}")
    assert entered.status_code == 303
    assert re.match(r"/(?![/\\])", entered.headers["location"])


def test_the_token_is_the_owners_alone_and_stays(tmp_path: Path) -> None:
    folder = DeskFolder(tmp_path)
    token = token_of(folder)
    assert len(token) >= 32
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert token_of(folder) == token


def test_an_empty_token_lets_nobody_in(tmp_path: Path) -> None:
    """As a full disk or a kill leaves one."""
    (tmp_path / "token").write_text("")
    assert len(token_of(DeskFolder(tmp_path))) >= 32


def test_every_answer_forbids_foreign_scripts_frames_and_guesses(desk: Desk) -> None:
    own, other = browser(desk), browser(desk, client=ELSEWHERE)
    large = {"content-length": str(1 << 40)}
    answers = [own.get(path) for path in PAGES]
    answers += [own.get("/static/desk.css"), own.get("/static/vendor/htmx.min.js"), own.get("/nothing")]
    answers += [own.get("/static/vendor/nothing.js"), own.get("/api/clips"), own.get("/api/clips/x")]
    answers += [own.get("/clips", headers={"host": "evil.example"}), other.get("/clips")]
    answers += [own.post("/clips", headers={"origin": "null"}), own.post("/clips", headers=large)]
    answers += [own.get(f"/?token={desk.token}"), own.delete("/clips"), own.get("/catalogue/rejects")]
    assert {answer.status_code for answer in answers} >= {200, 303, 400, 401, 403, 404, 405, 413, 421, 422}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'; script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_what_nobody_expected_is_a_sentence_with_the_same_headers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        client = browser(desk)
        client.app.state.desk = None  # as a bug would
        for path in ("/clips", "/api/clips"):
            answer = client.get(path)
            assert answer.status_code == 500
            assert "Unexpected AttributeError" in answer.text
            assert "Traceback" not in answer.text
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "content-security-policy" in answer.headers
        assert "Traceback" in capsys.readouterr().err


def test_no_page_holds_a_script_or_an_attribute_that_is_one(desk: Desk) -> None:
    for path in (*PAGES, "/nothing"):
        page = browser(desk).get(path).text
        assert re.findall(r"<script(?![^>]*\bsrc=\"/static/)", page) == []
        assert re.findall(r"<[^>]*\son[a-z]+\s*=", page) == []
        assert "javascript:" not in page
        assert re.findall(r"""(?:src|href|action)="(?!/|#)[^"]*""", page) == []  # nothing from elsewhere
