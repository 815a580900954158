"""What may stand in a ``model_config.json`` of stable-audio-tools: the parts of a text-to-music diffusion
model of which linernotes has the same function. Whatever else stands there is refused by the name of its
field, since a part left out would be another model.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

STEREO = 2
LEAST_HEAD = 32  # features of an attention's head: positions turn so many


class _Part(BaseModel):
    """A part of the file, all of whose fields are known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderSizes(_Part):
    """Of the Oobleck encoder; ``latent_dim`` counts means and scales."""

    latent_dim: int
    c_mults: list[int] = [1, 2, 4, 8]
    strides: list[int] = [2, 4, 8, 8]
    channels: int = 128
    in_channels: int = STEREO
    use_snake: Literal[True]
    antialias_activation: Literal[False] = False


class DecoderSizes(_Part):
    """Of the Oobleck decoder."""

    latent_dim: int
    c_mults: list[int] = [1, 2, 4, 8]
    strides: list[int] = [2, 4, 8, 8]
    channels: int = 128
    out_channels: int = STEREO
    use_snake: Literal[True]
    antialias_activation: Literal[False] = False
    use_nearest_upsample: Literal[False] = False
    final_tanh: bool = True


class Encoder(_Part):
    """What makes latents of sound."""

    type: Literal["oobleck"]
    config: EncoderSizes
    requires_grad: bool = True


class Decoder(_Part):
    """What makes sound of latents."""

    type: Literal["oobleck"]
    config: DecoderSizes
    requires_grad: bool = True
    soft_clip: Literal[False] = False


class Bottleneck(_Part):
    """Latents are a posterior's means."""

    type: Literal["vae"]


class Autoencoder(_Part):
    """The autoencoder's parts and sizes."""

    encoder: Encoder
    decoder: Decoder
    bottleneck: Bottleneck
    latent_dim: int
    downsampling_ratio: int
    io_channels: int
    in_channels: int | None = None
    out_channels: int | None = None


class Pretransform(_Part):
    """The autoencoder; its latents are divided by ``scale`` before the denoiser sees them."""

    type: Literal["autoencoder"]
    config: Autoencoder
    scale: float = Field(default=1.0, gt=0)
    enable_grad: Literal[False] = False
    iterate_batch: bool = False
    model_half: bool = False
    chunked: bool = False


class TextConfig(_Part):
    """Of a T5 encoder."""

    t5_model_name: str = "t5-base"
    max_length: int = 128
    project_out: bool = False
    enable_grad: Literal[False] = False


class NumberConfig(_Part):
    """The range of a number."""

    min_val: float = 0
    max_val: float = 1


class WholeConfig(_Part):
    """The range of whole numbers."""

    min_val: int = 0
    max_val: int = 512


class Text(_Part):
    """A prompt, through a frozen T5 encoder."""

    type: Literal["t5"]
    id: str
    config: TextConfig


class Number(_Part):
    """Seconds, as a share of a range."""

    type: Literal["number"]
    id: Literal["seconds_start", "seconds_total"]
    config: NumberConfig


class Whole(_Part):
    """Whole seconds, each with a vector of its own."""

    type: Literal["int"]
    id: Literal["seconds_start", "seconds_total"]
    config: WholeConfig


class Conditioning(_Part):
    """What a segment is conditioned on."""

    configs: list[Annotated[Text | Number | Whole, Field(discriminator="type")]]
    cond_dim: int
    default_keys: dict[str, str] = Field(default={}, max_length=0)
    pre_encoded_keys: list[str] = Field(default=[], max_length=0)


class AttentionConfig(_Part):
    """Of every attention."""

    qk_norm: Literal["none", "ln", "l2"] = "none"
    differential: Literal[False] = False
    feat_scale: Literal[False] = False


class FeedForwardConfig(_Part):
    """Of every MLP."""

    mult: Literal[4] = 4
    no_bias: Literal[False] = False
    glu: Literal[True] = True
    use_conv: Literal[False] = False


class NormConfig(_Part):
    """Of every norm."""

    eps: float = 1e-5
    bias: bool = False
    fix_scale: bool = False
    force_fp32: bool = False


class DenoiserSizes(_Part):
    """Of the diffusion transformer."""

    io_channels: int = 32
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 8
    cond_token_dim: int = Field(gt=0)
    global_cond_dim: int = Field(gt=0)
    project_cond_tokens: bool = True
    project_global_cond: bool = True
    patch_size: Literal[1] = 1
    transformer_type: Literal["continuous_transformer"] = "continuous_transformer"
    global_cond_type: Literal["prepend"] = "prepend"
    timestep_cond_type: Literal["global"] = "global"
    attn_kwargs: AttentionConfig = AttentionConfig()
    ff_kwargs: FeedForwardConfig = FeedForwardConfig()
    norm_kwargs: NormConfig = NormConfig()
    zero_init_branch_outputs: bool = True  # as the next one, of the start of training only
    rotary_pos_emb: Literal[True] = True
    causal: Literal[False] = False
    conformer: Literal[False] = False
    layer_scale: Literal[False] = False
    remove_norms: Literal[False] = False
    add_rope: Literal[False] = False
    use_sinusoidal_emb: Literal[False] = False
    use_abs_pos_emb: Literal[False] = False
    num_memory_tokens: Literal[0] = 0
    input_concat_dim: Literal[0] = 0
    prepend_cond_dim: Literal[0] = 0
    final_cross_attn_ix: Literal[-1] = -1
    sliding_window: None = None
    timestep_embed_dim: None = None


