"""Whatever surrounds linernotes (another process, no home, a closed pipe, odd names, any umask), it works or
says why not.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from linernotes.artefacts import held, load_tensors, replace_folder, replacing, save_tensors
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.cli.output import EVERY_S, Output, _Lines, command
from linernotes.errors import LinernotesError
from linernotes.jobs.shards import in_shards
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.places import OF_LIBRARIES, cache_folder, settle_libraries
from linernotes.version import __version__

LINERNOTES = [sys.executable, "-m", "linernotes"]
HOLDING = """
import sys, time
from pathlib import Path
from linernotes.artefacts import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_process_holds(path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ------------------------------------------------------------------------------------------------------------
# ------ locks


def test_what_another_process_holds_is_refused_with_its_name_and_free_when_that_dies(tmp_path: Path) -> None:
    out = tmp_path / "deep/out"
    with another_process_holds(out) as process:
        with pytest.raises(
            LinernotesError, match=rf"out is being written by process {process.pid} on .+ since \d\d:\d\d \("
        ):
            held(out).__enter__()
        said: list[str] = []
        with (
            pytest.raises(LinernotesError, match="another --out"),
            held(out, wait_s=0.3, on_wait=said.append),
        ):
            pass
        assert len(said) == 1 and str(process.pid) in said[0]
        process.kill()  # as the kernel does when memory runs out
        process.wait()
        with held(out):
            pass
    assert tree(tmp_path) == ["deep"]


@pytest.mark.parametrize(
    "words",
    [
        ["train", "CATALOGUE", "--init", "MODEL", "--steps", 1],
        ["generate", "--model", "MODEL", "--prompt", "x"],
        ["bank", "build", "--model", "TRAINED", "--catalog", "CATALOGUE", "--halves", 8, "--again", 2],
        ["search", "--grid", "draws=2,4", "--model", "MODEL", "--catalog", "CATALOGUE", "--segments", 1],
        ["rebuild", "--benchmark", "flow"],
    ],
)
def test_two_runs_do_not_write_one_result(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, words: list[str | int]
) -> None:
    places = {"MODEL": model_path, "TRAINED": model_path, "CATALOGUE": catalogue.path}
    out = tmp_path / ("out.flac" if words[0] == "generate" else "out")
    with another_process_holds(out) as process:
        result = CliRunner().invoke(app, [*(str(places.get(str(w), w)) for w in words), "-o", str(out)])
        assert result.exit_code == 1 and f"by process {process.pid} on" in result.stderr, result.output
    assert [path for path in tree(tmp_path) if not path.startswith(f".{out.name}.")] == []  # but the lock


def test_who_waits_gets_what_is_held_once_it_is_free(tmp_path: Path) -> None:
    with another_process_holds(tmp_path / "out") as process:
        assert process.stdin
        with pytest.raises(LinernotesError), held(tmp_path / "out"):
            pass
        threading.Timer(0.5, process.stdin.close).start()
        begun = time.monotonic()
        with held(tmp_path / "out", wait_s=60, on_wait=lambda _: None):
            assert time.monotonic() - begun < 30
    assert tree(tmp_path) == []


def test_a_lock_may_be_taken_again_by_its_thread_and_by_no_other(tmp_path: Path) -> None:
    path, refused = tmp_path / "out", []

    def other() -> None:
        try:
            held(path).__enter__()
        except LinernotesError as error:
            refused.append(str(error))

    with held(path):
        with held(path), held(tmp_path / "." / "out"):
            pass
        thread = threading.Thread(target=other)  # the inner blocks have not freed it
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert tree(tmp_path) == []


def test_a_lock_is_taken_once_among_many_who_come_and_go(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def come_and_go() -> None:
        for _ in range(10):
            with held(tmp_path / "out", wait_s=60, on_wait=lambda _: None):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert tree(tmp_path) == []


@dataclass(frozen=True)
class Counting:
    """The rows' own numbers, slowly; ``computed`` keeps where each shard began."""

    computed: list[int]
    key: str = "counting"
    paths: tuple[Path, ...] = ()

    @property
    def setup(self) -> Counting:
        return self

    def open(self) -> None:
        return None

    def compute(self, worker: None, rows: slice) -> dict[str, torch.Tensor]:
        self.computed.append(rows.start)
        time.sleep(0.05)
        return {"x": torch.arange(rows.start, rows.stop)}


def test_two_at_the_same_shards_compute_each_once_and_read_the_same(tmp_path: Path) -> None:
    computed: list[int] = []
    found: list[torch.Tensor] = []

    def work() -> None:
        counting = Counting(computed)
        found.append(in_shards(tmp_path / "x.safetensors", "numbers", {}, 10, 3, counting)["x"])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(computed) == [0, 3, 6, 9]
    assert all(torch.equal(x, torch.arange(10)) for x in found) and len(found) == 3
    assert tree(tmp_path) == ["x.safetensors"]


def test_many_who_replace_one_folder_all_find_their_way(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def replace(name: str) -> None:
        try:
            for turn in range(15):
                built = tmp_path / f"{name}-{turn}"
                built.mkdir()
                (built / "whole").write_text(name)
                replace_folder(built, tmp_path / "out")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=replace, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert tree(tmp_path) == ["out", "out/whole"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    with pytest.raises(OSError):
        replace_folder(tmp_path / "not built", tmp_path / "out")
    assert tree(tmp_path) == ["out", "out/mine"]


# --------------------------------------------------------------------------------------------------- names,
# modes, places


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o027])
def test_files_have_the_mode_that_the_umask_says(tmp_path: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, "k", {})
        with replacing(tmp_path / "b.txt") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_a_file_system_without_modes_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chmod(path: object, *_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "chmod", chmod)
    monkeypatch.setattr(Path, "chmod", chmod)
    save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, "k", {})
    assert load_tensors(tmp_path / "a.safetensors", "k")[0]["x"].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["a" * 250 + ".json", "音" * 83 + ".json", "x." + "y" * 250])
