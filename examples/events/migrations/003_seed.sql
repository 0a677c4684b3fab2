WITH venue AS (
  INSERT INTO venues (name, city, capacity) VALUES
    ('Harbour Hall', 'Bergen', 1200),
    ('Dry Dock', 'Gdansk', 450),
    ('Signal House', 'Porto', 180)
  RETURNING id, name
)
INSERT INTO events (venue_id, title, starts_at)
SELECT venue.id, planned.title, planned.starts_at
FROM venue
JOIN (VALUES
  ('Harbour Hall', 'Tall Ships Evening', timestamptz '2031-05-17 18:00+00'),
  ('Harbour Hall', 'Night of the Lighthouses', timestamptz '2031-09-06 20:00+00'),
  ('Dry Dock', 'Shipwrights'' Fair', timestamptz '2031-06-21 10:00+00'),
  ('Dry Dock', 'Low Water Concert', timestamptz '2031-07-12 19:30+00'),
  ('Signal House', 'Knots for Beginners', timestamptz '2031-04-02 17:00+00')
) AS planned (venue, title, starts_at) ON planned.venue = venue.name
ORDER BY planned.starts_at;
