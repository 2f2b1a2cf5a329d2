"""The walls that the operating system puts around a program's process, and which of them this machine has.

They are entered from inside, after everything is imported (`pyseccomp` too, which looks for its library with other
programs), and cannot be left again. Each is tried; what is missing
is reported with its reason, because a missing wall is a fact about the machine that whoever owns the robot has to
know. The order matters: seccomp comes last since it forbids what the others need.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable

from policies.lmp.sandbox.limits import SandboxLimits

HOLDS = "holds"
"""What `enter` reports for a wall that stands."""

_NOBODY = 65534
_SYSTEM_CALLS = (
    # talk to us over the open pipes, close them, end
    *("read", "write", "close", "exit", "exit_group"),
    # memory (mmap and mprotect are added with a condition)
    *("brk", "munmap", "mremap", "madvise"),
    # what the interpreter does between two lines
    *("futex", "futex_time64", "sched_yield", "restart_syscall", "rseq", "membarrier", "getrandom", "getrusage"),
    *("rt_sigreturn", "rt_sigprocmask", "rt_sigaction", "sigaltstack", "setitimer", "getitimer"),
    *("clock_gettime", "clock_gettime64", "clock_nanosleep", "nanosleep", "gettimeofday", "time"),
    *("getpid", "gettid", "getppid"),
)


def enter(limits: SandboxLimits) -> dict[str, str]:
    """Put up every wall that this machine has, around this process, for good.

    Returns:
        For each wall `HOLDS`, or why it does not stand.
    """
    mapped = _mapped()
    walls: dict[str, Callable[[], None]] = {
        "namespaces": _enter_namespaces,
        "privileges": _drop_privileges,
        "landlock": _enter_landlock,
        "limits": lambda: _set_limits(limits),
        "memory": lambda: _limit_memory(limits, mapped),
        "seccomp": _enter_seccomp,
    }
    report = {}
    for name, put_up in walls.items():
        try:
            put_up()
            report[name] = HOLDS
        except (OSError, ImportError, RuntimeError, ValueError, AttributeError) as error:
            report[name] = str(error) or type(error).__name__
    return report


def _only_on_linux() -> None:
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has none")


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {errno.errorcode.get(number, number)}, {os.strerror(number)}")


def _drop_privileges() -> None:
    """Root becomes nobody; anybody else already is one."""
    if sys.platform == "win32":
        raise OSError("Windows has no user without rights to change to")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def _enter_namespaces() -> None:
    """A network and an IPC namespace with nothing in them (namespaces(7)), for others than root in a user namespace."""
    _only_on_linux()
    new_user, new_network, new_ipc = 0x10000000, 0x40000000, 0x08000000
    if _library().unshare(new_network | new_ipc | (new_user if os.geteuid() else 0)):
        raise _failed("unshare")


def _enter_landlock() -> None:
    """No rule at all under a rule set that handles everything the kernel knows: no path, port, or signal (landlock(7)).

    Landlock has three system calls and no C library wrapper; their numbers are the same on every architecture.
    """
    _only_on_linux()
    create_ruleset, restrict_self, set_no_new_privileges = 444, 446, 38
    library = _library()
    version = library.syscall(create_ruleset, None, 0, 1)
    if version < 1:
        raise _failed("landlock_create_ruleset")
    file_rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)  # how many access rights this version knows
    attributes = [(1 << file_rights) - 1]
    if version >= 4:
        attributes.append(0b11)  # bind and connect by TCP
    if version >= 6:
        attributes.append(0b11)  # abstract sockets and signals to the outside
    ruleset = (ctypes.c_uint64 * len(attributes))(*attributes)
    descriptor = library.syscall(create_ruleset, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    if descriptor < 0:
        raise _failed("landlock_create_ruleset")
    if library.prctl(set_no_new_privileges, 1, 0, 0, 0):
        raise _failed("prctl")
    if library.syscall(restrict_self, descriptor, 0):
        raise _failed("landlock_restrict_self")
    os.close(descriptor)


def _set_limits(limits: SandboxLimits) -> None:
    """No new file descriptor, process, or file content; no core dump; CPU time (getrlimit(2))."""
    import resource

    for limit, value in (
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.process_seconds),
    ):
        resource.setrlimit(limit, (value, value))


def _mapped() -> int:
    """Bytes of address space in use."""
    if sys.platform != "linux":
        return 0
    import resource

    with open("/proc/self/statm") as file:
        return resource.getpagesize() * int(file.read().split()[0])


def _limit_memory(limits: SandboxLimits, mapped: int) -> None:
    """So much address space on top of what was mapped before (RLIMIT_AS, which macOS does not enforce)."""
    _only_on_linux()
    import resource

    most = mapped + (limits.memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _enter_seccomp() -> None:
    """System calls by an allow-list (seccomp(2)); all others fail with EPERM, and no memory becomes executable."""
    _only_on_linux()
    import pyseccomp

    refuse = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in _SYSTEM_CALLS:
        # a negative number: not on this architecture, or newer than this libseccomp
        if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0:
            refuse.add_rule(pyseccomp.ALLOW, name)
    executable = 4
    for name in ("mmap", "mprotect"):
        refuse.add_rule(pyseccomp.ALLOW, name, pyseccomp.Arg(2, pyseccomp.MASKED_EQ, executable, 0))
    refuse.load()
