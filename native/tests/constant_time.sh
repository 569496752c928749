#!/bin/sh
# constant_time.sh BUILD TOOLS: runs constant_time under memcheck, which reports every branch and every address that depends on
# secrets, errors or messages. Both planted leaks must be reported too, to show that the check works. valgrind is the installed one,
# or the one in the folder TOOLS. memcheck does not know AVX-512: tests/native/test_symbols.py looks at that kernel's instructions.
set -e
build=$1 tools=$2
if ! command -v valgrind >/dev/null; then
  export VALGRIND_LIB="$tools/usr/libexec/valgrind"
  PATH="$PATH:$tools/usr/bin"
fi
check() { valgrind --quiet --error-exitcode=9 "$build/tests/constant_time" "$@"; }
for kernel in portable avx2; do
  "$build/tests/runnable_kernels" | grep -qx "$kernel" || continue
  export HECOMPILE_KERNEL=$kernel
  check
  for leak in branch index; do
    code=0
    check --leak "$leak" >/dev/null 2>&1 || code=$?
    if [ $code -ne 9 ]; then
      echo "kernel $kernel: memcheck misses the planted $leak"
      exit 1
    fi
  done
  echo "kernel $kernel: no branch and no address depends on secrets, and both planted leaks are found"
done
