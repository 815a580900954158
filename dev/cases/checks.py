"""What is right for each case of ``make_cases.py``: a function of its name takes a ``Ran`` to its faults.

An empty list means that the case holds. What is right stands in ``cases.json``; here it is in numbers.
Where that allows a refusal in a sentence in place of a result, so does the function.
"""

from __future__ import annotations

from pathlib import Path

from checks_of_commands import OF_COMMANDS
from ran import (
    LOUDNESS_DB,
    NOT_FROM_MODEL,
    PADDED_S,
    PEAK_MIB,
    Judge,
    Ran,
    all_whole,
    attributions,
    exactly,
    fields,
    last_line,
    lasts,
    none_rejected,
    passed,
    refused,
    rejected,
    sounds,
    texts,
    unbroken,
)

# ----------------------------------------------------------------------------------------------- tables


def m01_header_capitals(ran: Ran) -> list[str]:
    if refused(ran, "Split", "column"):
        return []
    artist = "The Oscillators"
    return (
        exactly(ran, "control.wav", "a.wav", "held.wav")
        + fields(ran, "control.wav", title="Control", artist=artist, isrc="GBAYE0000001", split="train")
        + fields(ran, "a.wav", title="A Song", artist=artist, isrc="GBAYE0000002", split="train")
        + fields(ran, "held.wav", title="Held Out", artist=artist, isrc="GBAYE0000003", split="decoy")
    )


def m03_semicolons(ran: Ran) -> list[str]:
    if refused(ran, "semicolon", "separator", "';'"):
        return []
    return (
        exactly(ran, "control.wav", "a.wav")
        + fields(ran, "control.wav", title="Control", artist="X", split="train")
        + fields(ran, "a.wav", title="Für Elise", artist="Beethoven", split="train")
    )


def m04_backslashes(ran: Ran) -> list[str]:
    if ran.rejects and any("slash" in told for told in ran.rejects.values()):
        return exactly(ran, "control.wav")
    return (
        exactly(ran, "control.wav", "audio/a.wav", "audio/disc 2/b.wav")
        + fields(ran, "audio/a.wav", title="A")
        + fields(ran, "audio/disc 2/b.wav", title="B")
        + none_rejected(ran)
    )


def m05_unquoted_comma(ran: Ran) -> list[str]:
    told = [why for name, why in ran.rejects.items() if "a.wav" in name or "3" in name]
    named = any(word in why.lower() for why in told for word in ("field", "column", "comma", "value"))
    return (
        exactly(ran, "control.wav", "b.wav")
        + fields(ran, "control.wav", title="Control", artist="X", isrc="GBAYE0000001")
        + fields(ran, "b.wav", title="Help!", artist="The Beatles", isrc="GBAYE6500003")
        + ([] if named else [f"the row with a field too many is not named as that ({ran.rejects})"])
    )


def m07_nested_tables(ran: Ran) -> list[str]:
    if refused(ran, "metadata.csv"):
        return []
    return (
        exactly(ran, "train/a.wav", "test/held.wav")
        + fields(ran, "train/a.wav", title="A Song", split="train")
        + fields(ran, "test/held.wav", title="Held Out", split="decoy")
    )


def m07_table_misnamed(ran: Ran) -> list[str]:
    if refused(ran, "Metadata.CSV"):
        return []
    return (
        exactly(ran, "control.wav", "held.wav")
        + fields(ran, "control.wav", title="Control", split="train")
        + fields(ran, "held.wav", title="Held Out", split="decoy")
    )


def m09_absolute_paths(ran: Ran) -> list[str]:
    return (
        exactly(ran, "control.wav", "a.wav")
        + fields(ran, "a.wav", title="A")
        + fields(ran, "control.wav", title="Control")
        + none_rejected(ran)
    )


# ---------------------------------------------------------------------------------------------- folders


def f01_hidden(ran: Ran) -> list[str]:
    strict = ran.catalogues.get("f01_hidden.strict", {})
    names = sorted(track["file_name"] for track in strict.get("tracks", []))
    faults = exactly(ran, "control.wav", "song.wav") + lasts(ran, 3.0, "song.wav") + none_rejected(ran)
    if names != ["control.wav", "song.wav"]:
        faults.append(f"--strict made {names or 'no catalogue'}")
    return faults


def f02_linked_folder(ran: Ran) -> list[str]:
    told = [ran.said, *(f"{name} {why}" for name, why in ran.rejects.items())]
    if "albums/a.wav" not in ran.tracks and any("albums" in text and "follow" in text for text in told):
        return exactly(ran, "control.wav")
    return exactly(ran, "control.wav", "albums/a.wav", "albums/b.wav") + none_rejected(ran)


