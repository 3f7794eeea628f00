#!/usr/bin/env bash
# offline_regression.sh PROGRAM: fails unless training on a fixed log reaches the optimum's win rate to 0.001 and its KL to 0.005, a log Z
# that is too small holds the policy back, and one that is too large collapses it.
set -euo pipefail
table=$("$1")
echo "$table"
awk '
  function off(x, y, by) { return x - y > by || y - x > by }
  /optimum/ { kl = $(NF - 1); w = $NF; if (off(kl, 0.5352, 1e-4) || off(w, 0.8806, 1e-4)) { print "another optimum: " $0; bad = 1 } }
  /^\((a|c)\)/ { rows++; if (off($(NF - 2), kl, 0.005) || off($(NF - 1), w, 0.001)) { print "too far from the optimum: " $0; bad = 1 } }
  /too small/ { rows++; if ($(NF - 1) > 0.7) { print "not held back: " $0; bad = 1 } }
  /too large/ { rows++; if ($NF < 0.5) { print "no collapse: " $0; bad = 1 } }
  END { if (rows != 4) { print "expected four rows, got " rows + 0; bad = 1 } exit bad }' <<<"$table"
