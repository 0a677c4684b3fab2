import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { listMigrations, migrate, migration, missingMigrations } from '../../src/migrations';
import { type Scratch, scratchDatabase } from '../support/services';

let scratch: Scratch;
before(async () => {
  scratch = await scratchDatabase(false);
});
after(() => scratch.drop());

test('migrators that start together apply each file once, and again is nothing', async () => {
  const wanted = listMigrations();
  const clients = await Promise.all([1, 2, 3].map(() => scratch.connect()));
  try {
    assert.deepEqual(await missingMigrations(clients[0]!), wanted.map(({ name }) => name));
    const applied = await Promise.all(clients.map((client) => migrate(client, wanted)));
    assert.deepEqual(applied.flat().sort(), wanted.map(({ name }) => name));
    assert.deepEqual(await migrate(clients[0]!, wanted), []);
    assert.deepEqual(await missingMigrations(clients[0]!), []);
    const { rows } = await clients[0]!.query('SELECT count(*)::integer AS events FROM events');
    assert.deepEqual(rows, [{ events: 5 }]);
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
});

test('a migration that fails leaves nothing of itself, and those before it stay', async () => {
  const client = await scratch.connect();
  try {
    const good = migration('800_good', 'CREATE TABLE good (id integer)');
    const bad = migration('801_bad', 'CREATE TABLE half (id integer); SELECT 1 / 0');
    await assert.rejects(migrate(client, [good, bad]), /801_bad failed/);
    const { rows } = await client.query("SELECT to_regclass('good') AS good, to_regclass('half') AS half");
    assert.deepEqual(rows, [{ good: 'good', half: null }]);
    assert.deepEqual(await missingMigrations(client, [good, bad]), ['801_bad']);
  } finally {
    await client.end();
  }
});

test('an applied migration that was edited is refused', async () => {
  const client = await scratch.connect();
  try {
    await migrate(client, [migration('900_once', 'SELECT 1')]);
    await assert.rejects(migrate(client, [migration('900_once', 'SELECT 2')]), /900_once was changed/);
  } finally {
    await client.end();
  }
});
