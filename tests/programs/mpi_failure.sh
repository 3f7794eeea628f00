#!/usr/bin/env bash
# If the step fails in one process, every process says so and ends: mpi_failure.sh PROCESSES LAUNCHER...
set -uo pipefail
processes=$1
shift
output=$("$@" 2>/dev/null)
status=$?
echo "$output"
[ "$status" -ne 0 ] || { echo "no process has failed"; exit 1; }
own=$(grep -c "^rank $((processes - 1)): policy_gradient: expected finite reference_log_probabilities, got NaN at row " <<<"$output")
others=$(grep -c "^rank [0-9]*: policy_gradient: expected all shards to succeed, got an error in another shard$" <<<"$output")
[ "$own" -eq 1 ] && [ "$others" -eq $((processes - 1)) ]
