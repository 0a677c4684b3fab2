-- The client chooses the id: asking again after a lost answer can then never store a second one.
-- Collation C lets the primary key serve searches by prefix.
CREATE TABLE registrations (
  id text COLLATE "C" PRIMARY KEY,
  event_id integer NOT NULL REFERENCES events (id),
  name text NOT NULL,
  email text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX registrations_by_event ON registrations (event_id);
