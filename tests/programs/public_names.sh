#!/usr/bin/env bash
# Compares the public names of the headers, as Doxygen finds them, with a list. A name that is gone or new is an error: a release renames
# nothing by accident. `public_names.sh BUILD_FOLDER LIST update` writes the list.
set -euo pipefail
build=$1 list=$2
rm -rf "$build/xml"  # Doxygen leaves the files of names that are gone
cmake --build "$build" --target infalign_docs >/dev/null
# Doxygen's XML has a file for each type and namespace, with <memberdef prot="public" ...> and then its <name>.
names() {
  awk -F '[<>]' '
    /<compounddef / { public = / prot="public"/ || /kind="(namespace|concept)"/ }
    /<compoundname>/ { scope = $3; sub(/&lt;.*/, "", scope); if (public && scope != "infalign") print scope }
    /<memberdef |<enumvalue / { member = public && / prot="public"/ }
    /<name>/ && member { print scope "::" $3; member = 0 }' "$build"/xml/{struct,class,concept,namespace}infalign*.xml |
    grep -v -e '::~' -e '::operator' -e detail | LC_ALL=C sort -u
}
if [ "${3:-}" = update ]; then names >"$list"; else diff "$list" <(names) || { echo "tests/public_names.txt differs: < is gone, > is new"; exit 1; }; fi
