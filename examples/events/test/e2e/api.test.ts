import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { packageRoot } from '../../src/root';
import { AppProcess, smoke } from '../support/process';
import { type Scratch, scratchDatabase } from '../support/services';

let scratch: Scratch;
let app: AppProcess;
before(async () => {
  scratch = await scratchDatabase();
  app = await AppProcess.ready({ ...scratch.env, LOG_REQUESTS: 'on', KEEL_KEEPALIVE_APP: '7s' });
});
after(async () => {
  await app.end();
  await scratch.drop();
});

async function ask(method: string, path: string, body?: unknown): Promise<{ status: number; headers: Headers; json: never }> {
  const response = await fetch(app.url + path, {
    method, body: body === undefined ? undefined : JSON.stringify(body), headers: { 'content-type': 'application/json' },
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json');
  return { status: response.status, headers: response.headers, json: (isJson ? JSON.parse(text) : text) as never };
}

test('health, readiness, detail and version', async () => {
  assert.deepEqual((await ask('GET', '/health')).json, { status: 'ok' });
  const ready = await ask('GET', '/health/ready');
  assert.equal(ready.status, 200);
  assert.deepEqual(ready.json, {
    status: 'ready', stage: 'done', release: 'r1', checks: { configuration: 'ok', postgres: 'ok', redis: 'ok' },
  });
  const detail: { phase: string; release: string } = (await ask('GET', '/health/live')).json;
  assert.equal(detail.phase, 'ready');
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
  assert.deepEqual((await ask('GET', '/version')).json, { name: 'events', version, revision: 'unknown', release: 'r1', colour: 'blue' });
});

test('venues and events are made, listed and opened', async () => {
  const venue = await ask('POST', '/venues', { name: 'Pier 9', city: 'Oslo', capacity: 80 });
  assert.equal(venue.status, 201);
  const { id: venueId }: { id: number } = venue.json;
  const made = await ask('POST', '/events', { venueId, title: 'Launch', startsAt: '2030-01-02T03:04:05+01:00' });
  assert.equal(made.status, 201);
  const event: { id: number; startsAt: string } = made.json;
  assert.equal(event.startsAt, '2030-01-02T02:04:05.000Z');
  assert.deepEqual((await ask('GET', `/events/${event.id}`)).json, event);
  const list = await ask('GET', '/events');
  assert.ok((list.json as { id: number }[]).some(({ id }) => id === event.id));
  assert.match(list.headers.get('content-type') ?? '', /^application\/json/);
  assert.equal(list.headers.get('x-powered-by'), null);
  assert.ok(((await ask('GET', '/venues')).json as { id: number }[]).some(({ id }) => id === venueId));
});

test('a registration is stored once', async () => {
  const wanted = { id: randomUUID(), eventId: 1, name: 'Ada', email: 'ada@example.org' };
  assert.equal((await ask('POST', '/registrations', wanted)).status, 201);
  assert.equal((await ask('POST', '/registrations', wanted)).status, 409);
  assert.deepEqual((await ask('GET', `/registrations/${wanted.id}`)).json, wanted);
  assert.deepEqual((await ask('GET', `/registrations/count?prefix=${wanted.id}`)).json, { prefix: wanted.id, count: 1 });
});

test('bad requests get their own answers', async () => {
  const good = { id: 'x', eventId: 1, name: 'n', email: 'e@x' };
  const table: [string, string, unknown, number][] = [
    ['POST', '/registrations', {}, 400],
    ['POST', '/registrations', { ...good, id: 'a b' }, 400],
    ['POST', '/registrations', { ...good, eventId: 999_999 }, 422],
    ['POST', '/events', { venueId: 999_999, title: 't', startsAt: '2030-01-01T00:00:00Z' }, 422],
    ['POST', '/venues', [], 400],
    ['GET', '/registrations/none', undefined, 404],
    ['GET', '/registrations/%00', undefined, 404],
    ['GET', '/registrations/count?prefix=%25', undefined, 400],
    ['GET', '/registrations/count?prefix=a&prefix=b', undefined, 400],
    ['GET', '/events/0', undefined, 404],
    ['GET', '/events/abc', undefined, 404],
    ['GET', '/events/999999', undefined, 404],
    ['GET', '/slow?seconds=-1', undefined, 400],
    ['GET', '/slow?seconds=x', undefined, 400],
    ['GET', '/nothing', undefined, 404],
    ['GET', '/static/nothing.js', undefined, 404],
    ['DELETE', '/events/1', undefined, 404],
  ];
  for (const [method, path, body, status] of table) assert.equal((await ask(method, path, body)).status, status, `${method} ${path}`);
  const broken = await fetch(`${app.url}/venues`, { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } });
  assert.equal(broken.status, 400);
});

test('slow waits and then says who answered', async () => {
  const begun = Date.now();
  assert.deepEqual((await ask('GET', '/slow?seconds=0.4')).json, { seconds: 0.4, release: 'r1', colour: 'blue' });
  assert.ok(Date.now() - begun >= 390);
});

test('the page and its files, which are kept for ever', async () => {
  const page = await (await fetch(app.url)).text();
  const file = /\/static\/[a-z.0-9]+\.js/.exec(page)?.[0] ?? '';
  const script = await fetch(app.url + file);
  assert.equal(script.status, 200);
  assert.match(script.headers.get('cache-control') ?? '', /max-age=31536000.*immutable/);
  await script.text();
});

test('the keep-alive limit is the one that was set', async () => {
  assert.match((await ask('GET', '/health')).headers.get('keep-alive') ?? '', /timeout=7\b/);
});

test('the smoke test passes, and notices the wrong release', () => {
  assert.equal(smoke({ KEEL_URL: app.url, KEEL_RELEASE: 'r1' }), '');
  assert.throws(() => smoke({ KEEL_URL: app.url, KEEL_RELEASE: 'r2' }), /release is 'r1', wanted 'r2'/);
});

test('requests are logged when asked for, without their query', async () => {
  await ask('GET', '/events?token=secret');
  const line = await app.said('request', ({ method, path }) => method === 'GET' && path === '/events');
  assert.equal(line.status, 200);
  assert.doesNotMatch(JSON.stringify(app.lines), /secret/);
});
