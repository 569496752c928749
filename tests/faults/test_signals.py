"""Commands that a signal ends: nothing left behind, one line, and the exit status that shells expect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hecompile.cli.interruptions import signals_as_exits

SLOW = """
import sys, time
from pathlib import Path
from hecompile.cli.running import run
from hecompile.artifact_writing import write_folder

def fill(folder):
    (folder / "half").write_text("written")
    print("filling", flush=True)
    time.sleep(60)

run(lambda: write_folder(Path(sys.argv[1]) / "new" / "artifact", fill))
"""
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

LONGEST_S = 30  # after which a signal counts as lost


@pytest.mark.promise("whole-files")
@pytest.mark.parametrize("number", STATUS)
def test_a_command_that_a_signal_ends_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", SLOW, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "filling\n"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == STATUS[number]
    assert errors == f"stopped by {number.name}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_exits():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("first", STATUS)
def test_a_second_signal_does_not_disturb_the_clearing_up(first: signal.Signals) -> None:
    before, cleared = {number: signal.getsignal(number) for number in STATUS}, list[str]()

    def stopped() -> None:
        with signals_as_exits():
            try:
                os.kill(os.getpid(), first)
                time.sleep(LONGEST_S)  # another thread of this process may get it: Python's handler runs a little later
            finally:
                for number in STATUS:
                    os.kill(os.getpid(), number)
                cleared.append("all")

    with pytest.raises(KeyboardInterrupt if first == signal.SIGINT else SystemExit) as end:
        stopped()
    assert first == signal.SIGINT or end.value.args == (STATUS[first],)
    assert cleared == ["all"]
    assert {number: signal.getsignal(number) for number in STATUS} == before


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["raise SystemExit(2)", "raise ValueError('broken')"])
def test_a_failure_after_a_circuit_has_run_is_told(ending: str) -> None:
    """Concrete's library alone would end the process with 0."""
    code = f"""
from concrete import fhe
from hecompile.cli.interruptions import own_exit_status
with own_exit_status():
    circuit = fhe.Compiler(lambda x: x + 1, {{"x": "encrypted"}}).compile([0, 3])
    assert circuit.encrypt_run_decrypt(2) == 3
    {ending}
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == (2 if "SystemExit" in ending else 1)
    assert ("broken" in process.stderr) == ("broken" in ending)
