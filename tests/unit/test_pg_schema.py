"""Two schemas as pg_dump writes them: what PostgreSQL itself writes otherwise after a restore is no difference, all else is one by name.

The texts are those of PostgreSQL 17; tests/restore-verify.bats has the same with a real one.
"""
import pytest

from keel import pg_schema

# What stands in the living database, and what stands there once that was restored.
LOADED = {
    "v CHECK (((v)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))":
    "v CHECK (((v)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
    "v CHECK (((v)::text <> ALL ((ARRAY['it''s ::text'::character varying, 'ARRAY[''z''::text], '::character varying, (w)])::text[])))":
    "v CHECK (((v)::text <> ALL (ARRAY[('it''s ::text'::character varying)::text, ('ARRAY[''z''::text], '::character varying)::text, "
    "((w))::text])))",
    "ON i, (v::text = ANY (ARRAY['a'::character varying, 'b'::character varying]::text[])) FROM public.t":
    "ON i, (v::text = ANY (ARRAY['a'::character varying::text, 'b'::character varying::text])) FROM public.t",
    "WHEN ((v)::text = ANY ((ARRAY[f(1, 2)])::text[])) OR ((r)::oid = ANY ((ARRAY['\"a]\"'::regclass, \"x,y\"])::oid[]))":
    "WHEN ((v)::text = ANY (ARRAY[(f(1, 2))::text])) OR ((r)::oid = ANY (ARRAY[('\"a]\"'::regclass)::oid, (\"x,y\")::oid]))",
    "x = ANY (ARRAY['a'::text]::public.\"my-type\"[])": "x = ANY (ARRAY['a'::text::public.\"my-type\"])",
    "ARRAY[ARRAY[1, 2]::oid[], b]::text[] || ARRAY['c']::text[]":
    "ARRAY[ARRAY[1::oid, 2::oid]::text, b::text] || ARRAY['c'::text]",
}
ALONE = ("m CHECK ((m <@ ARRAY['a'::text, 'b'::text]))", "d numeric(4,2) DEFAULT '{1,2}'::integer[]",
         "AS $$ x := (ARRAY['a', 'b'])::text[] $$", "x CHECK ((x = ANY (ARRAY['a'::text, 'b'::text])))",
         "AS $_$ don't ( [ $_$ y CHECK (((y)[1] > 0))", "'(ARRAY[a])::text[]'", ") ] , (",
         'ARRAY[1]::"' + 'a""' * 30 + '"')  # without end, where each pair of quotes could be read in two ways


@pytest.mark.parametrize("before", LOADED)
def test_a_cast_array_is_an_array_of_what_is_cast(before: str) -> None:
    assert before != pg_schema.normal(before) == LOADED[before] == pg_schema.normal(LOADED[before])


@pytest.mark.parametrize("text", ALONE)
def test_all_else_stays_as_it_is(text: str) -> None:
    assert pg_schema.normal(text) == text


def table(*lines: str, name: str = "t") -> str:
    return (f"--\n-- Name: {name}; Type: TABLE; Schema: public; Owner: events\n--\n\nCREATE TABLE public.{name} (\n" +
            ",\n".join(f"    {line}" for line in lines) + "\n);\n\n")


V, LATER = next(iter(LOADED.items()))
ONE, TWO = f"CONSTRAINT one {V[2:]}", f"CONSTRAINT one {LATER[2:]}"
MORE = "CONSTRAINT more CHECK ((i > 0))"


def test_the_same_written_otherwise() -> None:
    assert pg_schema.digest(table("i int", ONE)) != pg_schema.digest(table("i int", TWO))
    assert pg_schema.differ(table("i int", ONE), table("i int", TWO)) == ([], 1)
    assert pg_schema.differ(table("i int", ONE), table("i int", ONE)) == ([], 0)


@pytest.mark.parametrize(("lines", "said"), [
    (("i int", TWO), "table public.t is another: constraint more"),
    (("i int", MORE), "table public.t is another: constraint one"),
    (("i int",), "table public.t is another: constraint more, one"),
    (("i int", TWO.replace("'b'", "'c'"), MORE), "table public.t is another: constraint one"),
    (("i bigint", TWO, MORE), "table public.t is another"),
    (("i int", TWO, MORE, 'CONSTRAINT "odd one" CHECK (true)'), 'table public.t is another: constraint "odd one"'),
])
def test_what_is_lost_or_another_is_named(lines: tuple[str, ...], said: str) -> None:
    assert pg_schema.differ(table("i int", ONE, MORE), table(*lines)) == ([said], 0)


def test_a_thing_more_or_less_is_named() -> None:
    assert pg_schema.differ(table("i int") + table("j int", name="u"), table("i int") + table("j int", name="w")) == ([
        "table public.u is not there", "table public.w is there and was not when the backup was made"], 0)


def test_what_is_only_in_an_archive_is_no_schema() -> None:
    data = ("--\n-- Name: stale; Type: MATERIALIZED VIEW DATA; Schema: shop; Owner: postgres\n--\n\n"
            "REFRESH MATERIALIZED VIEW shop.stale;\n\n\n")
    assert pg_schema.digest(pg_schema.REFRESH.sub("", table("i int") + data + table("j int", name="u"))) == pg_schema.digest(
        table("i int") + table("j int", name="u"))
