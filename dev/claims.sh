#!/usr/bin/env bash
# A small form of every command in README's table of figures, and of the scripts here: that they run, not what they find.
# `linernotes demo` is not among them: CI runs it whole. Takes some minutes.
#   dev/claims.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" TQDM_DISABLE=1
out=$(realpath -m "${1:-$(mktemp -d)}")
export LINERNOTES_CACHE="${LINERNOTES_CACHE:-$out/cache}"
mkdir -p "$out"

claim() {
  local start=$SECONDS
  echo "== $*"
  "$@" > "$out/said.txt" 2>&1 || { status=$?; tail -n 40 "$out/said.txt"; echo "failed: $*" >&2; exit "$status"; }
  tail -n 3 "$out/said.txt"
  echo "   $((SECONDS - start)) s"
}

python - "$out/recordings" <<'PYTHON'
import sys
from pathlib import Path
import numpy as np, soundfile
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
t = np.arange(26 * 22050) / 22050
for i in range(6):
    soundfile.write(folder / f"tone{i}.flac", 0.4 * np.sin(2 * np.pi * (220 + 60 * i) * t) * np.exp(-t / 3), 22050)
PYTHON

claim linernotes evaluate model --clips 2 --every 16 --json
claim dev/own-recordings.sh "$out/recordings" "$out/own" "a tone" 20 4 0
claim env -C "$out" python "$PWD/dev/splices.py" "$out/own/model" "$out/own/catalogue" 1
claim linernotes generate --prompt "a reel in D major for violin" --seed 1 -o "$out/clip.flac"
claim python dev/step_size_trial.py --quick "$out/clip.flac"
for part in sweep ingest queries scale; do claim linernotes bench --only "$part" --quick --json; done
claim linernotes bench --only methods --methods latent --quick --json
claim linernotes evaluate lds --json
claim linernotes evaluate benchmarks -o "$out/benchmarks.md"
claim linernotes evaluate benchmarks --benchmarks flow,adapter,codec-lm --methods readout,random -o "$out/families.md"
claim linernotes evaluate thinning -o "$out/thinning.md"
claim linernotes calibrate --json
claim python dev/lent.py readout benchmark benchmark benchmark
claim linernotes evaluate counterfactual --json
claim python dev/peers --quick
claim python dev/worth.py --without-strangers
claim python dev/desk_load.py --tiny --seconds 5 --most 5000
