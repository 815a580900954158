"""Pictures and sound for a page: spectrograms and alignments as PNG, players as MP3; evidence strips,
intervals and the distribution of scores as inline SVG.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import soundfile
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from linernotes.attribution.result import Effect
from linernotes.audio import Sound
from linernotes.report.media import Medium

RANGE_DB = 70.0
LOWEST_HZ, HIGHEST_HZ = 60.0, 10000.0
PICTURE_ROWS, PICTURE_COLUMNS = 160, 560
WINDOW_S, HOP_S = 0.064, 0.010
MP3_COMPRESSION = 0.7  # of 0 to 1: about 120 kbit/s for stereo, so that pages can be sent
MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
OWN_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
INK, ACCENT, DECOY, FAINT = "#22252b", "#b4472e", "#3d6f8e", "#c9c4b8"


def spectrogram_png(sound: Sound) -> Medium:
    """Spectrogram with a logarithmic frequency axis from 60 Hz to 10 kHz and a range of 70 dB, without
    axes.
    """
    rate = sound.rate_hz
    window = round(WINDOW_S * rate)
    transform = ShortTimeFFT(hann(window, sym=False), hop=round(HOP_S * rate), fs=rate, mfft=2 * window)
    level_db = 20 * np.log10(np.abs(transform.stft(sound.samples.mean(axis=0))) + 1e-7)
    rows_hz = np.geomspace(LOWEST_HZ, min(HIGHEST_HZ, rate / 2 * 0.99), PICTURE_ROWS)
    picture = level_db[np.round(rows_hz / transform.delta_f).astype(int)][::-1]
    scaled = np.clip((picture - picture.max()) / RANGE_DB + 1, 0, 1)
    grey = Image.fromarray((scaled * 255).astype(np.uint8))
    image = grey.resize((PICTURE_COLUMNS, PICTURE_ROWS), Image.Resampling.BILINEAR)
    # levels with a palette: a third of the bytes of colours
    image.putpalette((colormaps["magma"](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes())
    return _png(image)


def alignment_png(pairs_qn: np.ndarray) -> Medium:
    """What pairs of passages contribute ``[clip, track]``, one pixel each, the clip's seconds upward: red
    where they speak for the track, blue where against, the stronger the less transparent.
    """
    strength_qn = pairs_qn[::-1] / max(float(np.abs(pairs_qn).max()), 1e-30)
    colours = np.where(strength_qn[..., None] >= 0, _rgb(ACCENT), _rgb(DECOY))
    opacity = np.round(255 * np.abs(strength_qn))[..., None]
    return _png(Image.fromarray(np.concatenate([colours, opacity], axis=-1).astype(np.uint8), "RGBA"))


def player_mp3(sound: Sound) -> Medium:
    """The sound as MP3, which every browser plays."""
    buffer = io.BytesIO()
    channels = len(sound.samples) if len(sound.samples) <= 2 else 1
    if sound.rate_hz not in MP3_RATES_HZ or channels != len(sound.samples):
        sound = sound.converted(sound.rate_hz if sound.rate_hz in MP3_RATES_HZ else 44100, channels)
    samples_nc = np.clip(sound.samples, -1, 1).T
    soundfile.write(buffer, samples_nc, sound.rate_hz, format="MP3", compression_level=MP3_COMPRESSION)
    return Medium("audio/mpeg", ".mp3", buffer.getvalue())


def evidence_svg(change_t: np.ndarray, highest: float) -> str:
    """Bars of a per-frame change of loss, upward where the loss rose; ``highest`` is the scale's top."""
    n = len(change_t)
    bars = []
    for i, value in enumerate(change_t / max(highest, 1e-12)):
        height = float(np.clip(abs(value), 0, 1)) * 20
        y, side = (20 - height, "for") if value >= 0 else (20.0, "against")
        bars.append(
            f'<rect x="{i + 0.08:.2f}" y="{y:.2f}" width="0.84" height="{height:.2f}" class="{side}"/>'
        )
    axis = f'<line x1="0" x2="{n}" y1="20" y2="20" stroke="currentColor" stroke-width="0.3" opacity="0.4"/>'
    return (
        f'<svg viewBox="0 0 {n} 26" preserveAspectRatio="none" class="evidence" '
        f'aria-hidden="true">{"".join(bars)}{axis}</svg>'
    )


def interval_svg(effect: Effect, low: float, high: float) -> str:
    """An expected effect with its interval on the scale ``low`` to ``high``, with a line at nothing."""
    nothing, value, start, end = (
        f"{100 * (x - low) / max(high - low, 1e-12):.2f}"
        for x in (0.0, effect.expected, effect.low, effect.high)
    )
    return (
        '<svg viewBox="0 0 100 12" preserveAspectRatio="none" class="interval" aria-hidden="true">'
        f'<line x1="{nothing}" x2="{nothing}" y1="0" y2="12" class="nothing"/>'
        f'<line x1="{start}" x2="{end}" y1="6" y2="6" class="range"/>'
        f'<line x1="{value}" x2="{value}" y1="2" y2="10" class="expected"/></svg>'
    )


def drawn(
    width: float,
    height: float,
    draw: Callable[..., None],
    font_size: float = 9,
    panels: Sequence[float] = (1.0,),
) -> str:
    """What ``draw`` puts on axes, as SVG; the same input gives the same bytes. Sizes in inches.

    Args:
        draw: is given the axes of each panel.
        panels: their widths, beside each other, in proportion.
    """
    style: dict[str, Any] = {
        "svg.hashsalt": "linernotes",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
    }
    with rc_context({**style, "font.size": font_size}):  # type: ignore[dict-item]
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(*figure.subplots(1, len(panels), width_ratios=panels, squeeze=False)[0])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def scores_svg(training: Sequence[float], decoys: Sequence[float]) -> str:
    """Scores of all tracks from first to last, training tracks and decoys apart."""
    top = max([*training, *decoys, 1e-12])
    edges = list(np.linspace(min([*training, *decoys, 0.0]), top, 60))

    def draw(axes: Axes) -> None:
        axes.hist(training, bins=edges, color=FAINT, label=f"{len(training)} training tracks")
        if decoys:
            label = f"{len(decoys)} decoys, never trained on"
            axes.hist(decoys, bins=edges, histtype="step", color=DECOY, linewidth=1.4, label=label)
        for score in sorted(training, reverse=True)[:10]:
            axes.axvline(score, ymax=0.12, color=ACCENT, linewidth=1.6)
        axes.plot([], [], color=ACCENT, label="the ten first training tracks")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_xlabel("score: higher = removing the track would hurt the clip more")
        axes.set_ylabel("tracks")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)

    # in the colour of the text about it, on light paper and dark; no style of its own, which servers forbid
    return OWN_STYLE.sub("", drawn(7.2, 2.6, draw)).replace("#000000", "currentColor")


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def _png(image: Image.Image) -> Medium:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Medium("image/png", ".png", buffer.getvalue())
