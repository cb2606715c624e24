"""Compile the kernels on the machine that runs them, once."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from .model_errors import ModelError

SOURCE = Path(__file__).parent / "native" / "kernels.c"

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math")
LINK_FLAGS = ("-shared", "-fPIC", "-pthread")
COMPILERS = ("cc", "gcc", "clang")
COMPILE_WITHIN_S = 120.0

logger = logging.getLogger(__name__)


class NoKernels(ModelError):
    """They cannot be had here; the text says why."""


def built(
    cache_dir: Path,
    source: Path = SOURCE,
    compiler: str | None = None,
    scratch: Path | None = None,
) -> Path:
    """The shared library that ``source`` compiles to on this processor.

    Made where the cache has none for the same source, headers beside it, compiler, flags and
    processor; it appears in one piece, whoever else builds it at the moment. Where the cache cannot
    be used, it is made in a folder under ``scratch`` (the system's own place for such where None)
    that is deleted at exit, and one line in the log says so: seconds at each start cost less than
    computing without it. ``compiler`` is a command, found where None.

    Raises:
        NoKernels: there is no compiler, it fails, or there is no place for what it makes.
    """
    command = shlex.split(compiler) if compiler else [_found_compiler()]
    library = cache_dir / "kernels" / f"{_key(source, command)}.so"
    try:
        if not library.is_file():
            _build(source, command, library)
        return library
    except OSError as error:
        logger.warning(
            "native kernels are compiled at every start: the cache folder %s cannot be used: %s",
            library.parent,
            error,
        )
    return _built_for_now(source, command, scratch)


def _built_for_now(source: Path, command: list[str], scratch: Path | None) -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix="microserve-", dir=scratch))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        library = folder / "kernels.so"
        _build(source, command, library)
    except OSError as error:
        raise NoKernels(f"there is no place to compile them to: {error}") from error
    return library


def _found_compiler() -> str:
    for name in COMPILERS:
        if path := shutil.which(name):
            return path
    raise NoKernels(f"no C compiler ({', '.join(COMPILERS)}) is installed")


def _key(source: Path, command: list[str]) -> str:
    files = [source, *sorted(source.parent.glob("*.h"))]
    texts = [(path.name, path.read_bytes()) for path in files]
    parts = (texts, FLAGS, LINK_FLAGS, command, _version(command), _processor())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _version(command: list[str]) -> bytes:
    return _run([*command, "--version"])


def _processor() -> str:
    """What ``-march=native`` looks at, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.split("\t")[0].strip() in wanted)


def _build(source: Path, command: list[str], library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        _run([*command, *FLAGS, *LINK_FLAGS, str(source), "-o", str(made), "-lm"])
        os.replace(made, library)


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMPILE_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoKernels(f"the compiler {command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise NoKernels(f"{command[0]} fails: {_complaint(done.stderr) or done.returncode}")
    return done.stdout


def _complaint(said: bytes) -> str:
    """The first error; before it may stand through which headers the compiler came to it."""
    lines = said.decode(errors="replace").strip().splitlines()
    return next((line for line in lines if "error:" in line), lines[0] if lines else "")
