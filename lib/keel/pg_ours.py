"""What a failed backup has left at the server: sessions that would keep their locks, known by the application_name of its container."""
from collections.abc import Iterator
from contextlib import contextmanager

from keel import cli, pg
from keel.silence import Silence
from keel.stop import UNAVAILABLE, Stop

ASKED = 60.0  # seconds in which the server has to answer
MINE = "application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
THERE = f"""SELECT coalesce(json_agg(json_build_object('pid', pid, 'by', pg_blocking_pids(pid), 'lock',
 (SELECT coalesce(relation::regclass::text, locktype) FROM pg_locks l WHERE l.pid = a.pid AND NOT granted LIMIT 1))), '[]')
 FROM pg_stat_activity a WHERE {MINE}"""
END = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {MINE}"  # each is waited for so many milliseconds


@contextmanager
def ended(box: str) -> Iterator[None]:
    """Where the block fails because a dependency did not answer: end our sessions at the server, and say what they waited for and which of
    them stay."""
    try:
        yield
    except Stop as e:
        if e.code == UNAVAILABLE:
            for line in _end(box):
                cli.warn(line)
        raise


def _end(box: str) -> list[str]:
    try:
        with pg.Session(box, silence=Silence(ASKED, "PostgreSQL")) as session:
            name = session.ask("SHOW application_name")[0]
            there = session.one(THERE)
            session.ask(END)
            stay = [str(each["pid"]) for each in session.one(THERE)]
    except Stop as e:
        why = e.message.splitlines()[-1]
        return [f"PostgreSQL does not say whether sessions of this backup are left ({why}); they would keep their locks"]
    said = [f"session {each['pid']} waited for a lock on {each['lock']}, which session {', '.join(map(str, each['by']))} holds or wants"
            for each in there if each["by"]]
    return said + [f"PostgreSQL did not end session {', '.join(stay)} ({name}): it keeps its locks until it ends"] * bool(stay)