def test_the_longest_names_can_be_written_and_held(tmp_path: Path, name: str) -> None:
    with held(tmp_path / name), replacing(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert tree(tmp_path) == [name]


def test_the_cache_lies_in_the_temporary_folder_where_a_home_is_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    temporary.mkdir()
    home.write_text("a file, so that not even root can write below it")
    for name in ("LINERNOTES_CACHE", "XDG_CACHE_HOME", *OF_LIBRARIES):
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    found = cache_folder()
    assert found.parent == temporary and found.stat().st_mode & 0o777 == 0o700
    settle_libraries()
    assert {Path(os.environ[name]).parent for name in OF_LIBRARIES} == {found}
    monkeypatch.setattr("tempfile.tempdir", str(home))
    with pytest.raises(LinernotesError, match="set LINERNOTES_CACHE"):
        cache_folder()
    monkeypatch.setenv("LINERNOTES_CACHE", str(home / "cache"))
    with pytest.raises(LinernotesError, match="set LINERNOTES_CACHE"):
        cache_folder()


def test_a_home_that_can_be_written_is_used_and_libraries_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LINERNOTES_CACHE", "XDG_CACHE_HOME", *OF_LIBRARIES):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    settle_libraries()
    assert not set(OF_LIBRARIES) & set(os.environ)
    assert tmp_path in cache_folder().parents


# ------------------------------------------------------------------------------------------------------------
# ----- output


def test_what_is_no_terminal_gets_whole_lines_and_names_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rich.markup import escape
    from rich.table import Table

    name = "a folder/" * 40 + "[bold]not bold :smile: 50%.wav"
    table = Table("file", "reason", box=None)
    table.add_row(escape(name), "why " * 100)
    Output().print(table)
    Output().print(f"{escape(name)}  [dim](told)[/]")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split("  ")[0].strip() == name and "why " * 99 in lines[1]
    assert lines[2] == f"{name}  (told)"


def test_long_work_writes_a_line_now_and_then_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    lines = _Lines(lambda: now[0])
    for done in range(200):
        lines.show("scoring", "scoring", done, 200)
        now[0] += 1
    lines.show("report", "report (a)", 0, 1)
    told = capsys.readouterr().err
    assert told.splitlines()[:3] == [
        "scoring: 0 of 200",
        "scoring: 30 of 200 (30 s)",
        "scoring: 60 of 200 (1 min 0 s)",
    ]
    assert len(told.splitlines()) == 200 // EVERY_S + 2
    assert (
        told.endswith("report (a): 0 of 1\n") and told.isascii() and "\x1b" not in told and "\r" not in told
    )


def test_a_reader_that_stops_early_is_no_failure() -> None:
    for verb in (
        "methods --json",
        "methods",
        "attribute --help",
    ):  # the last two fit into the buffer: met only at the end
        line = f"{shlex.join(LINERNOTES)} {verb} | true"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
        assert done.stderr == ""


def test_a_terminal_without_unicode_and_a_closed_one_are_written_to(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    missing = tmp_path / "Zoë 音.wav"
    words = [*LINERNOTES, "attribute", str(missing), "-o", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, env=environment)
    assert done.returncode == 1 and b"Zo\\xeb \\u97f3.wav is missing" in done.stderr
    closed = subprocess.run(
        ["bash", "-c", f"{shlex.join(LINERNOTES)} methods >&-"], capture_output=True, text=True
    )
    assert (closed.returncode, closed.stderr) == (0, "")


def test_printed_commands_can_be_pasted() -> None:
    words = ["linernotes", "attribute", "my clip (take 1).flac", "-o", "it's"]
    assert shlex.split(command(*words)) == words


# --------------------------------------------------------------------------------------------------------
# early and plain

REFUSED = {
    "attribute none.wav -o out": "none.wav is missing",
    "attribute folder -o out": "folder is a folder: give a sound file",
    "attribute clip.wav -o clip.wav": "clip.wav is a file, so nothing can be written into",
    "attribute clip.wav -o out --model none": "there is no model at none",
    "attribute clip.wav -o out --model folder": "is not a diffusers pipeline",
    "attribute clip.wav -o out --catalog none": "there is no catalogue at none",
    "attribute clip.wav -o out --catalog folder": "is not a catalogue",
    "attribute clip.wav -o out --catalog clip.wav": "is a file, not a catalogue",
    "attribute clip.wav -o out --method tuba": "there is no method 'tuba'",
    "attribute clip.wav -o out --settings none.toml": "none.toml cannot be read",
    "attribute clip.wav -o out --damping -1": "setting damping = -1.0",
    "compare none.wav -o out": "none.wav is missing",
    "compare clip.wav -o out --methods latent,tuba": "there is no method 'tuba'",
    "generate --prompt x -o clip.mp3": "use a name that ends in .flac, .wav or .ogg",
    "generate --prompt x -o c.flac --model stabilityai/stable-audio-open-1.0": (
        "models are folders; check the path, or get one with 'hf download stabilityai/stable-audio-open-1.0 "
        "--local-dir DIR'"
    ),
    "catalog build none -o out": "there is no folder none",
    "catalog build clip.wav -o out": "clip.wav is not a folder",
    "catalog build folder -o full": "full exists already",
    "catalog show none": "there is no catalogue at none",
    "train none -o out": "there is no catalogue at none",
    "train builtin -o full": "full exists already",
    "train builtin -o out --steps 0": "setting steps = 0",
    "verify none -o out": "none is missing",
    "bank build -o out --prompts none.csv": "none.csv is missing",
    "bank show --bank none": "there is no finished bank at none",
    "evaluate lds --bank none": "there is no finished bank at none",
    "evaluate lds --methods tuba": "there is no method 'tuba'",
    "evaluate lds --scores a=none.parquet": "none.parquet is missing",
    "evaluate hubs --model none": "there is no model at none",
    "evaluate counterfactual --methods latent": "give one with --out",
    "evaluate self-influence --catalog none": "there is no catalogue at none",
    "search -o out --grid damping=1 --model none": "there is no model at none",
    "search -o out --grid damping=1 --sampler tuba": "setting sampler = 'tuba'",
    "search -o out --grid damping=1 --candidates 1": "setting candidates = 1",
    "search -o out --grid damping=1 --together": "leave out --together",
    "generate --prompt x -o c.flac --seed -1": "setting seed = -1",
    "generate --prompt x -o c.flac --seconds 0": "setting seconds = 0.0",
    "demo -o out --seed 4294967296": "setting seed = 4294967296",
    "verify folder -o out --k 0": "setting k = 0",
    "bank build -o out --halves -1": "setting halves = -1",
    "plan --queries 0": "setting queries = 0",
    "evaluate lds --split tuba": "setting split = 'tuba'",
    "evaluate counterfactual --percent 60": "setting percent = 60.0",
    "evaluate repeatability --seeds 1": "setting seeds = 1",
    "evaluate self-influence --segments 0": "setting segments = 0",
    "evaluate model --clips 0": "setting clips = 0",
}


def test_what_is_wrong_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    """In one process that cannot import torch, since starting one for each costs a second."""
    for name in ("folder", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full/something").write_text("x")
    (tmp_path / "clip.wav").write_bytes(b"RIFF")
    before = tree(tmp_path)
    program = (
        "import json, sys\nsys.modules['torch'] = sys.modules['diffusers'] = sys.modules['transformers'] = "
        "None\n"
        "from typer.testing import CliRunner\nfrom linernotes.cli.app import app\n"
        "told = [CliRunner().invoke(app, line.split()) for line in json.load(sys.stdin)]\n"
        "print(json.dumps([[each.exit_code, each.stderr] for each in told]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(list(REFUSED)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for (line, sentence), (code, told) in zip(REFUSED.items(), json.loads(done.stdout), strict=True):
        assert code in (1, 2) and sentence in told and told.count("error:") == 1 and told.count("\n") == 1, (
            f"{line}: {told}"
        )
    assert tree(tmp_path) == before


def test_the_version_is_told_without_a_verb() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.stdout) == (0, f"{__version__}\n")


def test_no_evaluation_leaves_a_folder_that_nobody_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_path: Path, catalogue: Catalogue
) -> None:
    monkeypatch.chdir(tmp_path)
    where = [
        "--model",
        str(model_path),
        "--catalog",
        str(catalogue.path),
        "--segments",
        "2",
        "--method",
        "latent",
    ]
    assert CliRunner().invoke(app, ["evaluate", "self-influence", *where]).exit_code == 0
    assert tree(tmp_path) == []
    assert CliRunner().invoke(app, ["evaluate", "self-influence", *where, "-o", "asked"]).exit_code == 0
    assert tree(tmp_path)[0] == "asked"


# ------------------------------------------------------------------------------------------------------------
# ----- models


def copied(model: Path, folder: Path) -> Path:
    return Path(shutil.copytree(model, folder))


def test_half_precision_weights_alone_are_loaded_as_float32(tmp_path: Path, model_path: Path) -> None:
    folder = copied(model_path, tmp_path / "m")
    for path in folder.glob("*/*.safetensors"):
        halved = {name: t.half() if t.is_floating_point() else t for name, t in load_file(path).items()}
        save_file(halved, path.with_name(path.stem + ".fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    whole, half = StableAudio(model_path), StableAudio(folder)
    for name in ("codec", "text_encoder", "projection", "network"):
        ours = dict(getattr(half, name).named_parameters())
        for parameter, value in getattr(whole, name).named_parameters():
            assert ours[parameter].dtype == torch.float32
            assert torch.equal(ours[parameter], value.half().float())
    assert half.weights_hash != whole.weights_hash


@pytest.mark.parametrize(
    "part", ["transformer/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json", "vae/config.json"]
)
def test_pointers_of_git_lfs_are_named_as_such(tmp_path: Path, model_path: Path, part: str) -> None:
    folder = copied(model_path, tmp_path / "m")
    assert (folder / part).exists()
    (folder / part).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0f3a\nsize 1234\n")
    with pytest.raises(LinernotesError, match=rf"{part} is a Git LFS pointer.*git lfs pull"):
        StableAudio(folder)


def test_matrix_products_are_not_rounded(model_path: Path) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    StableAudio(model_path)
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
