"""Clips that are dropped in: what is no sound is a sentence and leaves nothing, what is sound is one clip."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from conftest import RATE_HZ
from desks import browser, counted, reading_desk, sound_file, wav, worked_off
from linernotes.catalog.store import Catalogue
from linernotes.desk import uploads
from linernotes.desk.desk import Desk, open_desk
from linernotes.desk.limits import FORM_BYTES
from linernotes.desk.opened import Opened
from linernotes.desk.schema import ClipRow, JobRow
from linernotes.desk.uploads import Decoding, examine
from linernotes.errors import LinernotesError


def dropped(desk: Desk, *files: tuple[str, bytes], prompt: str = "") -> httpx.Response:
    """As the page sends it."""
    client = browser(desk)
    return client.post("/clips", files=[("file", file) for file in files], data={"prompt": prompt})


def left(desk: Desk) -> list[Path]:
    """Files in a desk's folder that are of clips, or on the way to."""
    places = (desk.folder.incoming, desk.folder.path / "clips")
    return [path for place in places if place.exists() for path in place.rglob("*")]


def sidecar(**more: object) -> bytes:
    header = {"prompt": "a jig", "seed": 3, "model_hash": "m" * 16, **more}
    return save({"latents": np.zeros(4, dtype=np.float32)}, {"header": json.dumps(header)})


