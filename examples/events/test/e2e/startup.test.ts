import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { Link } from '../support/link';
import { AppProcess, freePort, smoke } from '../support/process';
import { type Scratch, scratchDatabase, serviceEnv } from '../support/services';
import { until } from '../support/until';

let scratch: Scratch;
before(async () => {
  scratch = await scratchDatabase();
});
after(() => scratch.drop());

interface Readiness {
  status: string;
  stage: string;
  checks: Record<string, string>;
}

async function readiness(app: AppProcess): Promise<Readiness & { code: number }> {
  const response = await fetch(`${app.url}/health/ready`);
  return { ...((await response.json()) as Readiness), code: response.status };
}

/** The app with its database and Redis behind connections that can be cut. */
async function behindLinks(): Promise<{ postgres: Link; redis: Link; env: Record<string, string> }> {
  const { PGHOST, PGPORT, REDIS_URL } = serviceEnv();
  const url = new URL(REDIS_URL!);
  const postgres = new Link(PGHOST!, Number(PGPORT));
  const redis = new Link(url.hostname, Number(url.port || 6379));
  [postgres.port, redis.port] = [await freePort(), await freePort()];
  [url.hostname, url.port] = ['127.0.0.1', String(redis.port)];
  return { postgres, redis, env: { ...scratch.env, PGHOST: '127.0.0.1', PGPORT: String(postgres.port), REDIS_URL: url.href } };
}

test('start-up goes stage by stage, and says what it waits for', async () => {
  const { postgres, redis, env } = await behindLinks();
  const app = await AppProcess.start(env);
  try {
    await app.said('waiting', ({ stage }) => stage === 'database');
    assert.equal((await fetch(`${app.url}/health`)).status, 200);
    assert.equal((await fetch(`${app.url}/version`)).status, 200);
    const events = await fetch(`${app.url}/events`);
    assert.equal(events.status, 503);
    assert.equal(events.headers.get('retry-after'), '1');
    const socket = new WebSocket(`${app.url.replace('http', 'ws')}/ws`);
    assert.match(String((await once(socket, 'error'))[0]), /503/);
    const first = await readiness(app);
    assert.deepEqual([first.code, first.status, first.stage], [503, 'starting', 'database']);
    assert.equal(first.checks.postgres, 'ECONNREFUSED');

    await postgres.restore();
    await app.said('waiting', ({ stage }) => stage === 'redis');
    const second = await readiness(app);
    assert.deepEqual([second.code, second.status, second.stage, second.checks.postgres], [503, 'starting', 'redis', 'ok']);

    await redis.restore();
    await app.said('ready');
    assert.equal((await readiness(app)).code, 200);
    assert.equal((await fetch(`${app.url}/events`)).status, 200);
  } finally {
    await app.end();
    await Promise.all([postgres.cut(), redis.cut()]);
  }
});

test('a running app outlives PostgreSQL and Redis, says which is away, and comes back', async () => {
  const { postgres, redis, env } = await behindLinks();
  await Promise.all([postgres.restore(), redis.restore()]);
  const app = await AppProcess.ready(env);
  try {
    await redis.cut();
    const noRedis = await until('readiness names Redis', async () => {
      const found = await readiness(app);
      return found.code === 503 && found;
    });
    assert.equal(noRedis.status, 'unavailable');
    assert.equal(noRedis.checks.postgres, 'ok');
    assert.notEqual(noRedis.checks.redis, 'ok');
    assert.equal((await fetch(`${app.url}/events`)).status, 200, 'without its cache the list comes from the database');
    await redis.restore();
    await until('ready again', async () => (await readiness(app)).code === 200);

    await postgres.cut();
    const noPostgres = await readiness(app);
    assert.deepEqual([noPostgres.code, noPostgres.checks.redis], [503, 'ok']);
    const away = await fetch(`${app.url}/venues`);
    assert.deepEqual([away.status, away.headers.get('retry-after')], [503, '1']);
    assert.equal((await fetch(`${app.url}/health`)).status, 200);
    await postgres.restore();
    await until('ready again', async () => (await readiness(app)).code === 200);
    assert.equal((await fetch(`${app.url}/venues`)).status, 200);
    assert.equal(app.child.exitCode, null);
  } finally {
    await app.end();
    await Promise.all([postgres.cut(), redis.cut()]);
  }
});

test('a configuration with faults ends with 78 and names them all', async () => {
  const app = await AppProcess.start({ ...scratch.env, PGPASSWORD: '', REDIS_URL: 'nowhere', PG_POOL: 'many' });
  assert.deepEqual(await app.exited, { code: 78, signal: null });
  assert.deepEqual(app.lines.map(({ fault }) => String(fault).split(/[ =]/)[0]), ['PGPASSWORD', 'PG_POOL', 'REDIS_URL']);
});

test('a port that is taken ends the process', async () => {
  const taken = createServer().listen(0, '0.0.0.0');
  await once(taken, 'listening');
  const app = await AppProcess.start({ ...scratch.env, PORT: String((taken.address() as { port: number }).port) });
  assert.deepEqual(await app.exited, { code: 1, signal: null });
  assert.match(JSON.stringify(app.lines), /EADDRINUSE/);
  taken.close();
});

test('a database that was not migrated keeps the release from becoming ready', async () => {
  const bare = await scratchDatabase(false);
  const app = await AppProcess.start(bare.env);
  try {
    const line = await app.said('waiting');
    assert.match(String(line.reason), /not migrated: 001_/);
    assert.equal((await readiness(app)).code, 503);
    const migrator = await AppProcess.start(bare.env, 'dist/migrate.js');
    assert.equal((await migrator.exited).code, 0);
    await app.said('ready');
  } finally {
    await app.end();
    await bare.drop();
  }
});

test('the migrator has an exit code for each kind of failure', async () => {
  const codes: [Record<string, string>, number][] = [
    [{ FAULT: 'migration-fails' }, 1],
    [{ PGPORT: '1' }, 69],
    [{ PGUSER: '' }, 78],
    [{}, 0],
  ];
  for (const [env, code] of codes) {
    const migrator = await AppProcess.start({ ...scratch.env, ...env }, 'dist/migrate.js');
    assert.equal((await migrator.exited).code, code, JSON.stringify(env));
  }
});

test('FAULT makes a release sick in the way it says', async () => {
  const exits = await AppProcess.start({ ...scratch.env, FAULT: 'exit-at-start' });
  assert.equal((await exits.exited).code, 1);

  const dies = await AppProcess.start({ ...scratch.env, FAULT: 'ready-then-die', FAULT_AFTER: '200ms' });
  await dies.said('ready');
  assert.equal((await dies.exited).code, 1);

  const never = await AppProcess.start({ ...scratch.env, FAULT: 'never-ready' });
  const wrong = await AppProcess.start({ ...scratch.env, FAULT: 'wrong-port' });
  const smoky = await AppProcess.ready({ ...scratch.env, FAULT: 'bad-smoke' });
  try {
    await never.said('starting', ({ stage }) => String(stage).startsWith('never ready'));
    assert.equal((await readiness(never)).code, 503);
    assert.equal((await wrong.said('listening')).port, wrong.port + 1);
    await assert.rejects(fetch(wrong.url));
    assert.equal((await readiness(smoky)).code, 200);
    assert.throws(() => smoke({ KEEL_URL: smoky.url }), /GET \/events answered 500/);
  } finally {
    await Promise.all([never.end(), wrong.end(), smoky.end()]);
  }
});
