"""Runs every case of ``make_cases.py``, and some beside them, and prints which hold.

    python dev/cases [MAKER] [--work FOLDER] [--big] [--only NAME ...]

MAKER writes the cases (by default ``../shared/cases/make_cases.py``), FOLDER keeps what was made and printed
(a temporary folder, removed at the end, if left out). ``--big`` adds two-hour recordings and a trained model,
``--only`` takes names or patterns. Exit code 1 if a case does not hold; what is right is in ``checks.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import soundfile
from checks import JUDGES
from ran import Ran

MAKER = Path(__file__).resolve().parents[2].parent / "shared/cases/make_cases.py"
TIMEOUT_S = 1200.0
BIG_TIMEOUT_S = 5400.0
WITHOUT_CACHE = (
    "cli_no_passwd_entry",
    "cli_read_only_home",
)  # they are about where the cache is when nobody says
RATE = 22050
UNSHARE = ["unshare", "--user", "--map-user=12345", "--map-group=12345", "true"]

READ_CATALOGUES = """
import json, sys
from pathlib import Path
import numpy as np
from linernotes.catalog.store import Catalogue

def told(catalogue):
    tracks = []
    for place, track in enumerate(catalogue.tracks):
        rows = np.flatnonzero(catalogue.track_n == place)
        loudest = float(catalogue.loudness_db(rows).max())
        seconds = float(catalogue.seconds_n[rows].sum())
        tracks.append({**track.__dict__, "seconds": seconds, "loudest_db": loudest})
    return {"tracks": tracks, "rejects": [reject.__dict__ for reject in catalogue.rejects()]}

found = {}
for path in Path(sys.argv[1]).glob("*/catalogue.json"):
    try:
        found[path.parent.name] = told(Catalogue(path.parent))
    except Exception as error:
        found[path.parent.name] = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Case:
    """What is run under a name; ``{root}``, ``{here}`` and ``{out}`` are filled in already."""

    name: str
    command: str
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True)
class Extra:
    """A row beside the maker's cases: what writes its folder, and its command."""

    write: Callable[[Path], None]
    command: str
    big: bool = False


# ------------------------------------------------------------------------------ rows beside the maker's


def tone(pitch_hz: float, seconds: float = 3.0, rate_hz: int = RATE) -> np.ndarray:
    """A tone with a slow swell, ``[n]`` float32."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    swell = 0.7 + 0.3 * np.cos(2 * np.pi * 0.7 * t)
    return (0.4 * swell * np.sin(2 * np.pi * pitch_hz * t)).astype(np.float32)


def write_tones(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, tone(220 * 1.26**number), RATE)


def write_hf_audiofolder(folder: Path) -> None:
    write_tones(folder, "train/a.wav", "train/b.wav", "test/c.wav")
    table = "file_name,title,caption\na.wav,A Song,a slow reel\nb.wav,B Song,a jig\n"
    (folder / "train/metadata.csv").write_text(table)
    (folder / "test/metadata.jsonl").write_text('{"file_name": "c.wav", "title": "C Song"}\n')


def write_stable_audio_tools(folder: Path) -> None:
    write_tones(folder, "a.wav", "b.wav")
    (folder / "a.txt").write_text("a slow reel\n")
    (folder / "b.json").write_text('{"prompt": "a jig", "seconds_total": 3}\n')


def write_audiocraft(folder: Path) -> None:
    """Its manifest has absolute paths; a relative one leads from the folder."""
    write_tones(folder, "a.wav", "b.wav")
    lines = []
    for name, where, caption in (("a", f"{folder.resolve()}/a.wav", "a slow reel"), ("b", "b.wav", "a jig")):
        lines.append({"path": where, "duration": 3.0, "sample_rate": RATE, "amplitude": None, "weight": None})
        about = {
            "name": name,
            "title": f"{name.upper()} Song",
            "artist": "X",
            "description": caption,
            "duration": 3.0,
        }
        about |= {
            "sample_rate": RATE,
            "file_extension": "wav",
            "key": "",
            "bpm": "",
            "genre": "",
            "moods": [],
        }
        (folder / f"{name}.json").write_text(json.dumps(about))
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_ace_step(folder: Path) -> None:
    write_tones(folder, "a.wav", "b.wav")
    table = "File,BPM,Key,Caption\na.wav,96,D major,a slow reel\nb.wav,120,G major,a jig\n"
    (folder / "key_bpm.csv").write_text(table)


def write_four_tones(folder: Path) -> None:
    write_tones(folder, "a.wav", "b.wav", "c.wav", "d.wav")


def write_two_hour_wav(folder: Path) -> None:
    """1.27 GB: ten seconds of stereo at 44.1 kHz, 720 times."""
    folder.mkdir(parents=True, exist_ok=True)
    ten_seconds = np.repeat(tone(220.0, 10.0, 44100)[:, None], 2, axis=1)
    with soundfile.SoundFile(folder / "long.wav", "w", 44100, 2, "PCM_16") as file:
        for _ in range(720):
            file.write(ten_seconds)


def write_nothing(folder: Path) -> None:
    """The command takes another case's files."""


