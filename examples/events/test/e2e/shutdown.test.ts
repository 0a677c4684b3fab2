import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { Link } from '../support/link';
import { AppProcess } from '../support/process';
import { type Scratch, scratchDatabase, serviceEnv } from '../support/services';
import { until } from '../support/until';

let scratch: Scratch;
before(async () => {
  scratch = await scratchDatabase();
});
after(() => scratch.drop());

async function running(env: Record<string, string>, work: (app: AppProcess) => Promise<void>): Promise<void> {
  const app = await AppProcess.ready({ ...scratch.env, ...env });
  try {
    await work(app);
  } finally {
    await app.end();
  }
}

async function ask(app: AppProcess, path: string, agent: Agent): Promise<{ status: number; connection: string; text: string }> {
  const [response] = (await once(get(app.url + path, { agent }), 'response')) as [IncomingMessage];
  let text = '';
  for await (const part of response) text += String(part);
  return { status: response.statusCode ?? 0, connection: response.headers.connection ?? '', text };
}

for (const how of ['SIGTERM', 'SIGINT', 'message'] as const) {
  test(`${how}: what is in flight completes, readiness fails first, exit 0`, async () => {
    await running({ SHUTDOWN_LAMEDUCK: '600ms' }, async (app) => {
      const agent = new Agent({ keepAlive: true });
      assert.equal((await ask(app, '/health/ready', agent)).connection, 'keep-alive');
      const slow = ask(app, '/slow?seconds=2', new Agent({ keepAlive: true }));
      await until('the request is in flight', async () => {
        const line = JSON.parse((await ask(app, '/health/live', agent)).text) as { requestsInFlight: number };
        return line.requestsInFlight === 2;
      });
      if (how === 'message') app.child.send('shutdown');
      else app.child.kill(how);
      await app.said('draining');
      if (how !== 'message') app.child.kill(how); // a second signal is harmless
      const ready = await ask(app, '/health/ready', agent);
      assert.deepEqual([ready.status, ready.connection], [503, 'close']);
      assert.match(ready.text, /"draining"/);
      const fresh = await ask(app, '/events', new Agent());
      assert.deepEqual([fresh.status, fresh.connection], [200, 'close']);
      const answer = await slow;
      assert.deepEqual([answer.status, answer.connection], [200, 'close']);
      assert.match(answer.text, /"release":"r1"/);
      assert.deepEqual(await app.exited, { code: 0, signal: null });
      assert.equal((await app.said('stopped')).cut, 0);
    });
  });
}

test('streams are told goodbye: SSE with a last event, WebSocket with 1012', async () => {
  await running({}, async (app) => {
    const [sse] = (await once(get(`${app.url}/feed`), 'response')) as [IncomingMessage];
    let text = '';
    sse.on('data', (part) => (text += String(part)));
    const ended = once(sse, 'end');
    const socket = new WebSocket(`${app.url.replace('http', 'ws')}/ws`);
    const ticks: { release: string; counter: number }[] = [];
    socket.on('message', (data: Buffer) => ticks.push(JSON.parse(data.toString()) as never));
    const closed = once(socket, 'close');
    await until('two ticks on each', () => ticks.length >= 2 && (text.match(/^data: /gm) ?? []).length >= 2);
    assert.equal(ticks[0]!.release, 'r1');
    assert.equal(ticks[1]!.counter, ticks[0]!.counter + 1);
    app.child.kill('SIGTERM');
    await ended;
    assert.match(text, /\nevent: bye\ndata: .*\n\n$/);
    assert.equal((await closed)[0], 1012);
    assert.deepEqual(await app.exited, { code: 0, signal: null });
  });
});

test('the hard deadline holds, with exit 0 and the number of requests that were cut', async () => {
  await running({ KEEL_SHUTDOWN_TIMEOUT: '1s' }, async (app) => {
    const broken = once(get(`${app.url}/slow?seconds=60`), 'error');
    const silent = new WebSocket(`${app.url.replace('http', 'ws')}/ws`);
    await once(silent, 'open');
    (silent as unknown as { _socket: { pause(): void } })._socket.pause(); // a peer that has gone quiet
    const begun = Date.now();
    app.child.kill('SIGTERM');
    await broken;
    assert.deepEqual(await app.exited, { code: 0, signal: null });
    assert.ok(Date.now() - begun < 4_000, `took ${Date.now() - begun} ms`);
    assert.equal((await app.said('stopped')).cut, 1);
    silent.terminate();
  });
});

test('spare and idle connections do not hold it', async () => {
  await running({ KEEL_SHUTDOWN_TIMEOUT: '20s' }, async (app) => {
    const spare = connect(app.port, '127.0.0.1');
    spare.on('error', () => undefined);
    await once(spare, 'connect');
    const agent = new Agent({ keepAlive: true });
    await ask(app, '/health', agent);
    const begun = Date.now();
    app.child.kill('SIGTERM');
    assert.deepEqual(await app.exited, { code: 0, signal: null });
    assert.ok(Date.now() - begun < 6_000, `took ${Date.now() - begun} ms`);
  });
});

test('a signal while starting ends it with 0, also when PostgreSQL is away', async () => {
  const app = await AppProcess.start({ ...scratch.env, PGPORT: '1' });
  try {
    await app.said('waiting');
    app.child.kill('SIGTERM');
    assert.deepEqual(await app.exited, { code: 0, signal: null });
  } finally {
    await app.end();
  }
});

test('a stop while Redis is away ends with 0', async () => {
  const url = new URL(serviceEnv().REDIS_URL!);
  const redis = new Link(url.hostname, Number(url.port || 6379));
  await redis.restore();
  [url.hostname, url.port] = ['127.0.0.1', String(redis.port)];
  await running({ REDIS_URL: url.href }, async (app) => {
    await redis.cut();
    await app.said('Redis is away');
    app.child.kill('SIGTERM');
    assert.deepEqual(await app.exited, { code: 0, signal: null });
  });
});

test('PM2 is told when the app is ready, and not before', async () => {
  const app = await AppProcess.start({ ...scratch.env });
  try {
    await app.said('ready');
    await until("the message 'ready'", () => app.messages.includes('ready'));
  } finally {
    await app.end();
  }
  const never = await AppProcess.start({ ...scratch.env, FAULT: 'never-ready' });
  try {
    await never.said('starting', ({ stage }) => String(stage).startsWith('never ready'));
    assert.deepEqual(never.messages, []);
  } finally {
    await never.end();
  }
});
