#!/usr/bin/env bash
# The whole chain on a folder of recordings: catalogue, a small model trained on it, a clip, its attribution, self-influence.
# Fails if fewer than 19 of 20 training segments have their own track first.
#   dev/own-recordings.sh ../shared/data/real-music /tmp/real
# Further arguments: prompt, steps of training, segments, and the share of them that must have their own track first.
set -euo pipefail
source_folder=$(realpath "$1")
out=$(realpath -m "$2")
prompt=${3:-"chiptune, upbeat square-wave lead, fast arpeggios"}
steps=${4:-1500}
segments=${5:-20}
bar=${6:-0.95}
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
mkdir -p "$out"
[ -d "$out/catalogue" ] || linernotes catalog build "$source_folder" -o "$out/catalogue"
[ -d "$out/model" ] || linernotes train "$out/catalogue" -o "$out/model" --steps "$steps"
linernotes generate --model "$out/model" --prompt "$prompt" --seed 1 -o "$out/clip.flac"
linernotes attribute "$out/clip.flac" --model "$out/model" --catalog "$out/catalogue" -o "$out/attributed"
linernotes evaluate self-influence --model "$out/model" --catalog "$out/catalogue" --segments "$segments" -o "$out" --json > "$out/self-influence.json"
python - "$out/self-influence.json" "$bar" <<'END'
import json, sys
found = json.load(open(sys.argv[1]))
for rank in found["ranks"]:
    print(f"{rank['track_rank']:3g} {rank['segment_rank']:4g}  {rank['title']} from {rank['start_s']:.0f} s")
print(f"{found['first']} of {found['segments']} have their own track first, mean rank {found['mean_rank']:.2f}")
sys.exit(found["first"] < float(sys.argv[2]) * found["segments"])
END
