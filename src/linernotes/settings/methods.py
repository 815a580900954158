"""The settings of every attribution method. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

Skew = Literal["difference", "normalised", "first-order"]
Gather = Literal["norm", "sum", "mean", "max"]  # catalog.gathering
FisherKind = Literal["sampled", "empirical"]

Draws = Annotated[int, Field(gt=0, description="Draws of noise on which items are scored.")]
GradientDraws = Annotated[int, Field(gt=0, description="Draws the query's gradient is averaged over.")]
Layers = Annotated[
    str,  # the models say which kinds they have
    Field(
        description="Which layers are looked at or unlearned: all, output, or another kind of the model's "
        "(Stable Audio: self-attention, cross-attention, cross-attention-kv, mlp, last-mlp)."
    ),
]
StepSize = Annotated[
    float,
    Field(gt=0, description="a: how far the weights move; theta' = theta + (a/N) (F + damping)^-1 g"),
]
Damping = Annotated[float, Field(ge=0, description="Damping, as a multiple of each layer's mean curvature.")]
NoiseBands = Annotated[
    int,
    Field(gt=0, description="Split the noise levels into so many bands; a band is only held against itself."),
]
FisherDraws = Annotated[int, Field(gt=0, description="Draws per training segment for the curvature.")]
MaskSilence = Annotated[bool, Field(description="Leave silent frames of the query out of its gradient.")]
ScoreBy = Annotated[
    Skew,
    Field(
        description="L' - L; the normalised skew (L' - L) / (L' + L + 0.001); or the first order of L' - L."
    ),
]


class MethodSettings(BaseModel, frozen=True, extra="forbid"):
    """What can be set of every method."""

    family: ClassVar[str]
    paper: ClassVar[str]
    cost: ClassVar[str]  # once per model; per query. N segments, K draws.
    # how the scores of a track's segments become the track's: by their norm where a score is of losses, the
    # highest where it is a likeness
    gather: ClassVar[Gather] = "norm"

    seed: Annotated[int, Field(ge=0, lt=2**32, description="Seed of all draws.")] = 0
    batch_size: Annotated[
        int,
        Field(gt=0, description="Passes at once, where memory holds so many; does not change the result."),
    ] = 32

    # what can be asked of every method, also of one that has no such setting

    @property
    def one_set(self) -> bool:
        """Whether all clips of a run are taken as one query."""
        return False

    @property
    def bands(self) -> int:
        """Bands of noise levels, each of which is only held against itself."""
        return 1

    @property
    def item_draws(self) -> int:
        """Draws of noise on which items are scored; 0 for a method that draws none."""
        return 0

    @property
    def layer_kind(self) -> str:
        """The layers that are looked at."""
        return "all"


class UnlearningSettings(MethodSettings, frozen=True, extra="forbid"):
    """Copies of the model that forgot the query."""

    family: ClassVar[str] = "unlearning"

    draws: Draws = 16
    gradient_draws: GradientDraws = 1024
    mask_silence: MaskSilence = True
    together: Annotated[
        bool, Field(description="Unlearn all clips as one set: one attribution for all of them.")
    ] = False

    @property
    def one_set(self) -> bool:
        return self.together

    @property
    def item_draws(self) -> int:
        return self.draws


class ReadoutSettings(UnlearningSettings, frozen=True, extra="forbid"):
    """Unlearn the query in the linear read-out of the last features, exactly, one
    band of noise levels after the other.
    """

    paper: ClassVar[str] = "linernotes, after Wang et al. 2024 (2406.09408)"
    cost: ClassVar[str] = "N K forwards; N K forwards for all queries of a run together"

    gradient_draws: GradientDraws = 256
    # 8, or what divides draws
    noise_bands: NoiseBands = Field(default_factory=lambda own: math.gcd(own.get("draws", 8), 8))
    step_size: StepSize = 1.0
    damping: Damping = 0.01

    @property
    def bands(self) -> int:
        return self.noise_bands


class RescoringSettings(UnlearningSettings, frozen=True, extra="forbid"):
    """Changed weights, under which all items are gone through again."""

    cost: ClassVar[str] = "N K forwards; N K forwards"

    layers: Layers = "all"
    score_by: ScoreBy = "difference"

    @property
    def layer_kind(self) -> str:
        return self.layers


class AbuSettings(RescoringSettings, frozen=True, extra="forbid"):
    """Unlearn the query by steps preconditioned with the diagonal Fisher; what gets worse shaped it."""

    paper: ClassVar[str] = "Wang et al. 2024 (2406.09408); music: Choi et al. 2025 (2506.18312)"
    cost: ClassVar[str] = "N K forwards, N squared gradients a Fisher draw; N K forwards"

    noise_bands: NoiseBands = 1
    step_size: StepSize = 1e-4
    steps: Annotated[int, Field(gt=0, description="Number of such steps, each with a fresh gradient.")] = 1
    damping: Damping = 0.1
    fisher_draws: FisherDraws = 2

    @property
    def bands(self) -> int:
        return self.noise_bands


class AbuEkfacSettings(AbuSettings, frozen=True, extra="forbid"):
    """AbU+: the same with EK-FAC curvature, on the linear layers."""

    paper: ClassVar[str] = "Wang et al. 2025 (2511.10721)"
    cost: ClassVar[str] = "N K forwards, two passes of item gradients over the training set; N K forwards"

    fisher: Annotated[FisherKind, Field(description="EK-FAC from sampled or from true targets.")] = "sampled"
    step_size: StepSize = 1e-2


class MucsSettings(RescoringSettings, frozen=True, extra="forbid"):
    """Ascend on the query, bounded by an untrained network's loss, while a retain batch holds the rest."""

    paper: ClassVar[str] = "Serra et al. 2026 (2605.17938)"
    cost: ClassVar[str] = "N K forwards; up to max_steps x (retain + query batch) gradients, N K forwards"

    layers: Layers = "mlp"
    score_by: ScoreBy = "normalised"
    gradient_draws: GradientDraws = 32
    learning_rate: Annotated[
        float, Field(gt=0, description="AdamW's learning rate: a tenth of the training's.")
    ] = 1e-4
    retain_batch: Annotated[
        int, Field(gt=0, description="Training segments in each step that must not be forgotten.")
    ] = 100
    forget_weight: Annotated[
        float, Field(gt=0, description="Weight of the query's loss beside that of the retain batch.")
    ] = 0.2
    stop_at: Annotated[
        float, Field(gt=0, le=1, description="Stop at this share of an untrained network's loss.")
    ] = 0.95
    max_steps: Annotated[int, Field(gt=0, description="Give up stopping after so many steps.")] = 200
    noisiest: Annotated[
        float, Field(gt=0, le=1, description="Score on the noisiest part of the schedule only.")
    ] = 0.7


