"""Sound: what is read is what was written, and nothing damaged passes for whole."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from linernotes.audio import AudioError, Sound, loudness_db, read_part, read_sound, stream_sound, write_sound
from linernotes.errors import LinernotesError

RATE_HZ = 48000  # a rate Opus has
FORMATS = {
    "a.wav": {},
    "b.wav": {"subtype": "FLOAT"},
    "a.flac": {},
    "a.ogg": {},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
}


def noise(seconds: float = 2.0) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((round(seconds * RATE_HZ), 2)) * 0.1).astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_whole(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, noise(), RATE_HZ, **FORMATS[name])
    sound = read_sound(tmp_path / name)
    assert sound.samples.shape[0] == 2
    assert sound.seconds == pytest.approx(2.0, abs=0.05)  # MP3 pads to whole frames of 24 ms


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    """Decoders return such files silently short; linernotes never does."""
    path = tmp_path / name
    soundfile.write(path, noise(), RATE_HZ, **FORMATS[name])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(AudioError) as caught:
        read_sound(path)
    assert caught.value.reason in ("truncated", "undecodable")


@pytest.mark.parametrize("quiet_start", [True, False])
def test_an_mp3_without_its_header_frame_is_whole_or_refused(tmp_path: Path, quiet_start: bool) -> None:
    """Decoders guess such a file's length from its first frame, and may stop there."""
    path = tmp_path / "sound.mp3"
    samples = noise(4.0)
    samples[: RATE_HZ // 2] *= 0.001 if quiet_start else 3
    soundfile.write(path, samples, RATE_HZ)
    whole = path.read_bytes()
    path.write_bytes(whole[whole.index(whole[:2], 4) :])
    try:
        assert read_sound(path).seconds == pytest.approx(4.0, abs=0.1)
    except AudioError as error:
        assert error.reason in ("truncated", "undecodable")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(AudioError, match="truncated"):
        read_sound(path)


def damage(path: Path, kind: str) -> None:
    samples = noise(0.5)
    if kind == "damaged":
        samples[100] = np.nan
        soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
    elif kind == "scaled wrongly":
        soundfile.write(path, samples * 32768, RATE_HZ, subtype="FLOAT")
    elif kind == "silent":
        soundfile.write(path, samples * 0, RATE_HZ)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "mislabelled":
        soundfile.write(path, samples, RATE_HZ, format="FLAC")
    elif kind == "undecodable":
        path.write_text("This is no sound, only words that go on for a while.")


@pytest.mark.parametrize(
    "kind", ["damaged", "scaled wrongly", "silent", "empty", "mislabelled", "undecodable", "missing"]
)
def test_bad_files_are_named_with_their_reason(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sound.wav"
    damage(path, kind)
    with pytest.raises(AudioError, match=r"sound\.wav is") as caught:
        read_sound(path)
    assert caught.value.reason == kind


def test_a_flac_that_carries_an_mp3s_tag_is_a_flac(tmp_path: Path) -> None:
    path = tmp_path / "tagged.flac"
    soundfile.write(path, noise(0.5), RATE_HZ)
    path.write_bytes(b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128) + path.read_bytes())
    assert read_sound(path).seconds == pytest.approx(0.5)


def test_vorbis_of_stable_audio_opens_length_is_written(tmp_path: Path) -> None:
    """libsndfile's encoder dies of 2^21 frames in one call."""
    long = Sound(np.tile(noise(1.0).T[:1], 44)[:, : 1 << 21], RATE_HZ)
    write_sound(tmp_path / "clip.ogg", long)
    assert soundfile.info(tmp_path / "clip.ogg").frames == 1 << 21


def test_resampling_keeps_a_tone_where_it_was() -> None:
    t = np.arange(RATE_HZ) / RATE_HZ
    sound = Sound(np.sin(2 * np.pi * 1000 * t)[None].astype(np.float32), RATE_HZ).converted(16000, 1)
    spectrum = np.abs(np.fft.rfft(sound.samples[0]))
    assert sound.samples.shape == (1, 16000)
    assert spectrum.argmax() == 1000  # one second: bin number = frequency


def test_channels_are_averaged_or_repeated() -> None:
    stereo = Sound(np.array([[1.0, 0.0], [0.0, 0.5]], dtype=np.float32), RATE_HZ)
    mono = stereo.converted(RATE_HZ, 1)
    np.testing.assert_array_equal(mono.samples, [[0.5, 0.25]])
    np.testing.assert_array_equal(mono.converted(RATE_HZ, 2).samples, [[0.5, 0.25], [0.5, 0.25]])


def test_loudness_of_a_full_scale_sine_is_three_db_below_full_scale() -> None:
    sine = np.sin(2 * np.pi * 10 * np.arange(1000) / 1000)[None]
    assert loudness_db(sine, 500) == pytest.approx([-3.0103, -3.0103], abs=1e-3)


def test_a_clip_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LinernotesError, match=r"\.flac, \.wav or \.ogg"):
        write_sound(tmp_path / "clip.xyz", Sound(noise().T, RATE_HZ))
    assert list(tmp_path.iterdir()) == []


