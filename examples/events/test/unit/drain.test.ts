import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, createServer, get, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { Drain } from '../../src/drain';
import { Lifecycle } from '../../src/lifecycle';
import { until } from '../support/until';

const LIMITS = { lameDuckMs: 100, shutdownMs: 20_000 };

async function serve(t: TestContext, listener: RequestListener, limits = LIMITS): Promise<{ server: Server; drain: Drain; port: number }> {
  const server = createServer(listener);
  const drain = new Drain(new Lifecycle(), limits);
  drain.watch(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { server, drain, port: (server.address() as AddressInfo).port };
}

async function ask(port: number, agent: Agent): Promise<IncomingMessage> {
  const [response] = (await once(get({ port, host: '127.0.0.1', agent }), 'response')) as [IncomingMessage];
  response.resume();
  await once(response, 'end');
  return response;
}

test('an answer in flight is completed and closes its connection', async (t) => {
  let finish: () => void = () => assert.fail('no request came');
  const { drain, port } = await serve(t, (_request, response) => {
    finish = () => response.end('done');
  });
  const answer = ask(port, new Agent({ keepAlive: true }));
  await until('the request is in', () => drain.inFlight === 1);
  const drained = drain.run(() => finish());
  assert.equal((await answer).headers.connection, 'close');
  assert.equal(await drained, 0);
});

test('while the lame duck waits, new requests are served and told to close', async (t) => {
  const { drain, port } = await serve(t, (_request, response) => response.end('ok'), { ...LIMITS, lameDuckMs: 500 });
  const agent = new Agent({ keepAlive: true });
  assert.equal((await ask(port, agent)).headers.connection, 'keep-alive');
  const drained = drain.run(() => undefined);
  const during = await ask(port, agent);
  assert.equal(during.statusCode, 200);
  assert.equal(during.headers.connection, 'close');
  assert.equal(await drained, 0);
});

test('a spare connection without a byte does not hold the process until the hard deadline', async (t) => {
  const { drain, port } = await serve(t, (_request, response) => response.end('ok'));
  const spare = connect(port, '127.0.0.1');
  await until('it is accepted', () => drain.connections === 1);
  const begun = Date.now();
  assert.equal(await drain.run(() => undefined), 0);
  assert.ok(Date.now() - begun < 5_000, `took ${Date.now() - begun} ms`);
  spare.destroy();
});

test('at the hard deadline what is left is cut, and counted', async (t) => {
  const { drain, port } = await serve(t, () => undefined, { lameDuckMs: 50, shutdownMs: 600 });
  const request = get({ port, host: '127.0.0.1' });
  const broken = once(request, 'error');
  await until('the request is in', () => drain.inFlight === 1);
  await Promise.all([
    assert.doesNotReject(broken),
    drain.run(() => undefined).then((cut) => assert.equal(cut, 1)),
  ]);
});
