# shellcheck shell=bash
# libtorch.sh ALIGN: runs every stage of the trainer, with few steps, in the world that it makes up, and stops it once. Then aligns the
# model, the tokenizer and the texts that it wrote, as files that a user names, with a program for the rewards.
set -euo pipefail
align=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
size=(--training-prompts 150 --held-out-prompts 50 --references 32 --prompts 8 --responses 16 --points 1 --seeds 1)
options=("${size[@]}" --supervised-steps 250 --steps 50 --learning-rate 4e-3 --goals raw best-of-4 worst-of-4)

# Ctrl-C saves and stops; the same command continues.
status=0
timeout --preserve-status -s INT 4 "$align" "$folder" "${options[@]}" >/dev/null 2>"$folder/log" || status=$?
[ "$status" = 130 ] || { echo "expected a stop with status 130, got $status"; cat "$folder/log"; exit 1; }
[ -e "$folder/model.pt" ] || { echo "nothing was saved"; exit 1; }
"$align" "$folder" "${options[@]}" >"$folder/report" 2>"$folder/log" || { cat "$folder/log"; exit 1; }
cat "$folder/report"

# Each policy has moved from the reference and beats it. The transformed rewards win with the procedures that they are made for.
awk '
  function fail(text) { print "libtorch.sh: " text; bad = 1 }
  /^used with|^win rate/ { table = 1 }
  !table && ($1 == "raw" || $1 == "best-of-4" || $1 == "worst-of-4") {
    kl[$1] = $2; best[$1] = $8; worst[$1] = $11; rows++
    if ($2 < 0.45 || $2 > 0.55) fail($1 ": a KL of " $2)
    if ($5 < 0.55) fail($1 ": wins " $5 " with one sample")
  }
  END {
    if (rows != 3) fail("expected 3 rows, got " rows)
    if (best["best-of-4"] < 0.6) fail("best-of-4 wins " best["best-of-4"])
    if (worst["worst-of-4"] < 0.6) fail("worst-of-4 wins " worst["worst-of-4"])
    if (best["best-of-4"] - worst["best-of-4"] <= best["worst-of-4"] - worst["worst-of-4"]) fail("the transform makes no difference")
    exit bad
  }' "$folder/report"
[ "$(grep -c '^  aligned ' "$folder/samples.txt")" = 40 ] || { echo "expected 40 pairs of samples"; cat "$folder/samples.txt"; exit 1; }

# The rewards of a program: the number of letters "e".
"$align" "$folder/named" "${size[@]}" --model "$folder/model.bin" --tokenizer "$folder/tokenizer.bin" --texts "$folder/texts.json" \
  --score "cut -f 2 | awk '{ print gsub(/e/, \"\") }'" --goals best-of-4-K8-prior --steps 15 --learning-rate 4e-3 >"$folder/report" 2>"$folder/log" ||
  { cat "$folder/log"; exit 1; }
awk '$1 == "best-of-4-K8-prior" && !rows++ && $8 < 0.55 { print "libtorch.sh: wins " $8; bad = 1 } END { exit bad || !rows }' "$folder/report" ||
  { cat "$folder/report"; exit 1; }
