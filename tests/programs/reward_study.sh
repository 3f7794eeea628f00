#!/usr/bin/env bash
# reward_study.sh PROGRAM: checks its numbers on a small file and its error messages; and its numbers on real rewards, if
# ALPACAEVAL2_PREFERENCES names the file of the AlpacaEval 2 annotations.
set -euo pipefail
study=$1
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
failures=0
fail() { echo "FAILED: $*"; failures=1; }

# same_table EXPECTED TOLERANCE < TABLE: fails unless words are equal and numbers within TOLERANCE. Lines that are not in EXPECTED are ignored.
same_table() {
  awk -v tolerance="$2" '
    NR == FNR { expected[$1 " " $2] = $0; next }
    ($1 " " $2) in expected {
      n = split(expected[$1 " " $2], e); seen++
      if (n != NF) { print "columns: " $0; bad = 1 }
      for (i = 3; i <= n; i++)
        if (($i == "-" || e[i] == "-" || FNR == 1) ? $i != e[i] : ($i - e[i] > tolerance || e[i] - $i > tolerance)) { print "expected " e[i] ", got " $i ": " $0; bad = 1 }
    }
    END { for (k in expected) rows++; if (seen != rows) { print "rows: " seen + 0 " of " rows; bad = 1 } exit bad }' <(echo "$1") -
}

# Expected values come from a separate Python program: win rates by enumeration of all 4-tuples of responses of both policies, beta by bisection.
cat >"$folder/small.jsonl" <<'END'
{"prompt": "two", "rewards": [0, 1], "lengths": [5, 9]}
{"prompt": "ties on top", "rewards": [0, 1000, 1000]}
{"prompt": "all equal", "rewards": [3, 3], "unknown": {"key": null}}

{"rewards": [-2.0, 5, 1e0]}
END
small='procedure kl raw zscore calibrated exponential
plain 0.25 0.6227 0.6425 0.6426 0.6263
plain 0.50 0.6813 0.6837 0.6837 0.6806
plain 1.00 - - - -
best-of-4 0.25 0.5312 0.5336 0.5336 0.5336
best-of-4 0.50 0.5340 0.5340 0.5340 0.5340
best-of-4 1.00 - - - -
worst-of-4 0.25 0.7055 0.7270 0.7292 0.7507
worst-of-4 0.50 0.8180 0.8328 0.8333 0.8364
worst-of-4 1.00 - - - -'
"$study" "$folder/small.jsonl" | same_table "$small" 0.0001 || fail "the small file"
"$study" - <"$folder/small.jsonl" | same_table "$small" 0.0001 || fail "standard input"
[ "$("$study" "$folder/small.jsonl" | wc -l)" -eq 10 ] || fail "ten lines"

# Two rewards: the better one has probability p with log 2 + p log p + (1 - p) log(1 - p) = 0.25, so p = 0.8378, W = 1/4 + p/2.
echo '{"rewards": [0, 1]}' | "$study" - | same_table "plain 0.25 0.6689 0.6689 0.6689 0.6689
plain 1.00 - - - -" 0.0001 || fail "two rewards"
echo '{"rewards": [3, 3, 3]}' | "$study" - | same_table "plain 0.25 - - - -" 0 || fail "equal rewards reach no KL"
echo '{"rewards": [1e308, -1e308, 0]}' | "$study" - | same_table "plain 0.25 $(echo '{"rewards": [1, -1, 0]}' | "$study" - | awk '/^plain +0.25/ { print $3, $4, $5, $6 }')" 0 ||
  fail "rewards whose difference overflows"

