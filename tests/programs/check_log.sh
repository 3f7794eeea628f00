#!/usr/bin/env bash
# check_log.sh PROGRAM: fails unless a log in order passes, and a log out of order is reported with its prompts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/right.jsonl" <<'end'
{"prompt": "a", "reward": 1, "shaped": 10}
{"prompt": "a", "reward": 2, "shaped": 20}
{"prompt": "b", "reward": [3, null, 3], "shaped": [1, NaN, 1]}
end
"$1" "$folder/right.jsonl" reward shaped | tee "$folder/right"
[ "$(grep -c '^passed: ' "$folder/right")" -eq 4 ]

cat >"$folder/wrong.jsonl" <<'end'
{"prompt": "a", "raw": [1, 2, null], "shaped": [3, 1, 0]}
{"prompt": "b", "raw": [1, 2], "shaped": [1, 1]}
end
status=0
"$1" "$folder/wrong.jsonl" >"$folder/wrong" || status=$?
cat "$folder/wrong"
[ "$status" -eq 1 ]
grep -q 'not a monotone function of the raw ones for 1 of 2 prompts: 0.$' "$folder/wrong"
grep -q '^prompt 0 is a$' "$folder/wrong"
grep -q '^FAILED: log_keeps_distinct' "$folder/wrong"
grep -q '^FAILED: log_keeps_unscored' "$folder/wrong"

echo '{"prompt": "a", "raw": [1, 2], "shaped": [1]}' >"$folder/uneven.jsonl"
status=0
"$1" "$folder/uneven.jsonl" 2>"$folder/error" || status=$?
[ "$status" -eq 2 ]
grep -q 'prompt 0 has 2 rewards under "raw" and 1 under "shaped"' "$folder/error"