RELATIVES = {
    **FORMATS,
    "a.aiff": {},
    "a.caf": {},
    "a.w64": {},
    "a.au": {},
    "x.wav": {"format": "RF64", "subtype": "PCM_16"},
    "y.wav": {"endian": "BIG", "subtype": "PCM_16"},
}


@pytest.mark.parametrize("name", RELATIVES)
def test_joined_recordings_come_out_whole_or_are_named(tmp_path: Path, name: str) -> None:
    """The first part of two that were joined byte by byte never passes for both."""
    path = tmp_path / name
    soundfile.write(path, noise(), RATE_HZ, **RELATIVES[name])
    path.write_bytes(path.read_bytes() * 2)
    try:
        assert read_sound(path).seconds == pytest.approx(4.0, abs=0.1)
    except AudioError as error:
        assert error.reason == "longer than its header says"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("name", [name for name in RELATIVES if name not in FORMATS])
def test_cut_relatives_are_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(), RATE_HZ, **RELATIVES[name])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(AudioError) as caught:
        read_sound(path)
    assert caught.value.reason in ("truncated", "undecodable")


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_damage_in_the_middle_is_named_with_its_second(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(4.0), RATE_HZ, **FORMATS[name])
    whole = path.read_bytes()
    at = len(whole) // 2
    path.write_bytes(whole[:at] + bytes(2000) + whole[at + 2000 :])
    with pytest.raises(AudioError, match=r"decoded at \d\.\d\d s") as caught:
        read_sound(path)
    assert caught.value.reason == "damaged"
    said_s = float(caught.value.detail.split(" at ")[1].split(" s")[0])
    assert 0.9 < said_s < 2.3  # the damage begins at 2 s; an Ogg page holds up to a second


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB])
def test_a_size_that_a_pipe_left_is_not_believed(tmp_path: Path, size: int) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, noise(), RATE_HZ, subtype="PCM_16")
    whole = bytearray(path.read_bytes())
    at = whole.index(b"data") + 4
    whole[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(whole)
    assert read_sound(path).seconds == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "b.wav"])
def test_lossless_files_are_read_to_the_last_digit(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, noise(), RATE_HZ, **FORMATS[name])
    expected, _ = soundfile.read(tmp_path / name, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(read_sound(tmp_path / name).samples, expected.T)


def test_a_stream_is_the_whole_in_pieces(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(20.0), RATE_HZ, subtype="FLOAT")
    streamed = list(stream_sound(tmp_path / "a.wav", RATE_HZ, 1))
    assert len(streamed) > 1
    whole = read_sound(tmp_path / "a.wav").converted(RATE_HZ, 1).samples
    np.testing.assert_array_equal(np.concatenate(streamed, axis=1), whole)
    resampled = np.concatenate(list(stream_sound(tmp_path / "a.wav", 22050, 1)), axis=1)
    at_once = read_sound(tmp_path / "a.wav").converted(22050, 1).samples
    assert abs(resampled.shape[1] - at_once.shape[1]) <= 1
    n = min(resampled.shape[1], at_once.shape[1])
    np.testing.assert_allclose(resampled[:, :n], at_once[:, :n], atol=1e-4)  # soxr's own rounding at the ends


def test_a_part_is_that_part_of_the_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(20.0), RATE_HZ)
    whole = read_sound(tmp_path / "a.flac").samples
    part = read_part(tmp_path / "a.flac", 11.5, 3.0).samples
    np.testing.assert_array_equal(part, whole[:, round(11.5 * RATE_HZ) : round(14.5 * RATE_HZ)])


