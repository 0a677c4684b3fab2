"""Whether the sequences of a restored database go on after what is there already."""
from collections.abc import Mapping

from keel import pg

# The sequences that columns own: the next value must be above every value there.
OWNED = """SELECT coalesce(json_agg(json_build_object('name', format('%I.%I', n.nspname, s.relname), 'table', format('%I.%I', m.nspname,
 t.relname), 'column', quote_ident(a.attname))), '[]') FROM pg_depend d JOIN pg_class s ON s.oid = d.objid
 JOIN pg_namespace n ON n.oid = s.relnamespace JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace m ON m.oid = t.relnamespace
 JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid JOIN pg_sequence q ON q.seqrelid = s.oid
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND s.relkind = 'S'
 AND q.seqincrement > 0 AND NOT q.seqcycle AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)"""


def behind(session: pg.Session, before: Mapping[str, int | None]) -> tuple[list[str], list[str]]:
    """The sequences whose next value a row has already: those that were not so when they were backed up (`before`: where they stood), and
    those that were. The latter do not fill that column, or are wrong in the living database too: the backup is as it should be."""
    wrong, said = [], []
    for s in session.one(OWNED):
        top = session.one(f"SELECT json_build_object('column', max({s['column']}), 'sequence', (SELECT CASE WHEN is_called "
                          f"THEN last_value ELSE last_value - 1 END FROM {s['name']})) FROM {s['table']}")
        if top["column"] is not None and top["column"] > top["sequence"]:
            text = f"sequence {s['name']} is at {top['sequence']}, {s['table']} has {top['column']}"
            at = before.get(s["name"], top["column"])
            if at is None or at < top["column"]:
                said.append(f"{text}, as when it was backed up")
            else:
                wrong.append(text)
    return wrong, said