class ForwardInfSettings(RescoringSettings, frozen=True, extra="forbid"):
    """The mirrored view: one plain gradient step *toward* the query; what gets better shaped it."""

    paper: ClassVar[str] = "Ko et al. 2024 (2402.08922)"

    noise_bands: NoiseBands = 1
    step_size: Annotated[float, Field(gt=0, description="Learning rate of the one step.")] = 1e-2

    @property
    def bands(self) -> int:
        return self.noise_bands


class GradientSettings(MethodSettings, frozen=True, extra="forbid"):
    """Inner products of loss gradients."""

    family: ClassVar[str] = "gradient"
    cost: ClassVar[str] = "nothing; N K item gradients for all queries of a run together"

    draws: Draws = 8
    layers: Layers = "all"

    @property
    def item_draws(self) -> int:
        return self.draws

    @property
    def layer_kind(self) -> str:
        return self.layers


class ProductSettings(GradientSettings, frozen=True, extra="forbid"):
    """Exact products, no projection."""

    gradient_draws: GradientDraws = 256
    mask_silence: MaskSilence = True
    noise_bands: NoiseBands = 1

    @property
    def bands(self) -> int:
        return self.noise_bands


class GradDotSettings(ProductSettings, frozen=True, extra="forbid"):
    """Dot product of the query's and the item's loss gradient."""

    paper: ClassVar[str] = "Charpiat et al. 2019 (2102.05262)"


class GradCosSettings(ProductSettings, frozen=True, extra="forbid"):
    """Cosine of the query's and the item's loss gradient."""

    paper: ClassVar[str] = "Charpiat et al. 2019 (2102.05262)"
    gather: ClassVar[Gather] = "max"


class TracinSettings(ProductSettings, frozen=True, extra="forbid"):
    """Gradient dot products summed over the checkpoints a training kept, weighted by their learning rates."""

    paper: ClassVar[str] = "Pruthi et al. 2020 (2002.08484)"
    cost: ClassVar[str] = "nothing; N K item gradients for every checkpoint"


class EkfacSettings(ProductSettings, frozen=True, extra="forbid"):
    """Influence function with EK-FAC curvature, on the linear layers."""

    paper: ClassVar[str] = "Grosse et al. 2023 (2308.03296); Mlodozeniec et al. 2024 (2410.13850)"
    cost: ClassVar[str] = "two passes of item gradients over the training set; N K item gradients"

    damping: Damping = 0.1
    fisher: Annotated[FisherKind, Field(description="EK-FAC from sampled or from true targets.")] = "sampled"
    fisher_draws: FisherDraws = 2


class RepresenterSettings(ProductSettings, frozen=True, extra="forbid"):
    """Representer points: the gradient product of the output layer alone."""

    paper: ClassVar[str] = "Yeh et al. 2018 (1811.09720)"

    layers: Layers = "output"