# rejects NAME TEXT < INPUT: fails unless the exit code is 1, standard output is empty, and the message contains TEXT.
rejects() {
  local status=0
  "$study" - >"$folder/out" 2>"$folder/error" || status=$?
  [ $status -eq 1 ] || fail "$1: exit code $status"
  [ ! -s "$folder/out" ] || fail "$1: a table although there is an error"
  grep -qF -- "$2" "$folder/error" || fail "$1: $(cat "$folder/error")"
}
printf '{"rewards": [1]}\nnot JSON\n' | rejects "not JSON" "-:2: not JSON"
printf '{"rewards": [1]\n' | rejects "half a line" "-:1: not JSON"
printf '[1, 2]\n' | rejects "no object" "-:1: expected an object"
printf '{"prompt": "x"}\n' | rejects "no rewards" '-:1: expected an object with the key "rewards"'
printf '{"rewards": 3}\n' | rejects "a number" '-:1: expected "rewards" to be a list'
printf '{"rewards": []}\n' | rejects "an empty list" '-:1: expected "rewards" to be a list of at least one number'
printf '{"rewards": [1]}\n\n{"rewards": [1, "2"]}\n' | rejects "a string" '-:3: expected a number at rewards[1], got "2"'
printf '{"rewards": [NaN, null]}\n' | rejects "nothing scored" 'no prompt has a scored reward'
printf '{"rewards": [1e999]}\n' | rejects "overflow" '-:1: not JSON'
printf '' | rejects "an empty file" '-: no lines of rewards'
printf ' \n\n' | rejects "blank lines only" '-: no lines of rewards'
for name in "$folder/none.jsonl" "$folder"; do
  if "$study" "$name" 2>"$folder/error"; then fail "$name is read"; fi
  grep -qF "$name: cannot be" "$folder/error" || fail "no message about $name"
done

# Unscored rewards are left out, and one response a line is as good as a list.
[ "$(printf '{"rewards": [NaN, 0, null, 1]}\n{"rewards": [null]}\n' | "$study" - 2>"$folder/error")" = "$(echo '{"rewards": [0, 1]}' | "$study" -)" ] || fail "unscored rewards"
grep -qF "3 unscored rewards are left out" "$folder/error" || fail "the number of unscored rewards: $(cat "$folder/error")"
[ "$(printf '{"prompt": 1, "reward": 0}\n{"prompt": 1, "reward": 1}\n' | "$study" -)" = "$(echo '{"rewards": [0, 1]}' | "$study" -)" ] || fail "one response a line"

# Calibrated from K of the rewards: K of all changes nothing; there are more columns; too few rewards are an error.
seven='{"rewards": [0.5, 3, -1, 9, 2, 2.5, 4]}'
[ "$(echo "$seven" | "$study" - 7 | cut -c -43 | tail -n +2)" = "$(echo "$seven" | "$study" - | tail -n +2)" ] || fail "K of all"
echo "$seven" | "$study" - 7 | head -n 1 | grep -qx 'procedure kl raw zscore calibrated exponential prior prior_half_t unbiased_exponential power unbiased_power win_probability unbiased_win_probability' ||
  fail "the header with K"
echo "$seven" | "$study" - 7 | awk '/^plain/ && !($5 == $10 && $10 == $11 && $11 == $12 && $12 == $13 && $9 == "-") { exit 1 }' ||
  fail "for one sample every power and win probability is the calibrated reward"
echo "$seven" | "$study" - 6 | awk '/^best-of-4/ && $11 != "-" { exit 1 }' || fail "u^7 without bias needs 7"
printf '{"rewards": [1, 2, 3]}\n{"rewards": [1, 2]}\n' | "$study" - 3 2>"$folder/error" && fail "K above a prompt's rewards"
grep -qF -- "-: prompt 2 has 2 rewards, fewer than K = 3" "$folder/error" || fail "K above a prompt's rewards: $(cat "$folder/error")"
# The plan: for prompts that differ in level, with 8 rewards each, the prior wins more than calibration without it.
awk 'BEGIN { srand(1); for (p = 0; p < 200; ++p) { m = 0; for (i = 0; i < 12; ++i) m += rand() - 0.5
  printf "{\"rewards\": ["; for (k = 0; k < 8; ++k) { x = m; for (i = 0; i < 12; ++i) x += rand() - 0.5; printf "%s%.6f", (k ? ", " : ""), x } print "]}" } }' >"$folder/levels.jsonl"
