#!/usr/bin/env bash
# same_output.sh FILE PROGRAM: fails unless PROGRAM prints the contents of FILE.
diff <("$2") "$1"
