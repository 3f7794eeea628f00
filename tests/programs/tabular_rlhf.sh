#!/usr/bin/env bash
# tabular_rlhf.sh PROGRAM: fails unless each way to train reaches 97 % of the optimum's gain, for all three procedures.
set -euo pipefail
table=$("$1")
echo "$table"
awk '
  /^  \([abcd]\)/ { rows++; gain = $(NF - 1); if (gain < 97 || gain > 101) { print "too far from the optimum: " $0; bad = 1 } }
  END { if (rows != 12) { print "expected twelve rows, got " rows + 0; bad = 1 } exit bad }' <<<"$table"
