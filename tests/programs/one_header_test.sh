#!/usr/bin/env bash
# The library as one header, in a folder of its own, compiles with warnings as errors, twice in one file, and its program prints what the README
# says.
#   one_header_test.sh SOURCE PROGRAM.cpp OUTPUT COMPILER FLAG...
set -euo pipefail
source=$1 program=$2 output=$3
shift 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/infalign"
bash "$source/tests/programs/one_header.sh" "$source/include" >"$folder/infalign/infalign.hpp"
if grep -q '#include <infalign/' "$folder/infalign/infalign.hpp"; then
  echo "the header includes another one"
  exit 1
fi
if bash "$source/tests/programs/one_header.sh" "$folder" infalign/none.hpp >/dev/null 2>&1; then
  echo "a header that does not exist is no error"
  exit 1
fi
{ echo '#include <infalign/infalign.hpp>'; cat "$program"; } >"$folder/program.cpp"
"$@" -std=c++20 -O1 -Wall -Wextra -Wpedantic -Werror -I "$folder" "$folder/program.cpp" -o "$folder/program"
diff <("$folder/program") "$output"
