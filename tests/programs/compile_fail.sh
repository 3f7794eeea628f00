#!/usr/bin/env bash
# compile_fail.sh SOURCE COMPILER [FLAG...]: the source compiles. With -DWRONG, the compiler refuses what comes after each comment `error: TEXT`,
# and prints TEXT.
set -euo pipefail
source=$1 compile=("${@:2}" -std=c++20 -fsyntax-only)
"${compile[@]}" "$source"

if "$2" --version | grep -q clang; then compile+=(-ferror-limit=0); fi
if errors=$("${compile[@]}" -DWRONG "$source" 2>&1); then
  echo "nothing is refused"
  exit 1
fi
refused=$(grep -oE "${source##*/}:[0-9]+:" <<<"$errors" | cut -d: -f2 | sort -nu)
grep -n '' "$source" | awk -v refused="$refused" '
  BEGIN { split(refused, lines, "\n"); for (i in lines) is_refused[lines[i]] = 1 }
  function finish() { if (text != "" && !found) { print "not refused: " text; bad = 1 } }
  { number = $0; sub(/:.*/, "", number) }
  /\/\/ error: / { finish(); text = $0; sub(/.*\/\/ error: /, "", text); found = 0; count++; next }
  number in is_refused { found = 1 }
  END { finish(); if (!count) { print "no line to refuse"; bad = 1 } exit bad }'
while read -r text; do
  grep -qF "$text" <<<"$errors" || { echo "not said: $text"; failed=1; }
done < <(sed -n 's|.*// error: ||p' "$source")
[ -z "${failed:-}" ] || { echo "$errors"; exit 1; }
