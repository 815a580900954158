"""A desk under load, on loopback: 50 readers and 10 uploads at once while a job runs; how long pages take.

    python dev/desk_load.py [--tiny] [--seconds 30] [--think 1.0] [--most 300]

Opens a desk on a temporary folder (the built-in model, or with --tiny one that is made for it), keeps its
worker busy, and lets every reader open a page, think, and open another, listen to a track in parts, and
follow what happens. Readers and desk share the machine. Ends with 1 if 95 % of the pages do not come within
--most milliseconds, or if anything is refused that should not be.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import quantiles

import httpx
import numpy as np
import soundfile

READERS, UPLOADS, SEEDED = 50, 10, 12
EACH = 12  # clips of one who uploads, at most
MOST_MS = 300
PAGES = ("/clips", "/clips/{clip}", "/catalogue", "/catalogue?words={word}", "/catalogue/tracks/{place}")
PAGES += ("/compare", "/blind", "/accounts", "/truth", "/docs", "/api/clips", "/api/jobs", "/static/desk.css")
SOUNDS = 8  # tracks that are listened to
TESTS = Path(__file__).parent.parent / "tests"


class Load:
    """What readers and uploads have met."""

    def __init__(self, client: httpx.AsyncClient, think_s: float) -> None:
        self.client, self.think_s = client, think_s
        self.took_ms: dict[str, list[float]] = defaultdict(list)
        self.wrong: dict[str, int] = defaultdict(int)
        self.clips: list[str] = []
        self.told = 0
        # made beforehand, so that what is measured is not how long that takes
        self.sounds = [[tone(110 + 50 * i + n, 5) for n in range(EACH)] for i in range(UPLOADS)]
        self.random = random.Random(0)

    async def ask(self, kind: str, method: str, path: str, **more: object) -> httpx.Response | None:
        began = time.perf_counter()
        try:
            answer = await self.client.request(method, path, **more)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            self.wrong[f"{kind}: {type(error).__name__}"] += 1
            return None
        self.took_ms[kind].append(1000 * (time.perf_counter() - began))
        if answer.status_code >= 400:
            self.wrong[f"{kind}: {answer.status_code} {answer.text[:120]}"] += 1
        return answer

    async def reads(self, until: float) -> None:
        """One reader: pages in any order, now and then a track, as a browser asks for it."""
        await asyncio.sleep(self.random.uniform(0, self.think_s))
        while time.monotonic() < until:
            path = self.random.choice(PAGES)
            filled = path.format(
                clip=self.random.choice(self.clips),
                word=self.random.choice(("jig", "reel", "flute", "tone")),
                place=self.random.randrange(SOUNDS),
            )
            await self.ask(f"page {path}", "GET", filled)
            if path.startswith("/catalogue/tracks/"):
                await self.ask("sound", "GET", f"{filled}/peaks.json")
                start = self.random.randrange(1000)
                await self.ask("sound", "GET", f"{filled}/sound", headers={"Range": f"bytes={start}-"})
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * self.think_s)

    async def follows(self, until: float) -> None:
        """What every open page does besides: it is told what happens."""
        try:
            async with self.client.stream("GET", "/events") as stream:
                async for _ in stream.aiter_lines():
                    self.told += 1
                    if time.monotonic() > until:
                        return
        except httpx.HTTPError as error:
            self.wrong[f"events: {type(error).__name__}"] += 1

    async def uploads(self, number: int, until: float) -> None:
        """One who drops in one clip after the other."""
        for count, sound in enumerate(self.sounds[number]):
            if time.monotonic() > until:
                return
            await self.ask("upload", "POST", "/api/clips", files={"file": (f"{number}-{count}.wav", sound)})


def tone(hz: float, seconds: float) -> bytes:
    """A sound file."""
    t = np.arange(round(44100 * seconds)) / 44100
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * hz * t), 44100, format="WAV")
    return buffer.getvalue()


def tiny(place: Path) -> list[str]:
    """Flags of a model and catalogue that are made in a moment."""
    sys.path.insert(0, str(TESTS))
    import linernotes
    from conftest import write_model, write_recordings

    model = write_model(place / "model")
    linernotes.build_catalogue(write_recordings(place / "sounds", [4096] * 40), place / "catalogue", model)
    return ["--model", str(model), "--catalog", str(place / "catalogue")]


async def loaded(link: str, seconds: float, think_s: float) -> Load:
    """Seeds a desk, keeps its worker busy, and lets everybody in."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=link, timeout=60, limits=limits) as client:
        load = Load(client, think_s)
        for number in range(SEEDED):
            prompt = {"prompt": "a jig in G major for flute"} if number % 2 else {}
            sound = {"file": (f"seed {number}.wav", tone(200 + number, 5))}
            posted = await client.post("/api/clips", files=sound, data=prompt)
            load.clips.append(posted.raise_for_status().json()["clip_id"])
        for place in range(SOUNDS):  # listened to before: the first time takes seconds
            (await client.get(f"/catalogue/tracks/{place}/sound")).raise_for_status()
        while not any(job["state"] == "running" for job in (await client.get("/api/jobs")).json()["rows"]):
            await asyncio.sleep(0.2)
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(load.reads(until) for _ in range(READERS)),
            *(load.follows(until) for _ in range(READERS)),
            *(load.uploads(number, until) for number in range(UPLOADS)),
        )
        states = [job["state"] for job in (await client.get("/api/jobs?limit=200")).json()["rows"]]
        if "running" not in states:
            load.wrong["no job was under way any more: the worker was idle"] += 1
        return load


def told(load: Load, most_ms: float) -> bool:
    """Prints what was measured; whether it is as it should be."""
    print(f"{'':38}{'count':>7}{'p50':>8}{'p95':>8}{'max':>8}  ms")
    together = [ms for kind, took in load.took_ms.items() if kind.startswith("page ") for ms in took]
    slowest = 0.0
    for kind, took in [*sorted(load.took_ms.items()), ("all pages", together)]:
        parts = quantiles(took, n=20) if len(took) > 1 else took * 20
        print(f"{kind:38}{len(took):7}{parts[9]:8.0f}{parts[18]:8.0f}{max(took):8.0f}")
        slowest = parts[18]
    print(f"events that readers were told: {load.told}")
    for what, count in load.wrong.items():
        print(f"wrong, {count} times: {what}")
    return slowest < most_ms and not load.wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--tiny", action="store_true", help="a model that is made for it")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--think", type=float, default=1.0, help="between two pages of a reader, in seconds")
    parser.add_argument("--most", type=float, default=MOST_MS, help="milliseconds, where others work besides")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        words = tiny(Path(place)) if asked.tiny else []
        command = [sys.executable, "-m", "linernotes", "desk", f"{place}/desk", "--port", "0", *words]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            link = re.search(r"http://[^/]+", server.stdout.readline())
            assert link is not None
            holds = told(asyncio.run(loaded(link[0], asked.seconds, asked.think)), asked.most)
        finally:
            server.terminate()
            server.wait(30)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
