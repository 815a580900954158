"""What turned sound and words into numbers. A catalogue has an encoding, a model has one, and they must be
equal.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Encoding:
    """Sizes of a model's latents (or codes) and text embeddings, and the hashes of what makes them.

    A *frame* is one step in time of the latents ``[latent_channels, frames]``; one segment is ``frames``
    long, which is also the longest clip that the model generates.
    """

    model: str  # the name of one model that encodes so
    codec_hash: str  # of what turns sound into latents
    text_hash: str  # of what turns prompts into text embeddings
    rate_hz: int
    channels: int
    latent_channels: int
    frames: int
    frame_samples: int  # samples in one frame
    text_tokens: int
    text_dim: int
    codes: int = 0  # size of a codebook, where latents are codes; 0: they are real numbers

    @property
    def segment_samples(self) -> int:
        """Samples in one segment."""
        return self.frames * self.frame_samples

    @property
    def segment_s(self) -> float:
        """Seconds in one segment."""
        return self.segment_samples / self.rate_hz

    @property
    def made_by(self) -> tuple[str, str, int]:
        """What two encodings must have in common for one to stand for the other."""
        return self.codec_hash, self.text_hash, self.frames
