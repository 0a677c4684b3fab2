CREATE TABLE venues (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  city text NOT NULL,
  capacity integer NOT NULL CHECK (capacity > 0)
);

CREATE TABLE events (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  venue_id integer NOT NULL REFERENCES venues (id),
  title text NOT NULL,
  starts_at timestamptz NOT NULL
);

CREATE INDEX events_by_start ON events (starts_at, id);
