#!/usr/bin/env bash
# Two units with unlike flags in one program print the same numbers whatever the order of linking. Without a namespace named after the flags,
# one unit would use functions of the other: instructions that a processor does not have, or wrong numbers.
# Eigen's own functions need the same alignment in all units, or memory is allocated in one way and freed in another.
#   mixed_flags.sh COMPILER SOURCE INCLUDE_OPTION...
set -euo pipefail
compiler=$1 source=$2
shift 2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unit() { "$compiler" -std=c++20 -O2 -DEIGEN_MAX_ALIGN_BYTES=64 "$@" -c "$source"; }
wide=()
[ "$(uname -m)" != x86_64 ] || wide=(-mavx2 -mfma)
unit -DUNIT=0 -o "$folder/main.o"
unit -DUNIT=1 "$@" -o "$folder/first.o"
unit -DUNIT=2 ${wide[@]+"${wide[@]}"} -ffast-math "$@" -o "$folder/second.o"
"$compiler" "$folder/main.o" "$folder/first.o" "$folder/second.o" -o "$folder/in_order"
"$compiler" "$folder/main.o" "$folder/second.o" "$folder/first.o" -o "$folder/reversed"
"$folder/in_order" | tee "$folder/expected"
"$folder/reversed" | diff "$folder/expected" -
if grep -i nan "$folder/expected"; then exit 1; fi

# A unit for a processor that this one may not be: the first unit uses none of its functions.
if [ "$(uname -m)" = x86_64 ]; then
  unit -DUNIT=2 -mavx512f -mfma "$@" -o "$folder/wider.o"
  "$compiler" "$folder/main.o" "$folder/first.o" "$folder/wider.o" -o "$folder/in_order"
  "$compiler" "$folder/main.o" "$folder/wider.o" "$folder/first.o" -o "$folder/reversed"
  "$folder/in_order" first | tee "$folder/expected"
  "$folder/reversed" first | diff "$folder/expected" -
  grep -q "^first: shaped [0-9]" "$folder/expected"
fi