FLAC = wav(kind="FLAC")
NO_SOUND = {
    "words": ("a.wav", b"dear licensor,\n" * 40, "a.wav"),
    "empty": ("a.wav", b"", "a.wav"),
    "another suffix": ("a.txt", wav(), "'a.txt' is not called like sound: give a file that ends in .aac"),
    "no name": ("wav", wav(), "'wav' is not called like sound"),
    "silence": ("quiet.wav", sound_file(np.zeros(4000)), "quiet.wav is silent"),
    "cut off": ("cut.flac", FLAC[: len(FLAC) // 2], "cut.flac"),
    "damaged": ("hurt.flac", FLAC[:3000] + bytes(400) + FLAC[3400:], "hurt.flac"),
    "a page": ("a.mp3", b"<html><script>alert(1)</script></html>", "a.mp3"),
    "one without its clip": ("a.wav.safetensors", sidecar(), "drop the clip together with its sidecar"),
}


@pytest.mark.parametrize("what", NO_SOUND)
def test_what_is_no_sound_is_a_sentence_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    name, content, sentence = NO_SOUND[what]
    with reading_desk(tmp_path / "desk") as desk:
        answer = dropped(desk, (name, content))
        assert answer.status_code in (400, 422)
        assert "alert(1)" not in answer.text
        assert str(desk.folder.path) not in answer.text  # nobody needs to know where files lie
        assert sentence.replace("'", "&#39;") in answer.text
        assert counted(desk, ClipRow, JobRow) == [0, 0]
        assert left(desk) == []


def test_what_lasts_too_long_is_not_decoded_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(wav(samples=RATE_HZ * 90))
    with pytest.raises(LinernotesError, match=r"^long lasts longer than 1 minutes: cut it, and drop a part$"):
        examine(tmp_path / "long.wav", 60.0, "long")
    assert examine(tmp_path / "long.wav", 91.0).seconds == pytest.approx(90, abs=0.1)


@pytest.mark.parametrize("may_take", [Decoding(megabytes=150), Decoding(seconds=0)])
def test_a_decoder_that_takes_too_much_is_ended_with_a_sentence(tmp_path: Path, may_take: Decoding) -> None:
    (tmp_path / "bomb.wav").write_bytes(wav())
    with pytest.raises(LinernotesError, match=r"^bomb cannot be decoded within .* export it again as FLAC"):
        examine(tmp_path / "bomb.wav", name="bomb", may_take=may_take)
    assert examine(tmp_path / "bomb.wav").seconds > 0  # and this process was not limited


def test_a_file_above_the_limit_is_refused_before_all_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 100_000
    monkeypatch.setattr("linernotes.desk.application.UPLOAD_BYTES", most)
    monkeypatch.setattr("linernotes.desk.application.SIDECAR_BYTES", 0)
    monkeypatch.setattr(uploads, "UPLOAD_BYTES", most // 2)

    with reading_desk(tmp_path / "desk") as desk:
        client = browser(desk)
        announced = client.post("/api/clips", files={"file": ("a.wav", bytes(most))})
        kind = {"content-type": "multipart/form-data; boundary=x"}
        assert announced.status_code == 413
        assert "that are taken here" in announced.json()["error"]
        between = client.post("/api/clips", files={"file": ("a.wav", bytes(most * 3 // 4))})
        assert between.status_code == 422
        assert "a.wav is larger than" in between.json()["error"]
        assert left(desk) == []
        large_form = client.post("/clips/generate", data={"prompt": "x" * FORM_BYTES})
        assert large_form.status_code == 413
        for path in ("/api/clips", "/clips"):
            sent = client.post(path, content=chunks(most), headers=kind)
            assert sent.status_code == 413, sent.text
            assert "content-security-policy" in sent.headers
        for odd in ("-1", "1e3", "²", ""):
            headers = {**kind, "content-length": odd.encode("latin-1")}
            assert client.post("/clips", content=b"x", headers=headers).status_code == 413
        assert counted(desk, ClipRow, JobRow) == [0, 0]


def chunks(most: int) -> object:
    """A body that does not say how long it is."""
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    for _ in range(most // 4096 + 2):
        yield bytes(4096)


def test_the_same_clip_is_one_clip_and_one_job(tmp_path: Path) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        first, again = dropped(desk, ("a.wav", wav())), dropped(desk, ("called otherwise.wav", wav()))
        assert first.headers["location"] == again.headers["location"]
        assert counted(desk, ClipRow, JobRow) == [1, 1]
        other = dropped(desk, ("a.wav", wav()), prompt="a jig")  # with another prompt it is another question
        assert other.headers["location"] != first.headers["location"]
        assert counted(desk, ClipRow, JobRow) == [2, 2]
        posted = browser(desk).post("/api/clips", files={"file": ("a.wav", wav())}).json()
        assert posted == {"clip_id": first.headers["location"].split("/")[-1], "new": False, "job_id": None}


def test_ten_at_once_are_ten_clips_and_twice_the_same_are_one(tmp_path: Path) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        sounds = [wav(200 + 10 * (i % 5), 2000) for i in range(10)]
        together, client = threading.Barrier(10), browser(desk)
        client.get("/api/jobs")  # draws up the routes, which is not for several threads at once

        def post(i: int) -> httpx.Response:
            together.wait()
            return client.post("/api/clips", files={"file": (f"{i}.{('wav', 'wave')[i % 2]}", sounds[i])})

        with ThreadPoolExecutor(10) as threads:
            answers = list(threads.map(post, range(10)))
        assert {answer.status_code for answer in answers} == {201}
        assert sum(answer.json()["new"] for answer in answers) == 5
        assert counted(desk, ClipRow, JobRow) == [5, 5]
        clips = browser(desk).get("/api/clips").json()["rows"]
        for clip in clips:  # whoever came first, its file is the one that is named
            assert browser(desk).get(f"/clips/{clip['id']}/sound").status_code == 200
        assert list(desk.folder.incoming.iterdir()) == []


def test_a_clip_that_was_kept_but_not_entered_is_entered_when_it_is_sent_again(tmp_path: Path) -> None:
    """As when the server is killed in between; this time it is called otherwise."""
    with reading_desk(tmp_path / "desk") as desk:
        dropped(desk, ("a.wave", wav()))
        with desk.database.writing() as session:
            session.query(ClipRow).delete()
            session.query(JobRow).delete()
        (desk.folder.incoming / "half.wav").write_bytes(b"RIFF")
    with reading_desk(tmp_path / "desk") as desk:
        assert list(desk.folder.incoming.iterdir()) == []
        again = dropped(desk, ("a.wav", wav()))
        assert again.status_code == 303
        assert counted(desk, ClipRow, JobRow) == [1, 1]
        assert browser(desk).get(again.headers["location"] + "/sound").content == wav()


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\x08" + bytes(7) + b"{" * 8,
        save({"latents": np.zeros(4, dtype=np.float32)}),
        sidecar(seed="seven"),
        sidecar(seed=2**70),
        sidecar(prompt=None),
        sidecar(prompt="\ud800"),
        sidecar(prompt="x" * 501),
        save({"latents": np.zeros(4, dtype=np.float32)}, {"header": "[1]"}),
    ],
)
def test_a_sidecar_that_is_none_is_a_sentence(tmp_path: Path, wrong: bytes) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        answer = dropped(desk, ("a.wav", wav()), ("a.wav.safetensors", wrong))
        assert answer.status_code == 400
        assert "the sidecar of a.wav cannot be read: drop the clip without it" in answer.text.lower()
        assert counted(desk, ClipRow, JobRow) == [0, 0]
        assert left(desk) == []


def test_sidecars_belong_to_the_clips_that_they_are_named_after(tmp_path: Path) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        alone = dropped(desk, ("a.wav", wav()), ("b.wav.safetensors", sidecar()))
        assert alone.status_code == 422
        assert "b.wav.safetensors is the sidecar of a clip that is not here" in alone.text
        other = dropped(desk, ("a.wav", wav()), ("a.wav.safetensors", sidecar()), prompt="a reel")
        assert other.status_code == 422
        assert "leave out its prompt" in other.text
        both = [("a.wav", wav()), ("a.wav.safetensors", sidecar()), ("b.wav", wav(500))]
        assert dropped(desk, *both).headers["location"] == "/clips"
        rows = {row["name"]: row for row in browser(desk).get("/api/clips").json()["rows"]}
        assert (rows["a.wav"]["prompt"], rows["a.wav"]["origin"], rows["a.wav"]["seed"]) == (
            "a jig",
            "generated",
            3,
        )
        assert (rows["b.wav"]["prompt"], rows["b.wav"]["origin"]) == (None, "dropped")


def test_a_sidecar_that_comes_later_is_not_thrown_away(tmp_path: Path) -> None:
    """The clip with it is another one than without it, though prompt and sound are the same."""
    with reading_desk(tmp_path / "desk") as desk:
        dropped(desk, ("a.wav", wav()), prompt="a jig")
        for _ in range(2):
            dropped(desk, ("a.wav", wav()), ("a.wav.safetensors", sidecar()))
        rows = browser(desk).get("/api/clips").json()["rows"]
        assert sorted((row["origin"], row["prompt"], row["seed"]) for row in rows) == [
            ("dropped", "a jig", None),
            ("generated", "a jig", 3),
        ]


def test_a_clip_that_was_edited_after_its_sidecar_was_written_is_a_sentence(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    import linernotes

    clip = linernotes.generate("tone 1", tmp_path / "clip.wav", seed=5, model=model_path)
    beside = (tmp_path / "clip.wav.safetensors").read_bytes()
    opened = Opened(folder=tmp_path / "desk", model=str(model_path), catalogue=str(catalogue.path))
    with open_desk(opened, working=False) as desk:
        dropped(desk, ("clip.wav", wav(440)), ("clip.wav.safetensors", beside))
        dropped(desk, ("clip.wav", clip.read_bytes()), ("clip.wav.safetensors", beside))
        edited, own = worked_off(desk)
        assert own.state == "done", own.sentence
        assert edited.state == "failed"
        assert "clip.wav" in edited.sentence
        page = browser(desk).get(f"/clips/{edited.clip_id}").text
        assert edited.sentence.split(":")[0].replace("'", "&#39;") in page
