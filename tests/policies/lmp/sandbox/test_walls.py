"""The second wall alone: hostile code with all of Python, in the program's process without the check of its code."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("RestrictedPython")
pytest.importorskip("shapely")

from policies.lmp.sandbox import Sandbox, SandboxLimits  # noqa: E402
from policies.lmp.sandbox.walls import HOLDS  # noqa: E402
from robot.errors import TongsError  # noqa: E402
from tests.policies.lmp.sandbox.double import RecordingRobot  # noqa: E402

linux = pytest.mark.skipif(sys.platform != "linux", reason="walls of Linux")


class UncheckedSandbox(Sandbox):
    _worker = "tests.policies.lmp.sandbox.unchecked_worker"


@pytest.fixture(scope="module")
def unchecked() -> Iterator[Sandbox]:
    robot = RecordingRobot()
    with UncheckedSandbox({"say": robot.say}, SandboxLimits(seconds=2, memory_mb=96)) as sandbox:
        yield sandbox


def test_the_check_is_really_off(unchecked: Sandbox) -> None:
    outcome = unchecked.run("import sys\nx = ().__class__.__base__.__subclasses__().__len__() + sys.maxsize * 0")
    assert outcome.ok and outcome.variables["x"] > 100  # pyright: ignore[reportOperatorIssue]


FILES = (
    "open({file!r}).read()",
    "open({file!r}, 'w').write('x')",
    "open({folder!r} + '/new', 'w')",
    "os.open({file!r}, os.O_RDONLY)",
    "os.open({folder!r}, os.O_PATH)",
    "os.listdir({folder!r})",
    "os.scandir({folder!r})",
    "os.stat({file!r})",
    "os.remove({file!r})",
    "os.rename({file!r}, {folder!r} + '/other')",
    "os.mkdir({folder!r} + '/new')",
    "os.symlink({file!r}, {folder!r} + '/link')",
    "os.link({file!r}, {folder!r} + '/link')",
    "os.chmod({file!r}, 0o777)",
    "os.truncate({file!r}, 0)",
    "os.readlink('/proc/self/exe')",
    "os.chdir({folder!r})",
    "os.chroot('/')",
    "os.mkfifo({folder!r} + '/pipe')",
    "shutil.rmtree({folder!r})",
    "open('/proc/self/mem', 'r+b')",
    "open('/proc/self/environ').read()",
    "open('/proc/1/environ').read()",
    "open('/dev/tty', 'w')",
    "open('/dev/mem', 'rb')",
    "np.load({file!r}, allow_pickle=True)",
    "np.memmap({file!r}, mode='r')",
    "np.fromfile({file!r})",
    "np.array([1]).tofile({folder!r} + '/new')",
    "os.memfd_create('x')",
    "os.pipe()",
    "os.dup(0)",
    "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
)
NETWORK = (
    "socket.socket()",
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "socket.socket(socket.AF_UNIX)",
    "socket.socketpair()",
    "socket.create_connection(('127.0.0.1', {port}))",
    "urllib.request.urlopen('http://127.0.0.1:{port}')",
    "socket.getaddrinfo('example.org', 80)",
)
PROCESSES = (
    "os.fork()",
    "1 / (os.system('touch {folder}/new') == 0)",
    "os.execv('/bin/sh', ['sh', '-c', 'touch {folder}/new'])",
    "os.posix_spawn('/bin/sh', ['sh', '-c', 'touch {folder}/new'], {{}})",
    "subprocess.run(['touch', {folder!r} + '/new'])",
    "subprocess.Popen('touch {folder}/new', shell=True)",
    "multiprocessing.Process(target=print).start()",
    "threading.Thread(target=print).start()",
    "os.kill(os.getppid(), 9)",
    "os.kill(1, 0)",
    "os.killpg(0, 9)",
    "os.setuid(0)",
    "os.setpriority(os.PRIO_PROCESS, 0, -5)",
    "os.sched_setaffinity(0, {{0}})",
    "os.nice(-5)",
    "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))",
    "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
)
_SYSTEM_CALLS = {  # x86_64
    "openat": (257, -100, "b'/etc/passwd'", 0, 0),
    "open": (2, "b'/etc/passwd'", 0, 0),
    "openat2": (437, -100, "b'/etc/passwd'", "b'\\0' * 24", 24),
    "creat": (85, "b'/tmp/tongs-escape'", 0o644),
    "socket": (41, 2, 1, 0),
    "execve": (59, "b'/bin/sh'", 0, 0),
    "execveat": (322, -100, "b'/bin/sh'", 0, 0, 0),
    "fork": (57,),
    "vfork": (58,),
    "clone": (56, 17, 0, 0, 0, 0),
    "clone3": (435, 0, 0),
    "ptrace": (101, 16, 1, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "pidfd_open": (434, 1, 0),
    "io_uring_setup": (425, 8, 0),
    "bpf": (321, 0, 0, 0),
    "userfaultfd": (323, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "keyctl": (250, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "unshare": (272, 0x10000000),
    "setns": (308, 0, 0),
    "prctl": (157, 38, 1, 0, 0, 0),
    "seccomp": (317, 0, 0, 0),
    "shmget": (29, 0, 4096, 0o1600),
    "memfd_create": (319, "b'x'", 0),
    "ioctl": (16, 1, 0x5412, "b'x'"),
    "mprotect to execute": (10, 0, 4096, 5),
    "mmap to execute": (9, 0, 4096, 7, 34, -1, 0),
    "kill": (62, 1, 0),
    "tgkill": (234, 1, 1, 0),
    "sendmsg": (46, 1, 0, 0),
    "name_to_handle_at": (303, -100, "b'/'", 0, 0, 0),
    "statx": (332, -100, "b'/'", 0, 0, 0),
    "getdents64": (217, 0, 0, 0),
    "reboot": (169, 0, 0, 0, 0),
    "x32 openat": (0x40000101, -100, "b'/etc/passwd'", 0, 0),
}
_PREPARE = (
    "import ctypes, mmap, multiprocessing, os, resource, shutil, socket, subprocess, threading, urllib.request\n"
    "import numpy as np\n"
)


@linux
@pytest.mark.parametrize("code", [*FILES, *NETWORK, *PROCESSES])
def test_nothing_outside_can_be_reached(code: str, unchecked: Sandbox, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    os.chmod(secret, 0o666)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        code = code.format(file=str(secret), folder=str(tmp_path), port=server.getsockname()[1])
        outcome = unchecked.run(f"{_PREPARE}got = {code}\n")
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not outcome.ok, outcome.variables.get("got")
    refusals = (
        "not permitted",
        "denied",
        "Too many open",
        "can't start",
        "not allowed",
        "division by zero",
        "resolution",
    )
    assert any(word in (outcome.error or "") for word in refusals), outcome.error
    assert secret.read_text() == "the secret" and [entry.name for entry in tmp_path.iterdir()] == ["secret"]


@linux
@pytest.mark.skipif(os.uname().machine != "x86_64" if hasattr(os, "uname") else True, reason="numbers of x86_64")
@pytest.mark.parametrize("name", _SYSTEM_CALLS)
def test_system_calls_are_refused(name: str, unchecked: Sandbox) -> None:
    arguments = ", ".join(str(argument) for argument in _SYSTEM_CALLS[name])
    outcome = unchecked.run(
        "import ctypes\nlibrary = ctypes.CDLL(None, use_errno=True)\nlibrary.syscall.restype = ctypes.c_long\n"
        f"result = library.syscall({arguments})\nnumber = ctypes.get_errno()\n"
    )
    if outcome.ok:
        assert outcome.variables["result"] == -1 and outcome.variables["number"] == 1  # EPERM
    else:  # a foreign ABI is answered by death
        assert name == "x32 openat" and outcome.reason == "crashed"


@linux
@pytest.mark.parametrize(
    ("wall", "attempt", "error"),
    [
        ("_enter_landlock()", "open('/etc/passwd')", "PermissionError"),
        ("_enter_landlock()", "os.listdir('/')", "PermissionError"),
        ("_enter_landlock()", "socket.create_connection(('127.0.0.1', 1))", "PermissionError"),
        ("_enter_landlock()", "os.kill(os.getppid(), 0)", "PermissionError"),
        ("_enter_namespaces()", "socket.create_connection(('127.0.0.1', {port}))", "OSError"),
        ("_set_limits(SandboxLimits())", "open('/etc/passwd')", "OSError"),
        ("_set_limits(SandboxLimits())", "socket.socket()", "OSError"),
        ("_drop_privileges(); _set_limits(SandboxLimits())", "os.fork()", "BlockingIOError"),
        ("_limit_memory(SandboxLimits(memory_mb=64), _mapped())", "bytearray(2**27)", "MemoryError"),
        ("_enter_seccomp()", "open('/etc/passwd')", "PermissionError"),
        ("_enter_seccomp()", "os.fork()", "PermissionError"),
        ("_enter_seccomp()", "socket.socket()", "PermissionError"),
        ("_enter_seccomp()", "mmap.mmap(-1, 4096, prot=7)", "PermissionError"),
    ],
)
def test_each_wall_by_itself(wall: str, attempt: str, error: str, unchecked: Sandbox) -> None:
    name = wall.split("(")[0].removeprefix("_enter_")
    if unchecked.walls.get(name, HOLDS) != HOLDS:
        pytest.skip(f"{name}: {unchecked.walls[name]}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = (
            "import mmap, os, resource, socket\nimport policies.lmp.sandbox.walls as walls\n"
            f"globals().update(vars(walls))\n{wall}\n"
            f"try:\n    {attempt.format(port=server.getsockname()[1])}\n"
            f"except {error}:\n    os._exit(42)\n"
        )
        ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[4], check=False)
    assert ended.returncode == 42


@linux
def test_nothing_of_ours_is_in_the_process(unchecked: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with UncheckedSandbox({}) as fresh:
        outcome = fresh.run("import os\nnames = list(os.environ)\nuser = os.getpid() and True")
    assert outcome.ok and "OPENAI_API_KEY" not in outcome.variables["names"]  # pyright: ignore[reportOperatorIssue]


@linux
def test_memory_and_time_hold_without_the_check(unchecked: Sandbox) -> None:
    assert unchecked.run("x = bytearray(10**10)").reason == "memory"
    assert (
        unchecked.run("while True:\n    try:\n        while True: pass\n    except BaseException: pass").reason
        == "time"
    )


@linux
@pytest.mark.parametrize(
    "code",
    [
        "os.write(4, b'garbage')\nwhile True: pass",
        "os.write(4, b'\\xff\\xff\\xff\\xff')\nwhile True: pass",
        "os.write(4, b'\\x01\\0\\0\\0\\xc1')\nwhile True: pass",
        "os.close(4)\nwhile True: pass",
        "os._exit(3)",
        "import ctypes\nctypes.string_at(0)",
        "import sys\nsys.exit()\n",
        "send({'type': 'call', 'run': 10**9, 'name': 'say', 'arguments': ['x'], 'named': {}})\nwhile True: pass",
        "send({'type': 'call', 'run': RUN, 'name': 'stop', 'arguments': [], 'named': {}})\nwhile True: pass",
        "send({'type': 'call', 'run': RUN, 'name': 5, 'arguments': [], 'named': {}})\nwhile True: pass",
        "send({'type': 'done', 'run': RUN, 'reason': 'finished'})\nwhile True: pass",
        "send({'type': 'done', 'run': RUN + 1, 'reason': 'finished'})\nwhile True: pass",
        "send({'type': 'done', 'run': RUN, 'reason': 'won', 'error': None, 'trace': '', 'printed': '',"
        " 'variables': {}, 'functions': {}})\nwhile True: pass",
        "send({'type': 'nonsense'})\nwhile True: pass",
        "send([1, 2])\nwhile True: pass",
    ],
)
def test_a_process_that_lies_is_ended(code: str) -> None:
    robot = RecordingRobot()
    prelude = (
        "import os, struct, msgpack\n"
        "def send(message):\n    frame = msgpack.packb(message)\n"
        "    os.write(4, struct.pack('<I', len(frame)) + frame)\n"
    )
    with UncheckedSandbox({"say": robot.say}, SandboxLimits(seconds=1)) as sandbox:
        assert sandbox.run("x = 5").ok
        outcome = sandbox.run(prelude + code.replace("RUN", "2"))
        assert outcome.reason in ("crashed", "error"), outcome
        assert outcome.error and robot.said == []
        again = sandbox.run("say('x is ' + str(x))")
        assert again.ok and robot.said == ["x is 5"]


@linux
def test_forged_calls_are_checked_like_any_other() -> None:
    robot = RecordingRobot()
    code = (
        "import os, struct, msgpack\n"
        "for arguments in ([1], [], ['x' * 10**6], [{'a': 1}], ['honest']):\n"
        "    frame = msgpack.packb({'type': 'call', 'run': 1, 'name': 'say', 'arguments': arguments, 'named': {}})\n"
        "    os.write(4, struct.pack('<I', len(frame)) + frame)\n"
        "    size, = struct.unpack('<I', os.read(3, 4))\n"
        "    os.read(3, size)\n"
    )
    with UncheckedSandbox({"say": robot.say}) as sandbox:
        outcome = sandbox.run(code)
        assert robot.said == ["honest"]
        assert [call.error is None for call in outcome.calls] == [False, False, False, False, True]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox({}) as sandbox:
        walls = dict(sandbox.walls)
    assert set(walls) == {"namespaces", "privileges", "landlock", "limits", "memory", "seccomp"}
    missing = [name for name, state in walls.items() if state != HOLDS]
    if sys.platform == "linux":
        assert "limits" not in missing and "memory" not in missing
    with Sandbox({}, SandboxLimits(every_wall=True)) as strict:
        if missing:
            with pytest.raises(TongsError, match=missing[0]):
                strict.run("pass")
        else:
            assert strict.run("pass").ok
