"""The edges of a command: handles in, handles out, messages on stderr, exit codes.

code  meaning                                                                              retry?
0     done, or yes
1     the answer is no: unhealthy, nothing to roll back to; traffic and data are as before  no
2     usage                                                                                no
65    a handle, manifest or file that cannot be read or does not verify                    no
66    nothing on stdin: the command to the left failed                                     look left
69    a dependency did not answer: engine, PostgreSQL, store, proxy, network               yes
70    a bug: an uncaught exception                                                         no
75    busy: the lock is held                                                               yes
78    configuration: all faults at once                                                    no
130   interrupted (SIGINT); 143 terminated (SIGTERM); says what state it left
141   the reader of stdout left, as in `releases | head -1`: silent
"""
import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import click

from keel import interrupt, patient, pipe, run
from keel.stop import BUG, CONFIG, NO, NOTHING, READER_LEFT, Stop

F = TypeVar("F", bound=Callable[..., Any])
SETTINGS = {"help_option_names": ["-h", "--help"]}
_level = 1  # 0 quiet, 1 normal, 2 verbose


def name() -> str:
    """The command as the user typed it."""
    return os.path.basename(sys.argv[0])


def say(message: str, level: int = 1) -> None:
    """Each line on stderr after the name of the command (and the UTC time, off a terminal); level 0 is never silenced.

    Where it cannot be said, as where nobody reads it any more or the disk is full, the work goes on: it may be the putting back of a
    switch that failed.
    """
    if level > _level:
        return
    stamp = "" if sys.stderr.isatty() else time.strftime("%FT%TZ ", time.gmtime())
    with contextlib.suppress(OSError):
        sys.stderr.write("".join(f"{stamp}{name()}: {line}\n" for line in message.splitlines()))  # one write: threads do not mix lines
        sys.stderr.flush()


def done(message: str) -> None:
    """What has been done, which a rehearsal has not: silent under --dry-run."""
    if not run.dry:
        say(message)


def warn(message: str) -> None:
    """A line that -q does not silence."""
    say(f"warning: {message}", 0)


def complain(e: Stop) -> int:
    """Say what is wrong and what to type next; its exit code."""
    return _end(e.code, error=e.message, hint=e.hint)


def put(handle: str) -> None:
    """One handle on stdout, once its effect is durable."""
    print(handle, flush=True)


def overwrite(text: str) -> None:
    """Replace the line that the cursor is on; only for a terminal."""
    sys.stderr.write(f"\r\x1b[K{text and f'{name()}: {text}'}")
    sys.stderr.flush()


def live() -> bool:
    """Whether somebody looks on, who did not ask for silence."""
    return _level > 0 and sys.stderr.isatty()


def handles(given: tuple[str, ...]) -> Iterator[str]:
    """The handles given as arguments or, where there are none, one a line on stdin; nothing at all is exit 66."""
    if given:
        yield from given
        return
    if sys.stdin is None:
        raise Stop("stdin is closed", NOTHING, "give a HANDLE, or pipe one in")
    if sys.stdin.isatty():
        raise click.UsageError("give a HANDLE, or pipe one in")
    warm_up()
    empty = True
    for line in sys.stdin:
        if line.strip():
            empty = False
            yield line.strip()
    if empty:
        raise Stop("nothing on stdin: the command to the left failed", NOTHING)


def warm_up() -> None:
    """Import what takes long while the command to the left works: in a pipe it is on nobody's way."""
    from keel import engine

    run.warm_up()
    engine.warm_up()


def one(given: tuple[str, ...]) -> str:
    """Exactly one handle; more is a usage error."""
    found = list(handles(given))
    if len(found) != 1:
        raise click.UsageError(f"give one HANDLE, not {len(found)}")
    return found[0]


def _quiet(_c: click.Context, _p: click.Parameter, value: bool) -> None:
    global _level
    _level = 0 if value else _level


def _verbose(_c: click.Context, _p: click.Parameter, value: bool) -> None:
    global _level
    if value:
        _level = 2
        run.show = lambda text: say(text, 2)


def _dry(_c: click.Context, _p: click.Parameter, value: bool) -> None:
    if value or os.environ.get("KEEL_DRY_RUN"):
        os.environ["KEEL_DRY_RUN"] = "1"  # the commands that this one starts rehearse too
        run.dry = lambda text: say(f"would: {text}", 0)


def noise(f: F) -> F:
    """Add -q and -v."""
    f = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_quiet, help="Warnings and errors only.")(f)
    return click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_verbose, help="Show each child command.")(f)


def dry_run(f: F) -> F:
    """Add -n: say what would be done, do nothing, still print the handles."""
    return click.option("-n", "--dry-run", is_flag=True, expose_value=False, callback=_dry,
                        help="Say what would be done; change nothing.")(f)


def main(command: click.Command) -> NoReturn:
    """Run a click command and end the process with its code."""
    sys.stderr = patient.stderr() or sys.stderr
    try:
        # At once: tearing down modules and connection pools takes up to 100 ms, and the next command waits for our end.
        os._exit(_outcome(command))
    except interrupt.Interrupted as e:  # wherever it came: at work, or while its end was said
        code = interrupt.see_to_the_end(e)
        os._exit(_end(code, **{f"interrupted by {signal.Signals(e.args[0]).name}": interrupt.left_by(name())}))


def _outcome(command: click.Command) -> int:
    """The exit code; what nobody caught is a bug (70), never a verdict (1)."""
    interrupt.wait_for()
    try:
        with command.make_context(name(), sys.argv[1:]) as context:  # not click's own main, which makes a reader that left a 1
            code = command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.Exit as e:
        return e.exit_code
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else int(bool(e.code))
    except Stop as e:
        return complain(e)
    except click.ClickException as e:
        words = e.format_message().rstrip(".")
        return _end(e.exit_code, error=f"{words[:1].lower()}{words[1:]}", hint=f"{name()} --help")
    except click.Abort:
        return _end(NO, error="no answer: nothing was done")
    except BrokenPipeError as e:
        return READER_LEFT if pipe.reader_left() else _bug(e)  # another pipe or a connection is ours to handle
    except OSError as e:
        if e.errno not in (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            return _bug(e)
        return _end(CONFIG, error=f"{e.filename or 'this host'}: {(e.strerror or '').lower()}",
                    hint="who owns it, and is the disk full? doctor says more")
    except Exception as e:
        return _bug(e)


def _end(code: int, **said: str) -> int:
    """The code, once its lines are said, each after its word; where nobody reads them the code alone says it."""
    for word, text in said.items():
        for line in text.splitlines():
            say(f"{word}: {line}", 0)
    return code


def _bug(e: Exception) -> int:
    if os.environ.get("KEEL_TRACE"):
        raise e
    return _end(BUG, bug=f"{type(e).__name__}: {e}", hint="KEEL_TRACE=1 shows where")
