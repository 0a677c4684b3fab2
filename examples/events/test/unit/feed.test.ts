import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Config } from '../../src/config';
import { Feed } from '../../src/feed';
import { until } from '../support/until';

const config = new Config({
  PGHOST: 'h', PGDATABASE: 'd', PGUSER: 'u', PGPASSWORD: 'p', REDIS_URL: 'redis://r', KEEL_RELEASE: 'r1', KEEL_COLOUR: 'green',
});

test('a listener gets a tick at once, then one a second, and one goodbye', async () => {
  const feed = new Feed(config);
  const got: unknown[] = [];
  let byes = 0;
  feed.subscribe({ send: (tick) => got.push(tick), bye: () => (byes += 1) });
  assert.deepEqual(got, [{ release: 'r1', colour: 'green', counter: 0 }]);
  await until('a second tick', () => got.length >= 2);
  assert.deepEqual(got[1], { release: 'r1', colour: 'green', counter: 1 });
  feed.goodbye();
  assert.equal(byes, 1);
  assert.equal(feed.listeners, 0);
});

test('who comes after the goodbye is sent away, who has left gets nothing', () => {
  const feed = new Feed(config);
  const events: string[] = [];
  const leave = feed.subscribe({ send: () => undefined, bye: () => events.push('first') });
  leave();
  feed.goodbye();
  feed.subscribe({ send: () => events.push('tick'), bye: () => events.push('second') });
  assert.deepEqual(events, ['second']);
});
