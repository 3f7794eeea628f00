#!/usr/bin/env bash
# A program compiles with the flags of pkg-config alone, also after the installed folder was moved.
#   pkg_config.sh STAGE PROGRAM.cpp COMPILER
set -euo pipefail
stage=$1 program=$2 compiler=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -R "$stage" "$folder/moved"
export PKG_CONFIG_PATH="$folder/moved/share/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
flags=$(pkg-config --cflags infalign)
case $flags in *"$stage"*) echo "the flags name the folder before: $flags"; exit 1 ;; esac
# shellcheck disable=SC2086  # a list of words
"$compiler" -std=c++20 -O0 $flags "$program" -o "$folder/program"
"$folder/program"
[ -n "$(pkg-config --modversion infalign)" ]
