#!/usr/bin/env bash
# tradeoff_curves.sh PROGRAM: fails unless its table has the win rates below and its CSV has all thirty curves. The win rates come
# from a separate program with an adaptive Runge-Kutta solver and quadrature. Columns: identity, log, t = 5, t = 10, and the optimum.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
"$1" "$folder/curves" | tee "$folder/table"
expected='best-of-2 0.50 0.7917 0.7682 0.8154 0.8031 0.8156
best-of-4 0.50 0.7998 0.7682 0.8566 0.8715 0.8733
best-of-4 1.00 0.8770 0.8631 0.9192 0.9351 0.9411
best-of-10 0.50 0.8043 0.7682 0.8778 0.9088 0.9455
worst-of-2 0.50 0.8403 0.8559 0.8587 0.8509 0.8603
worst-of-4 0.50 0.8860 0.9270 0.9439 0.9476 0.9479
worst-of-10 0.50 0.9168 0.9795 0.9931 0.9967 0.9974'
awk '
  NR == FNR { expected[$1 " " $2] = $3 " " $4 " " $5 " " $6 " " $7; next }
  ($1 " " $2) in expected {
    seen++
    gsub(/\([^)]*\)/, "")
    if ($3 " " $4 " " $5 " " $6 " " $8 != expected[$1 " " $2]) { print "expected " expected[$1 " " $2] ", got " $0; bad = 1 }
    if ($7 > $8 || $7 < $5 || $7 < $6) { print "the best exponential is not between: " $0; bad = 1 }
  }
  END { if (seen != 7) { print "expected 7 rows, got " seen + 0; bad = 1 } exit bad }' <(echo "$expected") "$folder/table"
curves=$(tail -n +2 "$folder/curves.csv" | cut -d, -f1,2 | sort -u | wc -l)
[ "$curves" -eq 30 ] || { echo "expected 30 curves in the CSV, got $curves"; exit 1; }
if command -v gnuplot >/dev/null; then
  [ "$(head -c 4 "$folder/curves.png" | tail -c 3)" = PNG ] || { echo "no picture, although gnuplot is installed"; exit 1; }
fi
