#!/usr/bin/env bash
# The whole chain on a folder of recordings: catalogue, a small model trained on it, a clip, its attribution, self-influence.
#   dev/own-recordings.sh ../shared/data/real-music /tmp/real
set -euo pipefail
source_folder=$1
out=$2
prompt=${3:-"chiptune, upbeat square-wave lead, fast arpeggios"}
steps=${4:-1500}
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
mkdir -p "$out"
[ -d "$out/catalogue" ] || linernotes catalog build "$source_folder" -o "$out/catalogue"
[ -d "$out/model" ] || linernotes train "$out/catalogue" -o "$out/model" --steps "$steps"
linernotes generate --model "$out/model" --prompt "$prompt" --seed 1 -o "$out/clip.flac"
linernotes attribute "$out/clip.flac" --model "$out/model" --catalog "$out/catalogue" -o "$out/attributed"
linernotes evaluate self-influence --model "$out/model" --catalog "$out/catalogue" --segments 20