BUILD = "linernotes catalog build {here} -o {out}/{name}.catalogue --json"
FORGOTTEN = (
    "linernotes catalog build {here} -o {out}/{name}.catalogue && "
    "linernotes train {out}/{name}.catalogue -o {here}/model --steps 2 --batch-size 4 && "
    "linernotes generate --model {here}/model --prompt x -o {out}/forgotten.flac && "
    "linernotes attribute {out}/forgotten.flac --model {here}/model --method random -o {out}/forgotten"
)
HUMAN = "linernotes attribute {root}/clips/exact.wav --prompt x --method random -o {out}/{name}"
EXTRAS: dict[str, Extra] = {
    "hf_audiofolder": Extra(write_hf_audiofolder, BUILD),
    "stable_audio_tools": Extra(write_stable_audio_tools, BUILD),
    "audiocraft": Extra(write_audiocraft, BUILD),
    "ace_step": Extra(write_ace_step, BUILD),
    "human_recording": Extra(write_nothing, HUMAN),
    "forgotten_catalogue": Extra(write_four_tones, FORGOTTEN, big=True),
    "two_hour_wav": Extra(write_two_hour_wav, BUILD, big=True),
}


# ----------------------------------------------------------------------------------------------- running


def make(maker: Path, root: Path, big: bool, only: list[str]) -> list[Case]:
    """Writes all of the maker's files, since some cases use others', and the wanted folders beside them."""
    subprocess.run([sys.executable, str(maker), str(root), *(["--big"] if big else [])], check=True)
    listed = json.loads((root / "cases.json").read_text(encoding="utf-8"))
    long = BIG_TIMEOUT_S if big else TIMEOUT_S
    cases = [Case(one["case"], one["command"], long) for one in listed if wanted(one["case"], only)]
    for name, extra in EXTRAS.items():
        if wanted(name, only) and (big or not extra.big):
            extra.write(root / name)
            command = extra.command.format(here=root / name, out=root / "out", root=root, name=name)
            cases.append(Case(name, command, long))
    return cases


def wanted(name: str, only: list[str]) -> bool:
    return not only or any(fnmatch(name, pattern) for pattern in only)


def environment(case: Case, work: Path) -> dict[str, str]:
    """That of a plain terminal without a width, with a cache of its own for every case."""
    unset = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "LINERNOTES_CACHE", "XDG_CACHE_HOME"}
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    env["OMP_NUM_THREADS"] = "1"
    env["TMPDIR"] = str(work / "tmp")
    if case.name not in WITHOUT_CACHE:
        env["LINERNOTES_CACHE"] = str(work / "cache" / case.name)
    return env


