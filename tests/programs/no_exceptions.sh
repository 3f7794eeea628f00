#!/usr/bin/env bash
# Without exceptions, a mistake prints its text and ends the program.
#   no_exceptions.sh PROGRAM
set -euo pipefail
[ "$("$1")" = finite ]
set +e
text=$("$1" mistake 2>&1)
status=$?
set -e
[ "$text" = "calibrate: expected 2 rows of rewards, one for each row of the reference, got 1" ]
[ "$status" -eq 134 ] # 128 + SIGABRT
