# shellcheck shell=bash
# Sourced by the run scripts, in the project's root: installs what is missing, configures and builds. It installs Debian's and Ubuntu's
# packages with apt-get; on other systems it says what is needed.

# What examples/libtorch needs.
# shellcheck disable=SC2034  # used by the scripts that source this
libtorch_packages="libtorch-dev libcli11-dev zlib1g-dev libopenblas0-pthread gnuplot-nox"

say() { printf '== %s\n' "$*" >&2; }

# install_packages PACKAGE...: with apt-get, as root or through sudo.
install_packages() {
  if ! command -v apt-get >/dev/null; then
    say "missing, and there is no apt-get to install it: $*"
    say "infalign needs a C++20 compiler, CMake 3.20 or newer, make or Ninja and Eigen 3.4 or newer; its examples nlohmann-json; its tests Catch2 2.13 or 3"
    exit 1
  fi
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { say "root or sudo is needed to install: $*"; exit 1; }
    root=(sudo)
  fi
  say "installing $*"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# The package of a compiler: g++-12 for g++-12, clang-19 for clang++-19, g++ for any other name.
compiler_package() {
  case "$(basename "$1")" in
    clang++*) basename "$1" | sed 's/clang++/clang/' ;;
    g++*) basename "$1" ;;
    *) echo g++ ;;
  esac
}

# Clang and its sanitizers, which are a package of their own.
install_clang() {
  command -v clang++ >/dev/null || install_packages clang
  local version
  version=$(clang++ -dumpversion)
  if ! find "$(clang++ -print-resource-dir)" -name 'libclang_rt.asan*' 2>/dev/null | grep -q .; then install_packages "libclang-rt-${version%%.*}-dev"; fi
}

# build FOLDER "PACKAGES" CMAKE_OPTION...: configures and builds in FOLDER. PACKAGES contain the libraries. They are installed only if CMake does
# not find the libraries.
build() {
  local folder=$1 libraries=$2 missing=()
  shift 2
  command -v "${CXX:-c++}" >/dev/null || missing+=("$(compiler_package "${CXX:-c++}")")
  command -v cmake >/dev/null || missing+=(cmake)
  command -v make >/dev/null || command -v ninja >/dev/null || missing+=(make)
  [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"

  local generator=()  # if empty, an error in the bash of macOS unless it is expanded as below
  command -v make >/dev/null || generator=(-G Ninja)
  mkdir -p "$folder"
  # -O2, which most programs are built with, takes a sixth less time than CMake's -O3. The campaign `flags` has -O3.
  local configure=(cmake -S . -B "$folder" ${generator[@]+"${generator[@]}"} -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG" "$@")
  if ! "${configure[@]}" >"$folder/configure.log" 2>&1; then
    # shellcheck disable=SC2086  # a list of words
    install_packages $libraries
    "${configure[@]}" >"$folder/configure.log" 2>&1 || { cat "$folder/configure.log" >&2; exit 1; }
  fi
  cmake --build "$folder" --parallel "$(nproc 2>/dev/null || echo 2)" >"$folder/build.log" 2>&1 || { cat "$folder/build.log" >&2; exit 1; }
}