def run(case: Case, root: Path, work: Path) -> Ran:
    """Runs a case's command in bash; its peak memory is its largest process's. Code 124: it ran too long."""
    said = work / "said"
    said.mkdir(exist_ok=True)
    start = time.monotonic()
    with (said / f"{case.name}.out").open("wb") as out, (said / f"{case.name}.err").open("wb") as err:
        started = subprocess.Popen(
            ["bash", "-c", case.command],
            cwd=work,
            env=environment(case, work),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        done, status, usage = os.wait4(started.pid, os.WNOHANG)
        timed_out = False
        while not done:
            time.sleep(0.05)
            if not timed_out and time.monotonic() - start > case.timeout_s:
                timed_out = True
                os.killpg(started.pid, signal.SIGKILL)
            done, status, usage = os.wait4(started.pid, os.WNOHANG)
        started.returncode = 124 if timed_out else os.waitstatus_to_exitcode(status)
    return Ran(
        name=case.name,
        root=root,
        code=started.returncode,
        stdout=(said / f"{case.name}.out").read_text("utf-8", "replace"),
        stderr=(said / f"{case.name}.err").read_text("utf-8", "replace"),
        seconds=time.monotonic() - start,
        peak_mib=usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10),
    )


def skipped(case: Case) -> str:
    """Why a case cannot be run on this machine; empty if it can."""
    if "unshare " not in case.command:
        return ""
    if shutil.which("unshare") is None:
        return "there is no unshare here"
    tried = subprocess.run(UNSHARE, capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"unshare is forbidden: {tried.stderr.strip()}"


def read_catalogues(root: Path) -> dict[str, dict[str, object]]:
    """What stands in all catalogues under ``root/out``, by their names."""
    command = [sys.executable, "-c", READ_CATALOGUES, str(root / "out")]
    read = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(read.stdout)  # type: ignore[no-any-return]


def judged(ran: Ran) -> list[str]:
    if ran.code == 124:
        return [f"it was stopped after {ran.seconds:.0f} s"]
    judge = JUDGES.get(ran.name)
    if judge is None:
        return ["checks.py has no judge for it"]
    try:
        return list(dict.fromkeys(judge(ran)))
    except (OSError, ValueError, KeyError, TypeError) as error:  # what it left is not what the judge reads
        return [f"cannot be judged: {type(error).__name__}: {error}"]


def check(maker: Path, work: Path, big: bool, only: list[str]) -> bool:
    """Makes, runs and judges; prints the table. True if all that could be run hold."""
    root = work / "cases"
    for name in ("cases", "cache", "tmp", "said"):
        shutil.rmtree(work / name, ignore_errors=True)
    (work / "tmp").mkdir(parents=True)
    cases = make(maker, root, big, only)
    (root / "out").mkdir(exist_ok=True)
    reasons = {case.name: skipped(case) for case in cases}
    rans: dict[str, Ran] = {}
    for number, case in enumerate(cases, start=1):
        if not reasons[case.name]:
            print(f"{number}/{len(cases)} {case.name}", file=sys.stderr, flush=True)
            rans[case.name] = run(case, root, work)
    catalogues = read_catalogues(root)
    faults = {name: judged(replace(ran, catalogues=catalogues)) for name, ran in rans.items()}
    for case in cases:
        if reasons[case.name]:
            print(f"{case.name:24} skipped ({reasons[case.name]})")
            continue
        ran, wrong = rans[case.name], faults[case.name]
        verdict = "does NOT hold" if wrong else "holds"
        cost = f"{ran.seconds:7.1f} s {ran.peak_mib:7.0f} MiB"
        print(f"{case.name:24} {verdict:14} {cost}  {'; '.join(wrong)}".rstrip())
    held = sum(not wrong for wrong in faults.values())
    aside = len(cases) - len(rans)
    print(f"{held} of {len(rans)} cases hold" + (f", {aside} skipped" if aside else ""))
    return held == len(rans) and bool(rans)


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("maker", nargs="?", type=Path, default=MAKER, help="what writes the cases")
    parser.add_argument("--work", type=Path, help="a folder to keep what is made and printed in")
    parser.add_argument("--big", action="store_true", help="also recordings of two hours and a trained model")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names or patterns of cases")
    given = parser.parse_args()
    if not given.maker.is_file():
        sys.exit(f"{given.maker} is no file: give the program that writes the cases")
    if not (Path(sys.executable).parent / "linernotes").exists():
        sys.exit(f"there is no linernotes beside {sys.executable}: run this with .venv/bin/python")
    with tempfile.TemporaryDirectory(prefix="linernotes-cases-") as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        held = check(given.maker, work, given.big, given.only)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