class ProjectedSettings(GradientSettings, frozen=True, extra="forbid"):
    """Gradients projected on both sides of each linear layer (LoGra), and their Gram matrix."""

    cost: ClassVar[str] = "N K item gradients, kept on disk; one query's gradient and a solve"

    projection: Annotated[
        int, Field(gt=0, description="r: each layer keeps r x r numbers of a gradient.")
    ] = 8
    damping: Annotated[
        float, Field(gt=0, description="Damping, as a multiple of the Gram matrix's mean eigenvalue.")
    ] = 0.1


class GramSettings(ProjectedSettings, frozen=True, extra="forbid"):
    """The query's projected gradient is a mean over many draws."""

    gradient_draws: GradientDraws = 256


class TrakSettings(GramSettings, frozen=True, extra="forbid"):
    """TRAK on the training loss."""

    paper: ClassVar[str] = "Park et al. 2023 (2303.14186); diffusion: Georgiev et al. 2023 (2312.06205)"


class DtrakSettings(GramSettings, frozen=True, extra="forbid"):
    """TRAK on the squared output of the model in place of its loss."""

    paper: ClassVar[str] = "Zheng et al. 2024 (2311.00500)"


class DasSettings(ProjectedSettings, frozen=True, extra="forbid"):
    """Newton step on the predicted noise: squared change of the model's output without the item."""

    paper: ClassVar[str] = "Lin et al. 2025 (2410.18639)"


class SimilaritySettings(MethodSettings, frozen=True, extra="forbid"):
    """Resemblance, without asking what the model learned."""

    family: ClassVar[str] = "similarity"
    gather: ClassVar[Gather] = "max"
    cost: ClassVar[str] = "N decodings; nothing"


class LatentSettings(SimilaritySettings, frozen=True, extra="forbid"):
    """Cosine of the mean and deviation of the model's own latents."""

    paper: ClassVar[str] = "baseline"
    cost: ClassVar[str] = "nothing; nothing"


class TimbreSettings(SimilaritySettings, frozen=True, extra="forbid"):
    """Likeness of log-band statistics: mean, deviation and attacks in 48 bands."""

    paper: ClassVar[str] = "baseline"


class TonalSettings(SimilaritySettings, frozen=True, extra="forbid"):
    """Likeness of chroma and its changes, in the best of twelve transpositions."""

    paper: ClassVar[str] = "after Serra et al. 2009 (optimal transposition)"


class ActivationsSettings(SimilaritySettings, frozen=True, extra="forbid"):
    """Nearness of the denoiser's normalised hidden states on the same draws (LPIPS-style)."""

    paper: ClassVar[str] = "after Zhang et al. 2018 (1801.03924)"
    cost: ClassVar[str] = "nothing; N K forwards for all queries of a run together"

    draws: Draws = 4

    @property
    def item_draws(self) -> int:
        return self.draws


class ClapSettings(SimilaritySettings, frozen=True, extra="forbid"):
    """Cosine of CLAP embeddings, from a local checkpoint folder."""

    paper: ClassVar[str] = "Wu et al. 2023 (2211.06687)"
    cost: ClassVar[str] = "N decodings and embeddings; one embedding"

    clap: Annotated[str, Field(description="Folder of a CLAP checkpoint in transformers' layout.")] = ""


class RandomSettings(MethodSettings, frozen=True, extra="forbid"):
    """Chance: the arm every table needs."""

    family: ClassVar[str] = "chance"
    paper: ClassVar[str] = "baseline"
    cost: ClassVar[str] = "nothing; nothing"
    gather: ClassVar[Gather] = "sum"  # noise of which a long track is not ahead


METHOD_SETTINGS: dict[str, type[MethodSettings]] = {
    "readout": ReadoutSettings,
    "abu": AbuSettings,
    "abu-ekfac": AbuEkfacSettings,
    "mucs": MucsSettings,
    "forward-inf": ForwardInfSettings,
    "grad-dot": GradDotSettings,
    "grad-cos": GradCosSettings,
    "tracin": TracinSettings,
    "trak": TrakSettings,
    "d-trak": DtrakSettings,
    "das": DasSettings,
    "ekfac": EkfacSettings,
    "latent": LatentSettings,
    "timbre": TimbreSettings,
    "tonal": TonalSettings,
    "activations": ActivationsSettings,
    "clap": ClapSettings,
    "representer": RepresenterSettings,
    "random": RandomSettings,
}
DEFAULT_METHOD = "readout"
# what a table over benchmarks shows if nothing else is asked for: unlearning in all its forms, the gradient
# methods that do best, the likenesses that do best, and chance
ACROSS = ("readout", "abu", "abu-ekfac", "ekfac", "d-trak", "latent", "activations", "random")
BY_SIZE = ("readout", "activations", "latent", "random")  # and a table over sizes


def runnable(settings: Mapping[str, Any]) -> list[str]:
    """The methods that can run with these settings: all, but CLAP only with a checkpoint."""
    return [name for name in METHOD_SETTINGS if name != "clap" or settings.get("clap")]
