#!/usr/bin/env bash
# reference_samples.sh PROGRAM: fails unless the biases are those of the binomial distribution, the loss falls with K, and the theory is right.
set -euo pipefail
"$1" | awk '
  function fail(why) { print "FAILED: " why ": " $0; bad = 1 }
  function near(x, y, tolerance) { return x - y < tolerance && y - x < tolerance }
  # (1 + C (e^(t/K) - 1))^K at C = 0.9, t = 10, divided by e^(tC).
  /^e\^\{10 u\}/ { seen++; for (k = 0; k < 7; k++) { K = 4 * 2 ^ k; if (!near($(NF - 6 + k), exp(K * log(1 + 0.9 * (exp(10 / K) - 1)) - 9), 1e-4)) fail("bias at K = " K) } }
  /^unbiased_/ { seen++; if ($NF != "1.0000") fail("an unbiased rank") }
  /^(best|worst)-of/ && !/predicted/ { seen++; if (!($NF > 0 && $NF < 0.02 && $(NF - 1) > $NF)) fail("loss at K = 256") }
  /predicted/ { seen++; kl = $10; win = $13; sub(",", "", kl) }
  /^ *(8|16|32|64|128|256) / {
    seen++
    if ($2 < kl) fail("a realised KL below the prediction")
    if ($3 > win + 0.002) fail("a realised win rate above the prediction")
    if (!(substr($5, 2) - 0.02 < $3 && $3 < $6 + 0.02)) fail("the win rate far outside its interval")
    if ($1 == 8 && !(substr($8, 2) > $3)) fail("measured with the references that calibrated it looks better than it is")
    if ($1 == 256 && !(near($2, kl, 0.05) && near($3, win, 0.005))) fail("K = 256 against the theory")
  }
  END { if (seen != 3 + 30 + 1 + 6) { print "FAILED: " seen " lines"; bad = 1 } exit bad }'
