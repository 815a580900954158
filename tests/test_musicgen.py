"""MusicGen: the delay pattern, the loss and the sampling are transformers' own, and every room works on
codes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    EncodecConfig,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)

import linernotes
from conftest import RATE_HZ, SEGMENT_SAMPLES, SIZE, tone, write_recordings
from linernotes.attribution.prepare import prepare
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue, copy_tracks
from linernotes.curvature.per_item import item_loss_b, layer_gradients, observe_items
from linernotes.draws import no_draws, random_for
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.sanity import check_bank
from linernotes.evaluation.bank.setting import BankQuery
from linernotes.evaluation.bank.store import build_bank, plan_retrains, prepare_setting
from linernotes.evaluation.cost import planning
from linernotes.evaluation.lds import outputs_mq
from linernotes.evaluation.self_influence import segment_query, self_influence
from linernotes.jobs.inline import Inline
from linernotes.losses import item_losses, items_of
from linernotes.methods.all import METHODS, runs_on, score
from linernotes.methods.contract import Prepared
from linernotes.methods.readout_softmax import fit_heads
from linernotes.models import training
from linernotes.models.contract import GeneratingModel, HiddenStatesModel, TrainableModel
from linernotes.models.folder import check_model
from linernotes.models.musicgen import MusicGen
from linernotes.models.opening import open_model
from linernotes.models.small_musicgen import SmallMusicGen, write_small_musicgen
from linernotes.models.stable_audio import StableAudio
from linernotes.models.training import train
from linernotes.models.weights import with_gradients
from linernotes.settings.methods import METHOD_SETTINGS, ActivationsSettings
from linernotes.settings.training import TrainingSettings

ROUNDING = {"rtol": 1e-3, "atol": 1e-6}  # sums of float32 gradients in another order
AGREEMENT = {"rtol": 1e-5, "atol": 1e-5}  # one function, computed twice in float32
TINY = SmallMusicGen(codes=16, layers=2, heads=2, width=24)
TRACKS, PLANTED = 14, (3, 9)  # track 9 sounds as track 3
TRAINING = TrainingSettings(steps=150, batch_size=8, learning_rate=5e-3, ema=0.9)


def write_encodec_model(folder: Path, tokenizer: Path, sides: int = 1) -> Path:
    """A MusicGen of random weights over an EnCodec, as a checkpoint of transformers is laid out."""
    codec = EncodecConfig(
        sampling_rate=RATE_HZ,
        num_filters=4,
        upsampling_ratios=[8, 4],
        codebook_size=32,
        hidden_size=16,
        num_lstm_layers=1,
        target_bandwidths=[2.5, 5.0],
        use_causal_conv=False,
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=32,
        hidden_size=24,
        num_hidden_layers=2,
        ffn_dim=48,
        num_attention_heads=2,
        num_codebooks=4 * sides,
        audio_channels=sides,
        pad_token_id=32,
        bos_token_id=32,
        dropout=0.1,
    )
    text = T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sides)
        config = MusicgenConfig(
            text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict()
        )
        model = MusicgenForConditionalGeneration(config)
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.normal_()
        for parameter in model.decoder.parameters():  # logits that are told apart
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5)
    model.generation_config = GenerationConfig(
        max_length=12, guidance_scale=3.0, pad_token_id=32, bos_token_id=32, decoder_start_token_id=32
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, model: StableAudio, model_path: Path) -> Path:
    """The small model, untrained."""
    sounds = np.stack([tone(150 + 20 * i, SEGMENT_SAMPLES, i) for i in range(40)])
    latents_bct = model.encode(torch.from_numpy(sounds)[:, None])
    folder = tmp_path_factory.mktemp("musicgen") / "small"
    kept = write_small_musicgen(
        folder, model_path, latents_bct.transpose(1, 2).flatten(0, 1), SIZE.frames, 0, TINY
    )
    assert 0.9 < kept < 1
    return folder


@pytest.fixture(scope="module", params=[1, 2], ids=["mono", "stereo"])
def encodec(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model_path: Path
) -> Path:
    folder = tmp_path_factory.mktemp("encodec") / "model"
    return write_encodec_model(folder, model_path / "tokenizer", request.param)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Prepared:
    """The small model, trained on tones, one of which is there twice."""
    folder = tmp_path_factory.mktemp("codes")
    sounds = write_recordings(folder / "sounds", [SEGMENT_SAMPLES] * TRACKS)
    first, second = (sounds / f"tone{i}.wav" for i in PLANTED)
    wave, _ = soundfile.read(first, dtype="float32")  # not the same file, but the same sound
    soundfile.write(second, (1 - 1e-5) * wave, RATE_HZ, subtype="FLOAT")
    rows = (sounds / "metadata.csv").read_text().replace("tone9.wav,Tone 9", "tone9.wav,Tone nine")
    (sounds / "metadata.csv").write_text(rows)
    untrained = MusicGen(small)
    catalogue = build_catalogue(read_source(sounds), folder / "catalogue", untrained)
    batch = catalogue.batch(range(TRACKS))
    train(small, folder / "model", batch.latents_nct, batch.text_nld, batch.seconds_n, TRAINING)
    return prepare(MusicGen(folder / "model"), catalogue, folder / "cache", model_folder=folder / "model")


def random_items(model: MusicGen, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    shape = model.encoding
    generator = torch.Generator().manual_seed(0)
    codes_bkt = torch.randint(shape.codes, (count, shape.latent_channels, shape.frames), generator=generator)
    return codes_bkt, model.embed_text(["tone 0", "a low tone", ""][:count])


def test_the_loss_is_a_loop_over_transformers_logits(encodec: Path) -> None:
    """Codebook k of frame t stands at position t + delay + 1, all else is padding; one item, one frame and
    one codebook at a time.
    """
    model, plain = MusicGen(encodec), MusicgenForConditionalGeneration.from_pretrained(encodec).eval()
    codes_bkt, text_bld = random_items(model)
    said_bl = (text_bld != 0).any(dim=2).long()
    _, codebooks, frames = codes_bkt.shape
    loss_bt = model.loss_bt(model.items(codes_bkt, text_bld, torch.full((3,), 60.0)), no_draws(3))
    sides = plain.config.decoder.audio_channels
    for b in range(3):
        ids_ks = torch.full((codebooks, frames + codebooks // sides), 32)
        for k in range(codebooks):
            for t in range(frames):
                ids_ks[k, t + k // sides + 1] = codes_bkt[b, k, t]
        with torch.no_grad():
            hidden_1ld = plain.enc_to_dec_proj(text_bld[b : b + 1]) * said_bl[b : b + 1, :, None]
            logits_ksv = plain.decoder(
                ids_ks, encoder_hidden_states=hidden_1ld, encoder_attention_mask=said_bl[b : b + 1]
            ).logits
        for t in range(frames):
            losses = [
                -logits_ksv[k, t + k // sides].log_softmax(dim=0)[codes_bkt[b, k, t]]
                for k in range(codebooks)
            ]
            assert float(loss_bt[b, t]) == pytest.approx(float(sum(losses) / codebooks), abs=1e-5)


def test_the_pattern_is_transformers_own(encodec: Path) -> None:
    """What its ``build_delay_pattern_mask`` makes of a whole prompt is what the network is given."""
    model = MusicGen(encodec)
    codes_bkt, text_bld = random_items(model, 1)
    codes, frames = model.encoding.codes, model.encoding.frames
    seen: list[torch.Tensor] = []
    handle = model.network.register_forward_pre_hook(
        lambda _module, _args, given: seen.append(given["input_ids"]), with_kwargs=True
    )
    model.logits(model.items(codes_bkt, text_bld, torch.tensor([60.0])))
    handle.remove()
    prompt_ks = torch.nn.functional.pad(codes_bkt[0], (1, 0), value=codes)
    whole_ks = model.network.build_delay_pattern_mask(prompt_ks, codes, frames + model.delays[-1] + 1)[1]
    assert torch.equal(seen[0], whole_ks[:, :-1])


def test_greedy_generation_is_transformers_own(encodec: Path) -> None:
    """With guidance and a cache, code by code, decoded to the same sound."""
    model, plain = MusicGen(encodec), MusicgenForConditionalGeneration.from_pretrained(encodec).eval()
    assert not model.generation.do_sample
    shape = model.encoding
    tokens = model.tokenizer(
        ["a low tone"], padding="max_length", max_length=shape.text_tokens, return_tensors="pt"
    )
    sound = plain.generate(
        input_ids=tokens.input_ids,
        attention_mask=tokens.attention_mask,
        max_length=shape.frames + model.delays[-1] + 1,
        do_sample=False,
    )
    codes_1kt = model.sample("a low tone", 60.0, 0)
    assert codes_1kt.shape == (1, shape.latent_channels, shape.frames) and len(codes_1kt.unique()) > 8
    torch.testing.assert_close(model.decode(codes_1kt), sound, **AGREEMENT)


def test_sound_becomes_the_codec_s_codes_side_by_side(encodec: Path) -> None:
    model, plain = MusicGen(encodec), MusicgenForConditionalGeneration.from_pretrained(encodec).eval()
    shape = model.encoding
    assert (
        shape.channels == plain.config.decoder.audio_channels and shape.latent_channels == 4 * shape.channels
    )
    sound = torch.from_numpy(
        np.stack([tone(300 + 90 * i, shape.segment_samples, i) for i in range(2 * shape.channels)])
    ).reshape(2, shape.channels, -1)
    codes_bkt = model.encode(sound)
    for side in range(shape.channels):
        with torch.no_grad():
            known = plain.audio_encoder.encode(sound[:, side : side + 1], bandwidth=5.0).audio_codes[0, :, :4]
        assert torch.equal(codes_bkt[:, side :: shape.channels], known)
    assert model.decode(codes_bkt).shape == sound.shape


def test_a_seed_is_a_clip_and_a_short_clip_is_its_beginning(world: Prepared) -> None:
    model = world.model
    whole, again, other = (model.sample("tone 1", 1.0, seed) for seed in (5, 5, 6))
    assert torch.equal(whole, again) and not torch.equal(whole, other)
    assert whole.max() < TINY.codes and whole.min() >= 0
    frames = 5
    short = model.sample("tone 1", frames * model.encoding.frame_samples / RATE_HZ, 5)
    assert torch.equal(short[0, 0, :frames], whole[0, 0, :frames]) and not short[:, :, frames:].any()


def test_no_item_depends_on_its_batch_and_nothing_after_its_end_counts(world: Prepared) -> None:
    model = world.model
    codes_bkt, text_bld = random_items(model)
    frame_s = model.encoding.frame_samples / RATE_HZ
    items = model.items(codes_bkt, text_bld, torch.tensor([8.0, 4.5, 3.0]) * frame_s)
    loss_bt = model.loss_bt(items, no_draws(3))
    assert (loss_bt > 0).sum(dim=1).tolist() == [8, 5, 3]
    for b in range(3):
        torch.testing.assert_close(model.loss_bt(items[b : b + 1], no_draws(1))[0], loss_bt[b], **AGREEMENT)


def test_its_powers(world: Prepared) -> None:
    model = world.model
    assert isinstance(open_model(world.model_folder), MusicGen)
    for power in (HiddenStatesModel, GeneratingModel, TrainableModel):
        assert isinstance(model, power)
    assert [m for m in METHODS if not runs_on(m, model)] == ["d-trak", "das"]
    losses = item_losses(model, world.catalogue, world.draws(16, 0), {"base": {}}, world.folder / "losses")
    assert losses["base"].shape == (TRACKS, 1)
    with pytest.raises(UsageError, match="there are no layers 'heads': choose one of all, self-attention"):
        model.layers("heads")


def test_item_gradients_of_every_layer_are_those_of_a_plain_loop(world: Prepared) -> None:
    model, items = world.model, items_of(world.model, world.catalogue, range(3))
    parameters, hooked = {**model.layers("all"), **model.layers("output")}, {}

    def see(prefix: str, layer: torch.nn.Module, given: torch.Tensor, gradient: torch.Tensor) -> None:
        hooked.update(layer_gradients(prefix, layer, given, gradient))

    observe_items(model, parameters.keys(), see, item_loss_b, items, no_draws(3))
    assert hooked.keys() == parameters.keys()
    for i in range(3):
        with with_gradients(list(parameters.values())):
            loss = model.loss_bt(items[i : i + 1], no_draws(1)).mean()
            plain = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, plain, strict=True):
            torch.testing.assert_close(hooked[name][i], gradient, **ROUNDING)


def test_sampled_gradients_have_the_gauss_newton_matrix(world: Prepared) -> None:
    """Along a change D of a head's weights it is the variance of (D h_t)_c over c drawn from the model,
    summed over the frames that the clip lasts, over T K.
    """
    model, n, head, lasts = world.model, 4000, 1, 6
    batch = world.catalogue.batch([2])
    seconds = torch.tensor([lasts * model.encoding.frame_samples / RATE_HZ])
    item = model.items(batch.latents_nct, batch.text_nld, seconds)
    direction_vd = torch.randn(TINY.codes, TINY.width, generator=random_for("a direction", 0))
    targets, name = model.draw_targets(n, random_for("a law", 0)), f"lm_heads.{head}.weight"
    along, given = [], []

    def see(prefix: str, layer: torch.nn.Module, a: torch.Tensor, g: torch.Tensor) -> None:
        found = layer_gradients(prefix, layer, a, g)[name]
        along.append((found * direction_vd).sum(dim=(1, 2)))
        given.append(a[0, head : head + model.encoding.frames])

    def sampled_b(worker: MusicGen, items: object, draws: object) -> torch.Tensor:
        return worker.sampled_loss_b(items, draws, targets)

    observe_items(model, [name], see, sampled_b, item.repeat(n), no_draws(n))
    p_tv = model.logits(item)[0, head].softmax(dim=1)
    moved_tv = given[0] @ direction_vd.T
    variance_t = (p_tv * moved_tv.square()).sum(dim=1) - (p_tv * moved_tv).sum(dim=1).square()
    exact = float(variance_t[:lasts].sum()) / (model.encoding.frames * model.encoding.latent_channels)
    squares_n = along[0].square()
    assert float(squares_n.mean()) == pytest.approx(exact, abs=5 * float(squares_n.std()) / n**0.5)


@pytest.mark.parametrize(
    "method", ["readout", "abu", "abu-ekfac", "ekfac", "grad-dot", "trak", "activations", "latent"]
)
def test_a_planted_duplicate_is_found(world: Prepared, tmp_path: Path, method: str) -> None:
    kind = METHOD_SETTINGS[method]
    settings = kind(**{n: 0.1 for n in ("damping",) if n in kind.model_fields})
    query = segment_query(world.catalogue, PLANTED[0])
    scores_n = score(method, world, [query], settings, tmp_path).scores_qn[0]
    assert set(np.argsort(-scores_n)[:2]) == set(PLANTED)


def test_every_segment_finds_itself(world: Prepared, tmp_path: Path) -> None:
    ranks = self_influence(world, "ekfac", METHOD_SETTINGS["ekfac"](), 10, tmp_path)
    assert sum(rank.track_rank <= 2 for rank in ranks) == len(ranks)  # a planted one ties with its double


def test_the_heads_curvature_is_the_gauss_newton_matrix_in_its_own_basis(world: Prepared) -> None:
    """Its values are the diagonal of mean_t (diag p - p p') (x) h h' / K, written out for one head, in the
    eigenbases of the two factors.
    """
    model, head = world.model, 2
    out_vv, in_ff, value_vf = fit_heads(world, 5)[head]
    seen = model.heads_pass(items_of(model, world.catalogue, range(TRACKS)))
    p_nv = seen.logits_bktv[:, head].softmax(dim=2).flatten(0, 1).double()
    h_nf = seen.given_bktf[:, head].flatten(0, 1).double()
    both = torch.einsum(
        "nvw,nf,ng->vfwg", torch.diag_embed(p_nv) - p_nv[:, :, None] * p_nv[:, None], h_nf, h_nf
    ) / (len(p_nv) * TINY.codebooks)
    basis = torch.einsum("vo,fi->vfoi", out_vv.double(), in_ff.double())
    exact_oi = torch.einsum("vfoi,vfwg,wgoi->oi", basis, both, basis)
    # moving all logits alike is no move at all: those values are nothing but rounding
    torch.testing.assert_close(value_vf.double(), exact_oi, rtol=1e-4, atol=1e-6 * float(exact_oi.max()))
    for base, factor in (
        (out_vv, torch.diag(p_nv.sum(dim=0)) - p_nv.T @ p_nv),
        (in_ff, h_nf.T @ h_nf),
    ):  # it is the eigenbasis of each factor
        torch.testing.assert_close(base @ base.T, torch.eye(len(base)), rtol=0, atol=1e-5)
        turned = base.T.double() @ factor @ base.double()
        off = turned - torch.diag(turned.diagonal())
        assert float(off.abs().max()) < 1e-4 * float(turned.diagonal().max())


def test_a_readout_score_is_the_rise_of_the_loss_with_the_heads_it_says(
    world: Prepared, tmp_path: Path
) -> None:
    """Every item's rise by running the network with the changed weights; to first order it is EK-FAC's
    product of gradients.
    """
    query, settings = segment_query(world.catalogue, 5), METHOD_SETTINGS["readout"](damping=0.1)
    found = score("readout", world, [query], settings, tmp_path / "a")
    ((draws, weights),) = found.changed[0]
    assert sorted(weights) == sorted(world.model.layers("output"))
    losses = item_losses(world.model, world.catalogue, draws, {"base": {}, "after": weights}, tmp_path / "b")
    rises_n = (losses["after"] - losses["base"])[:, 0].numpy()
    np.testing.assert_allclose(found.scores_qn[0], rises_n, atol=2e-6)
    small_step = METHOD_SETTINGS["readout"](damping=0.1, step_size=0.05)
    first_n = score("readout", world, [query], small_step, tmp_path / "c").scores_qn[0] / 0.05 * TRACKS
    sampled = METHOD_SETTINGS["ekfac"](layers="output", damping=0.1, fisher_draws=64)
    product_n = score("ekfac", world, [query], sampled, tmp_path / "d").scores_qn[0]
    assert np.corrcoef(first_n, product_n)[0, 1] > 0.98
    assert first_n[5] == pytest.approx(product_n[5], rel=0.15)


def test_two_clips_at_once_score_as_one_by_one_and_as_a_set_by_their_mean(
    world: Prepared, tmp_path: Path
) -> None:
    queries = [segment_query(world.catalogue, row) for row in (1, 6)]
    settings = METHOD_SETTINGS["readout"]()
    both = score("readout", world, queries, settings, tmp_path / "both").scores_qn
    for i, query in enumerate(queries):
        alone = score("readout", world, [query], settings, tmp_path / f"{i}").scores_qn[0]
        assert np.array_equal(both[i], alone)
    as_set = score("readout", world, queries, METHOD_SETTINGS["readout"](together=True), tmp_path / "set")
    assert as_set.scores_qn.shape == (1, TRACKS)
    assert np.corrcoef(as_set.scores_qn[0], both.mean(axis=0))[0, 1] > 0.9


def test_a_clip_is_attributed_by_default_and_no_calibration_is_lent(world: Prepared, tmp_path: Path) -> None:
    """From the folders alone. What the benchmark's scores are worth was measured on a model of noise."""
    clip = tmp_path / "clip.flac"
    linernotes.generate("tone 1", clip, world.model_folder, seed=3)
    (found,) = linernotes.attribute(
        clip, tmp_path / "out", world.model_folder, world.catalogue.path, cache=tmp_path / "cache"
    )
    assert found.method == "readout" and len(found.tracks) == TRACKS
    assert found.verdict is None and all(track.effect is None for track in found.tracks)
    assert (tmp_path / "out/report.html").stat().st_size > 1000


def test_codes_outside_the_codebook_are_refused(world: Prepared) -> None:
    model = world.model
    codes_bkt, text_bld = random_items(model, 1)
    for value in (TINY.codes, -1, 0.5):
        wrong = codes_bkt.float()
        wrong[0, 2, 3] = value
        with pytest.raises(LinernotesError, match=rf"code {value}, and model has codes from 0 to 15: encode"):
            model.items(wrong, text_bld, torch.ones(1))


def test_latents_of_another_catalogue_are_stored_as_codes(
    small: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    model = MusicGen(small)
    chosen = [(catalogue, i, track) for i, track in enumerate(catalogue.tracks)]
    encoding = replace(model.encoding, model="codes")
    coded = copy_tracks(tmp_path / "coded", chosen, {"source": "x"}, (encoding, model.codec.quantise))
    every = np.arange(len(catalogue))
    codes_nkt = coded.latents(every)
    assert torch.equal(codes_nkt.long(), model.codec.quantise(catalogue.latents(every)))
    assert Catalogue(coded.path).encoding == encoding and coded.hash != catalogue.hash
    assert torch.equal(coded.batch(every).text_nld, catalogue.batch(every).text_nld)
    assert model.loss_bt(items_of(model, coded, every), no_draws(len(every))).isfinite().all()


def test_a_stopped_training_ends_in_the_same_weights(
    small: Path, world: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the folder asks for dropout, whose chance would be nobody's."""
    template = tmp_path / "template"
    MusicGen.write_untrained(small, template, 3)
    config = json.loads((template / "config.json").read_text())
    config["decoder"]["dropout"] = 0.3
    (template / "config.json").write_text(json.dumps(config))
    batch = world.catalogue.batch(range(TRACKS))
    data = (batch.latents_nct, batch.text_nld, batch.seconds_n, TRAINING.model_copy(update={"steps": 6}))
    train(template, tmp_path / "whole", *data)
    monkeypatch.setattr(training, "SAVED_EVERY", 2)

    def stop(done: int, total: int, loss: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(template, tmp_path / "stopped", *data, stop)
    train(template, tmp_path / "stopped", *data)
    whole, stopped = MusicGen(tmp_path / "whole"), MusicGen(tmp_path / "stopped")
    assert whole.weights_hash == stopped.weights_hash != MusicGen(template).weights_hash
    assert whole.encoding.made_by == MusicGen(small).encoding.made_by
    assert str(tmp_path) not in (tmp_path / "whole/config.json").read_text()


def test_new_weights_are_a_seed_s(small: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        MusicGen.write_untrained(small, tmp_path / name, seed)
    a, b, c = (MusicGen(tmp_path / name) for name in "abc")
    assert a.weights_hash == b.weights_hash != c.weights_hash
    assert a.encoding.made_by == c.encoding.made_by == MusicGen(small).encoding.made_by


def test_a_bank_of_a_codec_model_knows_losses_and_no_predictions(world: Prepared, tmp_path: Path) -> None:
    """What is measured of a retrain are losses of the clips under it, and clips made again."""
    queries = [BankQuery(f"q{i}", f"tone {i}", 0.5, i, "x", "reporting", i == 0) for i in range(2)]
    setting = prepare_setting(world.model_folder, world.catalogue.path, queries, 8, 0, tmp_path)
    planned = plan_retrains(TRACKS, halves=1, again=0, full=1, seed=0)
    bank = build_bank(setting, planned, tmp_path, executor=Inline())
    assert bank.loss_mqk.shape == (2, 2, 1) and np.isfinite(bank.loss_mqk).all()
    (full, half) = bank.item_loss_ms.mean(axis=1)
    assert full < half  # of all tracks, half of which it did not see
    lines = check_bank(bank, world.catalogue.track_n, np.arange(TRACKS))
    assert lines[1].own_loss < lines[1].other_loss and not lines[0].wrong
    with pytest.raises(
        LinernotesError, match=r"predict no target, so only their losses .* leave out --output"
    ):
        outputs_mq(bank, "prediction")


def test_a_model_without_noise_is_planned_with_one_draw(
    world: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are asked for: it is scored on one. A pass is said to take a second."""
    monkeypatch.setattr(planning, "seconds_of_units", lambda *asked: dict.fromkeys(asked[-1], 1.0))
    query = segment_query(world.catalogue, 0)
    for draws in (1, 8):
        planned = planning.plan("activations", world, ActivationsSettings(draws=draws), 1, query)
        assert planned.queries_s == len(world.catalogue)


@pytest.mark.examples
def test_the_small_one_is_made_of_the_benchmark_s_tracks(tmp_path: Path) -> None:
    linernotes.rebuild(tmp_path, "codec-lm", steps=2)
    coded, origin = Catalogue(tmp_path / "catalogue"), linernotes.open_catalogue("benchmark")
    assert [track.track_id for track in coded.tracks] == [track.track_id for track in origin.tracks]
    assert coded.encoding.codes == 256 and coded.record["source"] == "builtin"
    model = open_model(tmp_path / "trained")
    made = item_losses(model, coded, no_draws(1), {"base": {}}, tmp_path / "losses", np.arange(8))
    assert made["base"].isfinite().all()
    with pytest.raises(LinernotesError, match="was begun with other settings"):
        linernotes.rebuild(tmp_path, "codec-lm", steps=3)


def test_two_things_are_not_made_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--benchmark and --large are made each by itself"):
        linernotes.rebuild(tmp_path / "out", "deep", large=True)
    with pytest.raises(UsageError, match=r"--segments says how large --large is, .* add --large"):
        linernotes.rebuild(tmp_path / "out", segments=5)
    with pytest.raises(UsageError, match="--segments 0 leaves nothing to train on"):
        linernotes.rebuild(tmp_path / "out", large=True, segments=0)
    assert not (tmp_path / "out").exists()


def test_more_than_there_is_can_be_asked_for_again_with_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linernotes.demo.large.COLLECTIONS", {"ryansMammoth": "Ryan's Mammoth Collection"})
    monkeypatch.setattr("linernotes.demo.large.MORE_COLLECTIONS", {})
    with pytest.raises(UsageError, match=r"--segments 90000: the tunes give \d+, so ask for as many at most"):
        linernotes.rebuild(tmp_path / "out", large=True, segments=90_000)
    assert not (tmp_path / "out").exists()


def edited(folder: Path, small: Path, part: str = "", **values: object) -> Path:
    """A copy of a model with other values in its config."""
    shutil.copytree(small, folder)
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(values)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("part", "values", "sentence"),
    [
        ("", {"model_type": "musicgen_melody"}, "holds a MusicGen Melody, whose clips also follow a melody"),
        ("", {"model_type": "musicgen_decoder"}, "holds a musicgen_decoder, not a whole MusicGen model"),
        ("audio_encoder", {"model_type": "dac"}, "holds a MusicGen with the codec dac"),
        ("audio_encoder", {"num_quantizers": 3}, "with 4 codebooks of 16 and a codec with 3 of 16"),
        (
            "decoder",
            {"num_hidden_layers": 3},
            "the weights in .* do not fit its config.json: .*layers.2.* is miss",
        ),
        (
            "decoder",
            {"num_hidden_layers": 1},
            "do not fit its config.json: .*layers.1.* is unexpected, of 16",
        ),
        ("decoder", {"ffn_dim": 32}, "could not be loaded as a MusicGen model .*: copy it anew"),
    ],
)
def test_configs_that_do_not_fit_are_refused(
    small: Path, tmp_path: Path, part: str, values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(LinernotesError, match=sentence):
        open_model(edited(tmp_path / "model", small, part, **values))


def test_weights_that_are_not_there_are_refused(small: Path, tmp_path: Path) -> None:
    folder = edited(tmp_path / "model", small)
    check_model(folder)
    weights = load_file(folder / "model.safetensors")
    missing = {n: t for n, t in weights.items() if n != "decoder.lm_heads.2.weight"}
    save_file(missing, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(LinernotesError, match=r"decoder\.lm_heads\.2\.weight is missing, of 1: copy it anew"):
        open_model(folder)
    old = {**weights, "decoder.model.decoder.embed_positions.weights": torch.zeros(12, TINY.width)}
    save_file(old, folder / "model.safetensors", {"format": "pt"})  # as old checkpoints have it
    assert open_model(folder).weights_hash == MusicGen(small).weights_hash
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(LinernotesError, match="is a Git LFS pointer: run 'git lfs pull' in"):
        check_model(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(LinernotesError, match=r"pytorch_model\.bin is a pickle"):
        check_model(folder)


def test_a_folder_without_tokenizer_or_length_is_refused(small: Path, tmp_path: Path) -> None:
    folder = edited(tmp_path / "model", small)
    (folder / "generation_config.json").write_text("{}")
    with pytest.raises(LinernotesError, match=r"generation_config\.json does not say max_length"):
        open_model(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(LinernotesError, match="holds no tokenizer"):
        check_model(folder)
