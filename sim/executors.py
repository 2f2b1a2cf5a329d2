"""Where episodes run: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from robot.errors import TongsError, unknown

if TYPE_CHECKING:
    import ray

EXECUTORS = ("local", "ray")
LOCAL = "local"
_TRIES_AFTER_LOSS = 3
"""A job that takes its process down every time must not go round for ever."""
_DECISIVE = ("mujoco", "pybullet", "numpy", "scipy", "mink", "daqp", "torch", "torchvision", "transformers")


class Executor(Protocol):
    """Worker processes. Each makes one worker, an object of the caller's, when its first job comes, and keeps it.

    A context; leaving it drops the jobs that have not started.

    Attributes:
        slots: how many jobs run at the same time.
    """

    slots: int

    def submit(self, method: str, jobs: Sequence[tuple[Any, ...]]) -> list[Future[Any]]:
        """Call a method of the workers with the arguments of each job.

        A future raises what the method raised, or making the worker did; `BrokenExecutor` if its process was lost.
        """
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(self, *exception: object) -> None: ...


def require_executor(name: str) -> None:
    """Raise a TongsError unless the executor is known and installed."""
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if name == "ray" and find_spec("ray") is None:
        raise TongsError("executor=ray needs Ray, which is not installed; run: pip install 'tongs[ray]'")


def make_executor(name: str, make: Callable[[], Any], processes: int) -> Executor:
    """An executor whose workers are what `make` returns there; `make` must be picklable.

    Args:
        name: `local`, or `ray` for the cluster that RAY_ADDRESS names, or else the one that runs on this machine.
        processes: how many to start on this machine; a Ray cluster runs a job on each of its processor cores instead.

    Raises:
        TongsError: there is no executor of that name, it is not installed, or no cluster answers.
    """
    require_executor(name)
    return RayExecutor(make) if name == "ray" else LocalExecutor(make, processes)


# --- this machine


class LocalExecutor:
    """Processes of this machine, one thread each; they end with the process that started them, however that ends.

    Results come back as files, and only their names through the pool's pipe: what a pipe does not take at once is cut
    in two where a process is killed while it writes, and the pool would wait for the rest for ever.
    """

    def __init__(self, make: Callable[[], Any], processes: int) -> None:
        self.slots = processes
        context = multiprocessing.get_context("spawn")
        self._results = TemporaryDirectory(prefix="tongs-")
        self._pool = ProcessPoolExecutor(processes, context, initializer=_initialise, initargs=(make,))

    def submit(self, method: str, jobs: Sequence[tuple[Any, ...]]) -> list[Future[Any]]:
        with _child_settings():
            return [_read(self._pool.submit(_perform, method, job, self._results.name)) for job in jobs]

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._results.cleanup()


def _read(written: Future[str]) -> Future[Any]:
    """The result in a file, in place of the file's name."""
    future: Future[Any] = Future()

    def ended(source: Future[str]) -> None:
        if source.cancelled():
            future.cancel()
            future.set_running_or_notify_cancel()
        elif (error := source.exception()) is not None:
            future.set_exception(error)
        else:
            file = Path(source.result())
            try:
                future.set_result(pickle.loads(file.read_bytes()))
            except OSError as error:
                future.set_exception(error)
            file.unlink(missing_ok=True)

    written.add_done_callback(ended)
    return future


_make: Callable[[], Any] | None = None
_worker: Any = None


def _initialise(make: Callable[[], Any]) -> None:
    """Called once in each new process; the worker is made by the first job, so that its errors have a way back."""
    global _make
    _make = make
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent closes nothing; its workers would wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _perform(method: str, job: tuple[Any, ...], results: str) -> str:
    """The name of the file in the folder `results` that holds the result."""
    global _worker
    if _worker is None:
        assert _make is not None
        _worker = _make()
    result = pickle.dumps(getattr(_worker, method)(*job))
    with NamedTemporaryFile(dir=results, delete=False) as file:
        file.write(result)
    return file.name


@contextmanager
def _child_settings() -> Iterator[None]:
    """Processes started inside use one thread each and leave Ctrl-C to their parent, from the very beginning."""
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in threads.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- a Ray cluster


class RayExecutor:
    """Processes on the nodes of a Ray cluster, one job per core. Jobs of a node or a process that is lost run again
    elsewhere. Every node needs the same Tongs and the same packages; what the workers are made from is sent to them.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        import ray

        self._connected = not ray.is_initialized()
        if self._connected:
            address = os.environ.get("RAY_ADDRESS") or "auto"
            try:
                _require_open(address)
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
            except (OSError, ValueError) as error:
                raise TongsError(
                    f"no Ray cluster answers {'on this machine' if address == 'auto' else f'at {address}'}; "
                    "start one here with: ray start --head, or name one as RAY_ADDRESS=host:port"
                ) from error
        self.slots = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._make = ray.put(make)
        self._installation = installation()
        self._perform = ray.remote(_perform_on_node).options(num_cpus=1, max_retries=_TRIES_AFTER_LOSS)
        self._running: set[ray.ObjectRef[bytes]] = set()

    def submit(self, method: str, jobs: Sequence[tuple[Any, ...]]) -> list[Future[Any]]:
        # inside a list the reference travels as such, and only a process that has no worker yet fetches what it means
        return [self._follow(self._perform.remote([self._make], self._installation, method, job)) for job in jobs]

    def _follow(self, reference: ray.ObjectRef[bytes]) -> Future[Any]:
        future: Future[Any] = Future()

        def ended(source: Future[bytes]) -> None:
            self._running.discard(reference)
            error = source.exception()
            if error is None:
                future.set_result(pickle.loads(source.result()))
            else:
                future.set_exception(_plain(error))

        self._running.add(reference)
        reference.future().add_done_callback(ended)
        return future

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        import ray

        for reference in tuple(self._running):
            ray.cancel(reference, force=True)
        if self._connected:
            ray.shutdown()


def _require_open(address: str) -> None:
    """Raise unless somebody listens at `host:port`; Ray itself would go on trying for minutes."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=10.0).close()


_worker_of = ""


def _perform_on_node(make: list[ray.ObjectRef[Any]], wanted: Mapping[str, str], method: str, job: tuple) -> bytes:
    """The result as bytes: arrays themselves would stay in Ray's shared memory, read-only, as long as they are used."""
    global _worker, _worker_of
    import ray

    if _worker_of != make[0].hex():
        _require_same(wanted)
        _worker, _worker_of = ray.get(make[0])(), make[0].hex()
    return pickle.dumps(getattr(_worker, method)(*job))


def _plain(error: BaseException) -> BaseException:
    """What a worker raised, without Ray around it."""
    from ray.exceptions import RayError, RayTaskError

    if isinstance(error, RayTaskError):
        return _plain(error.cause)
    if isinstance(error, RayError):
        return BrokenExecutor(str(error).strip().splitlines()[0])
    return error


def installation() -> dict[str, str]:
    """What has to be the same on every node for the same result: the versions of packages and the source itself."""
    versions = {}
    for name in _DECISIVE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    root, digest = Path(__file__).resolve().parents[1], hashlib.sha256()
    for room in ("robot", "sim", "data", "policies", "train", "eval"):
        for file in sorted((root / room).rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return versions | {"Tongs": digest.hexdigest()[:12]}


def _require_same(wanted: Mapping[str, str]) -> None:
    differing = [f"{name} {here}, not {wanted[name]}" for name, here in installation().items() if here != wanted[name]]
    if differing:
        raise TongsError(f"the Ray node {socket.gethostname()} has {'; '.join(differing)}; install the same on all")