class Shift(_Part):
    """Of times, by the length of latents."""

    base_shift: float = 0.5
    max_shift: float = 1.15
    max_length: int = 4096
    min_length: int = 256
    use_sine: bool = False


class Diffusion(_Part):
    """The denoiser and its objective."""

    type: Literal["dit"]
    config: DenoiserSizes
    diffusion_objective: Literal["v", "rectified_flow", "rf_denoiser"] = "v"
    cross_attention_cond_ids: list[str] = []
    global_cond_ids: list[str] = []
    input_concat_ids: list[str] = Field(default=[], max_length=0)
    prepend_cond_ids: list[str] = Field(default=[], max_length=0)
    distribution_shift_options: Shift | None = None


class Model(_Part):
    """The model's parts."""

    pretransform: Pretransform
    conditioning: Conditioning
    diffusion: Diffusion
    io_channels: int


class SamplerConfig(_Part):
    """Of the log_snr sampler of times."""

    mean_logsnr: float = -1.2
    std_logsnr: float = Field(default=2.0, gt=0)


class Training(BaseModel, frozen=True):
    """What of training the item loss depends on; its other fields do not matter here."""

    timestep_sampler: Literal["uniform", "logit_normal", "trunc_logit_normal", "log_snr"] = "uniform"
    timestep_sampler_options: SamplerConfig | None = None
    p_one_shot: float = Field(default=0.0, ge=0, lt=1)
    mask_padding: bool = False
    inpainting: None = None
    arc: dict[str, Any] | None = None


class ToolsConfig(BaseModel, frozen=True):
    """The whole file."""

    model_type: Literal["diffusion_cond"]
    sample_size: int = Field(gt=0)
    sample_rate: int = Field(gt=0)
    audio_channels: int = STEREO
    model: Model
    training: Training = Training()

    @property
    def frames(self) -> int:
        """Latent frames of a segment."""
        return self.sample_size // self.model.pretransform.config.downsampling_ratio

    @property
    def text(self) -> Text:
        """The conditioner of prompts."""
        return next(part for part in self.model.conditioning.configs if isinstance(part, Text))

    def seconds(self, name: str) -> Number | Whole | None:
        """A conditioner of seconds; None where the model has none of that name."""
        return next(
            (p for p in self.model.conditioning.configs if p.id == name and not isinstance(p, Text)), None
        )

    def strange(self) -> str | None:
        """What contradicts itself, or stands in another order than linernotes can take; None if nothing."""
        audio, sizes = self.model.pretransform.config, self.model.diffusion.config
        encoder, decoder = audio.encoder.config, audio.decoder.config
        ids = [part.id for part in self.model.conditioning.configs]
        seconds = [name for name in ("seconds_start", "seconds_total") if name in ids]
        texts = [part for part in self.model.conditioning.configs if isinstance(part, Text)]
        if len(texts) != 1 or len(set(ids)) != len(ids) or "seconds_total" not in seconds:
            return f"model.conditioning.configs has {ids}, and one t5 prompt and seconds_total are needed"
        diffusion = self.model.diffusion
        for field, wanted in (
            ("cross_attention_cond_ids", [texts[0].id, *seconds]),
            ("global_cond_ids", seconds),
        ):
            if getattr(diffusion, field) != wanted:
                return (
                    f"model.diffusion.{field} is {getattr(diffusion, field)}, and only {wanted} is supported"
                )
        if (encoder.strides, encoder.c_mults) != (decoder.strides, decoder.c_mults):
            return "model.pretransform.config has an encoder and a decoder with other strides or c_mults"
        if (sizes.cond_token_dim, sizes.global_cond_dim) != (
            self.model.conditioning.cond_dim,
            self.model.conditioning.cond_dim * len(seconds),
        ):
            return "cond_token_dim and global_cond_dim of model.diffusion.config do not fit cond_dim"
        if not sizes.project_global_cond and sizes.global_cond_dim != sizes.embed_dim:
            return "model.diffusion.config.project_global_cond is false, and global_cond_dim is not embed_dim"
        latents = {audio.latent_dim, encoder.latent_dim / 2, decoder.latent_dim, sizes.io_channels}
        if len(latents) != 1:
            return f"the number of latent channels is {sorted(latents)} in different places"
        if sizes.embed_dim % sizes.num_heads or sizes.embed_dim // sizes.num_heads < LEAST_HEAD:
            return f"embed_dim {sizes.embed_dim} is not num_heads of at least {LEAST_HEAD} features"
        hop = 1
        for stride in encoder.strides:
            hop *= stride
        if hop != audio.downsampling_ratio or not self.frames:
            return f"downsampling_ratio is {audio.downsampling_ratio}, and the strides multiply to {hop}"
        if encoder.in_channels != decoder.out_channels or encoder.in_channels != self.audio_channels:
            return "audio_channels, the encoder's in_channels and the decoder's out_channels differ"
        return None

    def notes(self) -> list[str]:
        """What of training the item loss does not follow, a clause each."""
        found = []
        if self.training.mask_padding:
            found.append("training left padding out of its loss (mask_padding), item losses count it")
        if self.training.arc is not None:
            found.append("it was trained adversarially (arc), item losses are those of its flow")
        return found