"$study" "$folder/levels.jsonl" plan best-of-4 0.5 >"$folder/plan"
grep -q '^train with: prior location of weight .* t = .* beta = ' "$folder/plan" || fail "the plan: $(cat "$folder/plan")"
awk '/^ +4\.0 / { if (!($10 > $7 + 0.01)) exit 1; seen = 1 } END { exit !seen }' "$folder/plan" || fail "the plan's measurement: $(cat "$folder/plan")"
for wrong in "best-of-0 0.5" "best-of 0.5" "mean-of-4 0.5" "best-of-4 x"; do
  status=0
  # shellcheck disable=SC2086
  "$study" "$folder/levels.jsonl" plan $wrong 2>"$folder/error" || status=$?
  [ $status -eq 2 ] || fail "plan $wrong: exit code $status"
done

# A second list is followed along: the mean value of the best of n by the reward, by hand for these ties.
echo '{"rewards": [0.1, 0.4, 0.4, 0.8, 0.9, 0.9], "other": [1, 2, 5, 3, 0, 4]}' >"$folder/follow.jsonl"
"$study" "$folder/follow.jsonl" follow other "$folder/picture" >"$folder/out"
awk '$1 == 1 && $2 == 2.5 { a = 1 } $1 == 3 && $2 == 2.225 { b = 1 } $1 == 6 && $2 == 2 { c = 1 } END { exit !(a && b && c) }' "$folder/out" || fail "follow: $(cat "$folder/out")"
grep -qF "other is largest at n = 1; n = 6 loses 0.5" "$folder/out" || fail "the peak: $(cat "$folder/out")"
[ "$(wc -l <"$folder/picture.csv")" -eq 7 ] || fail "the curve's file"
if command -v gnuplot >/dev/null; then [ -s "$folder/picture.png" ] || fail "no picture, although gnuplot is installed"; fi
# A missing value takes its response out; a missing key is an error.
[ "$(printf '{"rewards": [1, 2, 3, null], "x": [5, null, 7, 9]}\n' | "$study" - follow x | awk '$1 ~ /^[12]$/ { printf "%s ", $2 }')" = "6 7 " ] || fail "missing values"
status=0
"$study" "$folder/follow.jsonl" follow lengths 2>"$folder/error" || status=$?
if [ $status -ne 1 ] || ! grep -qF 'expected an object with the key "lengths"' "$folder/error"; then fail "a missing key: $(cat "$folder/error")"; fi

for k in 0 -1 x; do
  status=0
  "$study" "$folder/small.jsonl" $k 2>"$folder/error" || status=$?
  [ $status -eq 2 ] || fail "K = $k: exit code $status"
done

# Real rewards: a judge model's preferences for the responses of 56 models to 505 prompts (AlpacaEval 2).
data=${ALPACAEVAL2_PREFERENCES:-}
if [ -n "$data" ]; then
  "$study" "$data" | same_table 'procedure kl raw zscore calibrated exponential
plain 0.50 0.6999 0.6903 0.7735 0.7122
best-of-4 0.25 0.7528 0.7643 0.7293 0.7944
best-of-4 0.50 0.8206 0.8283 0.7982 0.8673
best-of-4 1.00 0.8814 0.8799 0.8740 0.9271
worst-of-4 0.25 0.6209 0.6042 0.7843 0.8557
worst-of-4 0.50 0.6837 0.6597 0.8856 0.9473
worst-of-4 1.00 0.7843 0.7558 0.9742 0.9925' 0.0002 || fail "real rewards"
  "$study" "$data" follow lengths | awk '
    function near(x, y) { return x - y < 0.001 && y - x < 0.001 }
    $1 == 4 { a = near($2, 1374.79) || near($2, 1374.786762) } $1 == 56 { b = near($2, 1896.17) } $1 == "raw" { c = near($2, 1319.2) }
    END { exit !(a && b && c) }' || fail "lengths of what best-of-n shows"
  # With few references the gain is smaller, but the order is the same: at K = 32 the transformed rewards are ahead of raw and z-scored ones.
  head -n 100 "$data" | "$study" - 32 | awk '/of-4/ && !($6 > $3 + 0.01 && $6 > $4 + 0.01) { print; bad = 1 } END { exit bad }' || fail "real rewards, K = 32"
else
  echo "real rewards: skipped, because ALPACAEVAL2_PREFERENCES names no file"
fi
exit $failures