def test_silent_loudspeakers_do_not_make_a_recording_quieter(tmp_path: Path) -> None:
    six = np.zeros((RATE_HZ, 6), dtype=np.float32)
    six[:, :2] = noise(1.0)
    soundfile.write(tmp_path / "six.wav", six, RATE_HZ, format="WAVEX", subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "six.wav").samples, noise(1.0).T, atol=1e-6)


def test_a_pointer_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n"
    )
    with pytest.raises(AudioError, match="git lfs pull"):
        read_sound(tmp_path / "a.mp3")
    with pytest.raises(AudioError, match="is a folder: give a sound file"):
        read_sound(tmp_path)


def encoded(name: str, rate_hz: int = RATE_HZ, channels: int = 2) -> bytes:
    buffer = io.BytesIO()
    how = {
        "a.mp3": {"format": "MP3"},
        "a.ogg": {"format": "OGG"},
        "a.flac": {"format": "FLAC"},
        "a.wav": {"format": "WAV"},
    }
    opus = {"format": "OGG", "subtype": "OPUS"}
    soundfile.write(buffer, noise(2.0 * rate_hz / RATE_HZ)[:, :channels], rate_hz, **how.get(name, opus))
    return buffer.getvalue()


def id3(size: int = 100) -> bytes:
    return b"ID3\x04\x00\x00" + bytes((0, 0, size >> 7, size & 127)) + bytes(size)


TAG = b"TAG" + b"Title".ljust(125, b"\0")


@pytest.mark.parametrize(
    ("name", "content", "seconds"),
    [
        ("a.mp3", id3() + id3() + encoded("a.mp3"), 2.0),
        ("a.mp3", encoded("a.mp3") + bytes(5000), 2.0),
        ("a.mp3", encoded("a.mp3") + TAG, 2.0),
        ("a.mp3", encoded("a.mp3") + encoded("a.mp3", 44100, 1), 4.0),
        ("a.flac", encoded("a.flac") + TAG, 2.0),
        ("a.ogg", id3() + encoded("a.ogg"), 2.0),
        ("a.ogg", encoded("a.ogg") + encoded("a.ogg", 44100, 1), 4.0),
        ("a.opus", encoded("a.opus", channels=1) + encoded("a.opus"), 4.0),
        ("a.wav", encoded("a.wav") + id3(), 2.0),
        ("a.wav", encoded("a.wav") + bytes(10000), 2.0),
    ],
)
def test_what_stands_around_a_recording_is_no_damage(
    tmp_path: Path, name: str, content: bytes, seconds: float
) -> None:
    """Tags before and behind, padding, and a second part at another rate or with other channels."""
    (tmp_path / name).write_bytes(content)
    # MP3 pads each part to whole frames
    assert read_sound(tmp_path / name).seconds == pytest.approx(seconds, abs=0.08)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.opus", "a.flac"])
@pytest.mark.parametrize("first", [True, False])
def test_a_joined_recording_with_half_of_a_part_is_refused(tmp_path: Path, name: str, first: bool) -> None:
    """That the other part is whole does not make up for it."""
    whole = encoded(name)
    half = whole[: len(whole) // 2]
    (tmp_path / name).write_bytes(half + whole if first else whole + half)
    with pytest.raises(AudioError) as caught:
        read_sound(tmp_path / name)
    assert caught.value.reason in ("truncated", "damaged", "undecodable")


def write_with_av(path: Path, codec: str) -> None:
    """Two seconds of noise in a container that soundfile does not write."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        stream.layout = "stereo"
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        kind = stream.codec_context.format.name
        samples = noise().T
        for start in range(0, samples.shape[1], size):
            part = samples[:, start : start + size]
            part = part if kind.startswith("flt") else (part * 32767).astype(np.int16).T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=kind, layout="stereo")
            frame.sample_rate, frame.pts = RATE_HZ, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4a", "aac"), ("a.aac", "aac"), ("a.mka", "flac"), ("a.mkv", "aac")]
)
def test_what_phones_and_web_pages_record_is_read_whole_or_refused(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = tmp_path / name
    write_with_av(path, codec)
    assert read_sound(path).seconds == pytest.approx(2.0, abs=0.05)  # AAC pads to whole frames of 21 ms
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError) as caught:
        read_sound(path)
    assert caught.value.reason in ("truncated", "undecodable")
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(3000) + whole[middle + 3000 :])
    with pytest.raises(AudioError, match=r"(decoded at|truncated:) [01]\.\d\d s"):
        read_sound(path)
