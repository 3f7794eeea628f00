#!/usr/bin/env bash
# same_output.sh FILE PROGRAM: fails unless PROGRAM prints what FILE holds.
diff <("$2") "$1"
