#!/usr/bin/env bash
# Writes the library as one header: one_header.sh INCLUDE_FOLDER [HEADER...] >infalign.hpp. Without HEADER, infalign/infalign.hpp; others are
# infalign/adapters/npy.hpp, infalign/testing.hpp, … Each header of the library is written once, in the place of its first include;
# detail/begin.hpp and detail/end.hpp are written each time, because they undo each other.
set -euo pipefail
folder=$1
shift
[ $# -gt 0 ] || set -- infalign/infalign.hpp
awk -v folder="$folder" '
  # Writes a header, and what it includes of the library before it.
  function write(header, each_time, line, inner) {
    each_time = header ~ /detail\/(begin|end)\.hpp$/
    if (header in written && !each_time) return
    written[header] = 1
    while ((status[header] = (getline line < (folder "/" header))) > 0) {
      if (line ~ /^#include <infalign\//) {
        inner = line
        gsub(/^#include <|>.*/, "", inner)
        write(inner)
      } else if (line !~ /^#pragma once/ && line !~ /^\/\/ (SPDX|Copyright)/ && !(each_time && line ~ /^(\/\/.*)?$/)) {
        print line
      }
    }
    if (status[header] < 0) { print folder "/" header ": cannot be read" > "/dev/stderr"; failed = 1; exit 1 }
    close(folder "/" header)
  }
  BEGIN {
    print "// SPDX-License-Identifier: MIT"
    print "// Copyright (c) 2026 the infalign authors"
    print "#pragma once"
    for (i = 1; i < ARGC; ++i) write(ARGV[i])
    exit failed
  }' "$@"
