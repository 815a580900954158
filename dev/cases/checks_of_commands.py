"""What is right for those cases of ``make_cases.py`` that are about commands, whatever they are given.
See ``checks.py``.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from ran import (
    EARLY_S,
    Judge,
    Ran,
    attributions,
    last_line,
    passed,
    sounds,
    unbroken,
)


def cli_overwritten(ran: Ran) -> list[str]:
    records = attributions(ran.out / "r")
    first = records.get("exact.wav", {}).get("query", {})
    faults = [] if first.get("prompt") == "x" else ["exact.wav's record is gone"]
    if "other.wav" not in records and str(ran.out / "r") not in " ".join(ran.stderr.split()):
        faults.append("of the second clip there is neither a record nor a sentence that names the folder")
    return faults + [fault for fault in unbroken(ran) if "No such file" not in fault]  # grep may say that


def cli_two_at_once(ran: Ran) -> list[str]:
    built = ran.catalogues.get("same.catalogue", {})
    expected = len(sounds(ran.root / "a12_should_pass"))
    found = len(built.get("tracks", []))
    faults = [] if found == expected else [f"{found} of {expected} tracks"]
    faults += [] if attributions(ran.out / "same") else ["no attribution"]
    left = [path.name for path in ran.out.glob("same*partial*")]
    return faults + [f"{name} is left behind" for name in left] + unbroken(ran)


def cli_pipe_closed(ran: Ran) -> list[str]:
    faults = [f"stderr: {last_line(ran.stderr)}"] if ran.stderr.strip() else []
    return faults + ([] if ran.stdout.strip() else ["nothing on stdout"])


def cli_wrapped_paths(ran: Ran) -> list[str]:
    folder = ran.out / "a folder with a rather long name for what it holds/and one more below it"
    path = folder / "my clip (take 1).flac"
    lines = (ran.stdout + "\n" + ran.stderr).splitlines()
    hints = [line[line.index("linernotes attribute") :] for line in lines if "linernotes attribute" in line]
    faults = [] if path.exists() else ["there is no clip"]
    faults += [] if any(str(path) in line for line in lines) else ["the path is on no line whole"]
    return faults + [f"not to be pasted: {hint}" for hint in hints if not _pastes(hint, path)]


def _pastes(hint: str, path: Path) -> bool:
    try:
        return str(path) in shlex.split(hint)
    except ValueError:  # a quotation mark without its fellow
        return False


def cli_no_passwd_entry(ran: Ran) -> list[str]:
    return _works_or_names_the_cache(ran, ran.out / "nopasswd")


def cli_read_only_home(ran: Ran) -> list[str]:
    faults = _works_or_names_the_cache(ran, ran.out / "readonly")
    late = ran.code != 0 and ran.seconds > EARLY_S
    return [*faults, f"it took {ran.seconds:.0f} s to say so"] if late else faults


def _works_or_names_the_cache(ran: Ran, folder: Path) -> list[str]:
    if ran.code == 0:
        return [] if attributions(folder) else ["no attribution"]
    return unbroken(ran) + ([] if "LINERNOTES_CACHE" in ran.stderr else passed(ran))


def cli_hub_name(ran: Ran) -> list[str]:
    words = ("folder", "hf download", "--local-dir")
    missing = [f"no word of '{word}'" for word in words if word not in ran.said]
    return ([] if ran.code else ["exit code 0"]) + missing + unbroken(ran)


OF_COMMANDS: tuple[Judge, ...] = (
    cli_overwritten,
    cli_two_at_once,
    cli_pipe_closed,
    cli_wrapped_paths,
    cli_no_passwd_entry,
    cli_read_only_home,
    cli_hub_name,
)