def f04_lfs_pointers(ran: Ran) -> list[str]:
    names = ("a.wav", "b.flac", "c.mp3")
    wrong = [f"{name}: 'export it again'" for name in names if "export it again" in ran.rejects.get(name, "")]
    return exactly(ran, "control.wav") + rejected(ran, names, "LFS") + wrong


def f05_lfs_weights(ran: Ran) -> list[str]:
    faults = [] if ran.code else ["it was loaded"]
    faults += [] if "LFS" in ran.stderr else [f"it says '{last_line(ran.stderr)}'"]
    faults += ["it says 'copy it anew'"] if "copy it anew" in ran.said else []
    return faults + (["it left a clip"] if (ran.out / "lfs.flac").exists() else []) + unbroken(ran)


def f06_fp16_variant(ran: Ran) -> list[str]:
    if ran.code:
        return [] if "fp16 variant" in ran.said else passed(ran)
    return [
        f"there is no {name}"
        for name in ("fp16.flac", "fp16.flac.safetensors")
        if not (ran.out / name).exists()
    ]


def f08_names(ran: Ran) -> list[str]:
    wave = [name for name in sounds(ran.folder) if name.endswith(".wav")]
    tones = {"control.wav", "[red]really a tone.wav", "100% tone #2.wav", "ein Ton für Zoë 音.wav"}
    faults = [] if "…" not in ran.stdout else ["names are cut with '…'"]
    for name in wave:
        if name in tones:
            faults += [] if Path(name).stem in ran.stdout else [f"{name} is not listed"]
        elif ran.stdout.count(name) < 2:
            faults.append(f"{name} is whole in {ran.stdout.count(name)} of 2 lists")
    built = ran.catalogues.get("100% R&B #1 [mix].catalogue", {})
    found = {track["file_name"] for track in built.get("tracks", [])}
    return faults + ([] if found == tones else [f"the tracks are {sorted(found)}"]) + unbroken(ran)


# ------------------------------------------------------------------------------------------------ sound


def a01_piped_wav(ran: Ran) -> list[str]:
    return all_whole(ran)


def a03_joined_mp3(ran: Ran) -> list[str]:
    both = ("joined.mp3", "joined_tagged.mp3")
    names = [name for name in both if "joined" not in ran.rejects.get(name, "")]
    return exactly(ran, "control.wav", *names) + lasts(ran, 6.0, *names, tolerance=2 * PADDED_S)


def a05_cut_relatives(ran: Ran) -> list[str]:
    cut = ("rf64_cut.wav", "rifx_cut.wav", "id3_before_riff_cut.wav")
    whole = ("control.wav", "id3_before_riff.wav")
    return exactly(ran, *whole) + lasts(ran, 3.0, *whole) + rejected(ran, cut, "truncated")


def a06_mp3_no_info_header(ran: Ran) -> list[str]:
    return all_whole(ran)


def a08_mp3_big_cover(ran: Ran) -> list[str]:
    return all_whole(ran)


def a12_should_pass(ran: Ran) -> list[str]:
    names = sounds(ran.folder)
    plain = [name for name in names if name not in ("silent_ends.wav", "adpcm.wav")]
    faults = exactly(ran, *names) + lasts(ran, 3.0, *plain) + none_rejected(ran)
    faults += lasts(ran, 3.0, "adpcm.wav", tolerance=PADDED_S) + lasts(ran, 31.0, "silent_ends.wav")
    loudest = {name: track["loudest_db"] for name, track in ran.tracks.items()}
    if "surround_lr.wav" in loudest and "rate_48000.wav" in loudest:
        quieter = loudest["rate_48000.wav"] - loudest["surround_lr.wav"]
        if abs(quieter) > LOUDNESS_DB:
            faults.append(f"surround_lr.wav is {quieter:.1f} dB quieter than a mono tone")
    return faults


def b01_two_hours(ran: Ran) -> list[str]:
    if refused(ran, "memory", "too long"):
        return within_memory(ran)
    length = 7200 * 48000 // 4096 * 4096 / 48000
    faults = exactly(ran, "control.wav", "dj_mix.flac") + lasts(ran, length, "dj_mix.flac", tolerance=0.1)
    return faults + within_memory(ran)


def within_memory(ran: Ran) -> list[str]:
    return [f"its memory reached {ran.peak_mib:.0f} MiB"] if ran.peak_mib > PEAK_MIB else []


