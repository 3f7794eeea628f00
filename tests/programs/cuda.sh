#!/usr/bin/env bash
# cuda.sh NVCC INCLUDE EIGEN: compiles the scalar functors in a kernel, and compares them with the CPU if there is a GPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
# The warnings are of Eigen's own annotations.
"$1" -std=c++20 --expt-relaxed-constexpr -diag-suppress 20012 -I"$2" -I"$3" "$(dirname "$0")/cuda.cu" -o "$folder/cuda"
status=0
"$folder/cuda" || status=$?
[ $status -eq 77 ] || exit $status  # 77: no GPU, and the program says so
