"""nginx on a port of this machine, from the system or from where the Makefile unpacks it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CRAWL: Final = Path(__file__).parents[1] / ".cache/crawl"  # the Makefile's target of that name
_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", f"{CRAWL}/usr/sbin")
_STARTS_S: Final = 10  # chosen: a hundred times what it takes
# One process: a worker would run as another user, who may not read the folders. Chosen: three
# times the connections that 200 hosts, asked by six each, leave open.
_CONFIG: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    types {{
        text/html html; text/css css; text/javascript js;
        image/png png; image/gif gif; image/jpeg jpg jpeg; image/svg+xml svg;
    }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ {listen} root {root}; }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running server.

    Attributes:
        port: on each of its addresses.
        pid: of its only process.
    """

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Of the served folder on 127.0.0.1, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"


def program() -> str | None:
    """Path of nginx; null where there is none."""
    return shutil.which("nginx") or shutil.which("nginx", path=":".join(_FOLDERS))


@contextmanager
def serving(root: Path, folder: Path, more: Sequence[str] = ()) -> Iterator[Nginx]:
    """A folder on the web for as long as the context lasts.

    Args:
        root: what is served.
        folder: where nginx keeps its own; made if it is not there.
        more: addresses of this machine to listen on, beside 127.0.0.1.

    Raises:
        RuntimeError: nginx does not start; with what it says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "nginx.conf"
    listen = " ".join(f"listen {address}:{port};" for address in ("127.0.0.1", *more))
    config.write_text(_CONFIG.format(folder=folder, listen=listen, root=root))
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [program() or "nginx", "-e", "stderr", "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        _await(process, port, folder)
        yield Nginx(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _await(process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    deadline = time.monotonic() + _STARTS_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nginx does not start: {(folder / 'stderr').read_text()}")
