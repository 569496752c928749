#!/bin/sh
# aarch64.sh BUILD TOOLS: builds the core for aarch64 in the folder BUILD and runs its tests in an emulator. If the compiler or the
# emulator is not installed, Debian's packages are unpacked into the folder TOOLS. If there are none either, the script says so and
# exits with 0.
set -e
build=$1 tools=$2
PATH="$PATH:$tools/usr/bin"
# Programs that are unpacked and not installed find their libraries by this path only.
export LD_LIBRARY_PATH="$tools/usr/lib/$(uname -m)-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
emulator() { command -v qemu-aarch64-static || command -v qemu-aarch64; }
tools_exist() { command -v aarch64-linux-gnu-g++ && emulator; }
if ! tools_exist >/dev/null; then
  mkdir -p "$tools"
  (
    cd "$tools"
    names() { apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
      g++-aarch64-linux-gnu qemu-user-static | grep -E '^[a-z]' | grep -E 'aarch64|arm64-cross|^qemu-user-static$'; }
    apt-get download $(names) || { apt-get update && apt-get download $(names); }
    for package in *.deb; do dpkg -x "$package" . && rm "$package"; done
  ) >/dev/null 2>&1 || true
fi
if ! tools_exist >/dev/null; then
  echo "The core was not tried for aarch64: there is no compiler for it (Debian: g++-aarch64-linux-gnu, qemu-user-static)."
  exit 0
fi
cmake -G Ninja -S "$(dirname "$0")/.." -B "$build" -DHECOMPILE_TESTS=ON -DHECOMPILE_PYTHON=OFF -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER="$(command -v aarch64-linux-gnu-g++)" \
  -DCMAKE_EXE_LINKER_FLAGS=-static -DCMAKE_CROSSCOMPILING_EMULATOR="$(emulator)" >/dev/null
cmake --build "$build"
HECOMPILE_KERNEL=portable HECOMPILE_TEST_CASES=3 ctest --test-dir "$build" --output-on-failure -j 2