# --------------------------------------------------------------------------------------- clips and shims


def clips(ran: Ran) -> list[str]:
    names = sorted(path.name for path in ran.folder.glob("longer_*"))
    faults = [f"{name} is not attributed" for name in names if name not in attributions(ran.out / name)]
    faults += ["it says 'the model hears at most'"] if "hears at most" in ran.said else []
    return faults + passed(ran) + unbroken(ran)


def shim_no_chmod(ran: Ran) -> list[str]:
    lost = [
        name for name in ("clip.flac", "clip.flac.safetensors") if not (ran.out / "nochmod" / name).exists()
    ]
    return passed(ran) + [f"there is no {name}" for name in lost]


# --------------------------------------------------------------------- rows beyond the maker's own cases


def hf_audiofolder(ran: Ran) -> list[str]:
    return (
        exactly(ran, "train/a.wav", "train/b.wav", "test/c.wav")
        + fields(ran, "train/a.wav", title="A Song", caption="a slow reel", split="train")
        + fields(ran, "train/b.wav", title="B Song", caption="a jig", split="train")
        + fields(ran, "test/c.wav", title="C Song", split="decoy")  # held out: never trained on
        + none_rejected(ran)
    )


def stable_audio_tools(ran: Ran) -> list[str]:
    return (
        exactly(ran, "a.wav", "b.wav")
        + fields(ran, "a.wav", caption="a slow reel")
        + fields(ran, "b.wav", caption="a jig")
        + none_rejected(ran)
    )


def audiocraft(ran: Ran) -> list[str]:
    return (
        exactly(ran, "a.wav", "b.wav")
        + fields(ran, "a.wav", title="A Song", artist="X", caption="a slow reel")
        + fields(ran, "b.wav", title="B Song", artist="X", caption="a jig")
        + none_rejected(ran)
    )


def ace_step(ran: Ran) -> list[str]:
    faults = exactly(ran, "a.wav", "b.wav") + none_rejected(ran)
    for name, caption, bpm, key in (
        ("a.wav", "a slow reel", "96", "D major"),
        ("b.wav", "a jig", "120", "G major"),
    ):
        kept = {k.lower(): v for k, v in ran.tracks.get(name, {}).get("extra", {}).items()}
        faults += fields(ran, name, caption=caption)
        if (kept.get("bpm"), kept.get("key")) != (bpm, key):
            faults.append(f"BPM and Key of {name} are not kept")
    return faults


def human_recording(ran: Ran) -> list[str]:
    record = attributions(ran.out / ran.name).get("exact.wav")
    if record is None:
        return [*passed(ran), "no attribution"]
    pages = list((ran.out / ran.name).rglob("*.html"))
    places = {
        "attribution.json": " ".join(texts(record)).replace("_", " "),
        "the terminal": ran.said,
        "the page": " ".join(path.read_text() for path in pages),
    }
    return [f"{place} does not say so" for place, text in places.items() if not NOT_FROM_MODEL.search(text)]


def forgotten_catalogue(ran: Ran) -> list[str]:
    if not (ran.out / "forgotten.flac").exists():
        return [f"nothing was generated: {last_line(ran.stderr)}"]
    faults = [] if ran.code else ["it is answered, exit code 0"]
    faults += [] if "catalog" in ran.stderr else ["no word of the catalogue"]
    return faults + (["it left a record"] if attributions(ran.out / "forgotten") else [])


def two_hour_wav(ran: Ran) -> list[str]:
    return exactly(ran, "long.wav") + lasts(ran, 7200.0, "long.wav", tolerance=0.1) + within_memory(ran)


_ALL: tuple[Judge, ...] = (
    m01_header_capitals,
    m03_semicolons,
    m04_backslashes,
    m05_unquoted_comma,
    m07_nested_tables,
    m07_table_misnamed,
    m09_absolute_paths,
    f01_hidden,
    f02_linked_folder,
    f04_lfs_pointers,
    f05_lfs_weights,
    f06_fp16_variant,
    f08_names,
    a01_piped_wav,
    a03_joined_mp3,
    a05_cut_relatives,
    a06_mp3_no_info_header,
    a08_mp3_big_cover,
    a12_should_pass,
    b01_two_hours,
    clips,
    shim_no_chmod,
    *OF_COMMANDS,
    hf_audiofolder,
    stable_audio_tools,
    audiocraft,
    ace_step,
    human_recording,
    forgotten_catalogue,
    two_hour_wav,
)
JUDGES: dict[str, Judge] = {judge.__name__: judge for judge in _ALL}  # type: ignore[attr-defined]
