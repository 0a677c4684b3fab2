"""Found on PYTHONPATH by every Python that a traced command starts: appends when its steps began and ended to the file $BENCH_TRACE.

A step is a function of lib/keel that took a millisecond or more, or the import of a module that is known to cost something. A line: pid,
thread, command, step, begin, end (CLOCK_MONOTONIC). No line of the commands changes; a traced run is a few milliseconds longer.
"""
import os
import sys
import time
from _thread import get_ident

HEAVY = ("click", "docker", "dotenv.parser", "requests", "sh", "ssl")
ALWAYS = ("cli._outcome", "cli.put")
LEAST = 0.001


def mark(step, begin, end):
    """Append one line, whole: other processes write to the same file."""
    command = os.path.basename((getattr(sys, "argv", None) or sys.orig_argv[1:] or ["python"])[0])
    os.write(TO, f"{os.getpid()}\t{get_ident()}\t{command}\t{step}\t{begin:.6f}\t{end:.6f}\n".encode())


def timed(function, step):
    """The function, writing down its times."""
    def call(*args, **options):
        begin = time.monotonic()
        try:
            return function(*args, **options)
        finally:
            end = time.monotonic()
            if end - begin >= LEAST or step in ALWAYS:
                mark(program(args[0]) if step == "run._run" else step, begin, end)
    return call


def program(argv):
    """Which program was run, and what Compose was to do."""
    words = [word for word in argv if word in ("up", "run", "stop", "rm", "build", "pull", "config")][:1]
    return " ".join(["run", os.path.basename(argv[0]), *words])


def patch(holder, prefix):
    """Replace the functions of a module, and the methods of its classes that have no state of their own to speak of."""
    for name, raw in list(vars(holder).items()):
        function = getattr(raw, "__func__", raw)
        if isinstance(raw, type) and raw.__module__ in ("keel.nginx", "keel.caddy"):
            patch(raw, f"{prefix}.{name}")
        elif not name.startswith("__") and (hasattr(function, "__code__") or hasattr(function, "cache_info")) \
                and function.__module__.startswith("keel."):
            wrapped = timed(function, f"{prefix}.{name}")
            setattr(holder, name, staticmethod(wrapped) if isinstance(raw, staticmethod) else wrapped)


class Finder:
    """Sees modules as they are imported."""

    @staticmethod
    def find_spec(name, path, target=None):
        if name not in HEAVY and not name.startswith("keel."):
            return None
        spec = next(finder for finder in sys.meta_path if getattr(finder, "__name__", "") == "PathFinder").find_spec(name, path, target)
        if spec is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                begin = time.monotonic()
                load(module)
                mark(f"import {name}" if name in HEAVY else "import keel", begin, time.monotonic())
                if name.startswith("keel."):
                    patch(module, name.removeprefix("keel."))

            spec.loader.exec_module = exec_module
        return spec


if os.environ.get("BENCH_TRACE"):
    TO = os.open(os.environ["BENCH_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    now = time.monotonic()
    mark("python", now, now)
    sys.meta_path.insert(0, Finder)
