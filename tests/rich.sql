-- A database with everything that a dump could lose, for the tests of backups; run once in an empty database by a superuser.
CREATE ROLE reader NOLOGIN;
CREATE ROLE "Odd ""role" LOGIN PASSWORD 'it''s -- odd';
CREATE ROLE owner_of_shop LOGIN PASSWORD 'shop' CONNECTION LIMIT 7;
GRANT reader TO owner_of_shop WITH ADMIN OPTION;
GRANT reader TO "Odd ""role";
ALTER ROLE owner_of_shop SET statement_timeout = '7s';
COMMENT ON ROLE reader IS 'reads
CREATE ROLE nobody;
and nothing else';
ALTER DATABASE events SET work_mem = '9MB';
ALTER ROLE reader IN DATABASE events SET search_path = 'shop';
CREATE SCHEMA shop AUTHORIZATION owner_of_shop;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION citext SCHEMA shop;
CREATE EXTENSION hstore;
CREATE COLLATION shop.german (provider = icu, locale = 'de-u-kn-true');
CREATE TYPE shop.state AS ENUM ('new', 'paid', 'gone');
CREATE DOMAIN shop.positive AS int CHECK (VALUE > 0);
CREATE TABLE shop.customers (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE shop.german NOT NULL,
  mail shop.citext UNIQUE,
  extra hstore,
  loud text GENERATED ALWAYS AS (upper(name)) STORED
);
CREATE INDEX ON shop.customers USING gin (name gin_trgm_ops);
CREATE INDEX ON shop.customers (name COLLATE "de-x-icu");
CREATE TABLE shop.orders (
  id bigserial,
  customer int NOT NULL REFERENCES shop.customers,
  state shop.state NOT NULL DEFAULT 'new',
  amount shop.positive,
  at timestamptz NOT NULL,
  payload bytea,
  PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE shop.orders_old PARTITION OF shop.orders FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
CREATE TABLE shop.orders_new PARTITION OF shop.orders FOR VALUES FROM ('2025-01-01') TO (MAXVALUE);
CREATE TABLE shop."Strange = 'name'" (a int, "b c" text);
CREATE UNLOGGED TABLE shop.cache (k text PRIMARY KEY);
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.amount := coalesce(NEW.amount, 1);

  -- Name: this line looks like one of pg_dump
  RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.stamp();
INSERT INTO shop.customers (name, mail, extra)
  SELECT (ARRAY['Ärger', 'Zebra', 'Öl', 'ahorn', 'z10', 'z9'])[1 + i % 6] || ' ' || i, 'm' || i || '@EXAMPLE.org', hstore('i', i::text)
  FROM generate_series(1, 500) i;
INSERT INTO shop.orders (customer, state, at, payload)
  SELECT 1 + i % 500, (ARRAY['new', 'paid', 'gone'])[1 + i % 3]::shop.state, now() - i * interval '1 hour',
         decode(string_agg(md5(i || '-' || j), ''), 'hex')
  FROM generate_series(1, coalesce(nullif(current_setting('rich.rows', true), ''), '2000')::int) i, generate_series(1, 60) j GROUP BY i;
-- One that is not fresh: what is restored has more rows.
CREATE MATERIALIZED VIEW shop.stale AS SELECT 1 AS one FROM shop."Strange = 'name'";
INSERT INTO shop."Strange = 'name'" VALUES (1, E'tab\t, \\N and \'quotes\''), (NULL, '');
CREATE MATERIALIZED VIEW shop.totals AS SELECT state, count(*) AS n, sum(amount) AS sum FROM shop.orders GROUP BY state;
CREATE UNIQUE INDEX ON shop.totals (state);
CREATE VIEW shop.paid AS SELECT * FROM shop.orders WHERE state = 'paid';
ALTER TABLE shop.customers ADD CONSTRAINT long_enough CHECK (length(name) > 100) NOT VALID;
SELECT lo_from_bytea(0, decode(repeat('00ff10', 5000), 'hex')) FROM generate_series(1, 3);
GRANT USAGE ON SCHEMA shop TO reader;
GRANT SELECT ON ALL TABLES IN SCHEMA shop TO reader WITH GRANT OPTION;
ALTER TABLE shop.customers OWNER TO owner_of_shop;
ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON shop.customers TO reader USING (name <> 'secret');
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO reader;
GRANT CONNECT ON DATABASE events TO "Odd ""role";
CREATE PUBLICATION everything FOR ALL TABLES;
