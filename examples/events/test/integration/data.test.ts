import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Cache } from '../../src/cache';
import { Config } from '../../src/config';
import { Database, databaseIsAway } from '../../src/database';
import { Events } from '../../src/events';
import { Registrations } from '../../src/registrations';
import { Venues } from '../../src/venues';
import { type Scratch, scratchDatabase } from '../support/services';
import { until } from '../support/until';

let scratch: Scratch;
let db: Database;
let cache: Cache;
before(async () => {
  scratch = await scratchDatabase();
  const config = new Config(scratch.env);
  db = new Database(config);
  cache = new Cache(config);
  await db.ready();
  await cache.ready(5_000);
});
after(async () => {
  await cache.forget('events:1');
  await cache.onApplicationShutdown();
  await db.onApplicationShutdown();
  await scratch.drop();
});

test('a registration asked for many times at once is stored once', async () => {
  const registrations = new Registrations(db);
  const wanted = { id: randomUUID(), eventId: 1, name: 'Ada', email: 'ada@example.org' };
  const outcomes = await Promise.all(Array.from({ length: 20 }, () => registrations.create(wanted)));
  assert.deepEqual(outcomes.sort(), ['created', ...Array<string>(19).fill('exists')]);
  assert.deepEqual(await registrations.find(wanted.id), wanted);
  assert.equal(await registrations.count(wanted.id), 1);
  assert.equal(await registrations.create({ ...wanted, id: randomUUID(), eventId: 999_999 }), 'no event');
});

test('counting by prefix takes % and _ as they are', async () => {
  const registrations = new Registrations(db);
  for (const id of ['run1_a', 'run1_b', 'run1xa', 'run2_a']) await registrations.create({ id, eventId: 1, name: 'n', email: 'e@x' });
  assert.equal(await registrations.count('run1_'), 2);
  assert.equal(await registrations.count('run'), 4);
  assert.equal(await registrations.count('%'), 0);
});

test('the list comes from the cache until an event is added', async () => {
  const events = new Events(db, cache);
  const titles = async (): Promise<string[]> => (JSON.parse(await events.list()) as { title: string }[]).map(({ title }) => title);
  const before = await titles();
  await db.query("INSERT INTO events (venue_id, title, starts_at) VALUES (1, 'behind the cache', now())");
  assert.deepEqual(await titles(), before);
  const venue = await new Venues(db).create({ name: 'Quay', city: 'Turku', capacity: 10 });
  await events.create({ venueId: venue!.id, title: 'through the app', startsAt: '2031-01-01T00:00:00Z' });
  const now = await titles();
  assert.ok(now.includes('through the app') && now.includes('behind the cache'));
  assert.equal(await events.create({ venueId: 999_999, title: 'x', startsAt: '2031-01-01T00:00:00Z' }), undefined);
});

test('connections that the server ends are replaced', async () => {
  const admin = await scratch.connect();
  try {
    await db.ping(2_000);
    await admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid()`);
    await until('the pool answers again', () => db.ping(2_000).then(() => true, () => false));
  } finally {
    await admin.end();
  }
});

test('nobody listening is an absent database, and not migrated is said', async () => {
  const nobody = new Database(new Config({ ...scratch.env, PGPORT: '1' }));
  await assert.rejects(nobody.ping(2_000), (error) => databaseIsAway(error));
  await nobody.onApplicationShutdown();

  const empty = await scratchDatabase(false);
  const bare = new Database(new Config(empty.env));
  await assert.rejects(bare.ready(), /not migrated: 001_venues_and_events/);
  await bare.onApplicationShutdown();
  await empty.drop();
});
