# shellcheck shell=bash
# libtorch.sh PREPARE ALIGN: runs every stage of the trainer, with few steps, on the corpus that it makes up, and stops it once.
set -euo pipefail
prepare=$1 align=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$prepare" "$folder" >/dev/null
options=(--supervised-steps 250 --reward-steps 120 --references 32 --steps 60 --prompts 8 --points 1 --seeds 1 --goals raw best-of-4 worst-of-4)

# Ctrl-C saves and stops; the same command continues.
status=0
timeout --preserve-status -s INT 10 "$align" "$folder" "${options[@]}" >/dev/null 2>"$folder/log" || status=$?
[ "$status" = 130 ] || { echo "expected a stop with status 130, got $status"; cat "$folder/log"; exit 1; }
[ -e "$folder/supervised.pt" ] || { echo "nothing was saved"; exit 1; }
"$align" "$folder" "${options[@]}" >"$folder/report" 2>"$folder/log" || { cat "$folder/log"; exit 1; }
cat "$folder/report"

# Each policy has moved from the reference and beats it. The transformed rewards win with the procedures that they are made for.
awk '
  function fail(text) { print "libtorch.sh: " text; bad = 1 }
  /^reward model/ { if ($7 < 0.7) fail("the reward model agrees with too few comparisons: " $7) }
  $1 == "raw" || $1 == "best-of-4" || $1 == "worst-of-4" {
    kl[$1] = $2; best[$1] = $8; worst[$1] = $11; rows++
    if ($2 < 0.1 || $2 > 2) fail($1 ": a KL of " $2)
    if ($5 < 0.55) fail($1 ": wins " $5 " with one sample")
  }
  END {
    if (rows != 3) fail("expected 3 rows, got " rows)
    if (best["best-of-4"] < 0.6) fail("best-of-4 wins " best["best-of-4"])
    if (worst["worst-of-4"] < 0.6) fail("worst-of-4 wins " worst["worst-of-4"])
    if (best["best-of-4"] - worst["best-of-4"] <= best["worst-of-4"] - worst["worst-of-4"]) fail("the transform makes no difference")
    exit bad
  }' "$folder/report"
