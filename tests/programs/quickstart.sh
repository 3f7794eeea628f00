#!/usr/bin/env bash
# quickstart.sh PROGRAM: fails unless all rewards have one KL, and each procedure gains from calibration and more from its own transform.
set -euo pipefail
table=$("$1")
echo "$table"
awk '
  /^raw reward/              { rows++; kl_raw = $3; best["raw"] = $4; worst["raw"] = $6 }
  /^calibrated  /            { rows++; kl_u = $2;   best["u"] = $3;   worst["u"] = $5 }
  /^calibrated, for best/    { rows++; kl_b = $4;   best["b"] = $5;   worst["b"] = $7 }
  /^calibrated, for worst/   { rows++; kl_w = $4;   best["w"] = $5;   worst["w"] = $7 }
  END {
    if (rows != 4) { print "expected four rows"; exit 1 }
    if (kl_raw != "0.50" || kl_u != "0.50" || kl_b != "0.50" || kl_w != "0.50") { print "the KLs differ"; exit 1 }
    if (!(best["b"] > best["u"] + 2 && best["u"] > best["raw"] + 5)) { print "best-of-4: not in the right order"; exit 1 }
    if (!(worst["w"] > worst["u"] + 4 && worst["u"] > worst["raw"] + 10)) { print "worst-of-4: not in the right order"; exit 1 }
  }' <<<"$table"
