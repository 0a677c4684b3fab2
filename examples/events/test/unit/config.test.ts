import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Config, ConfigFaults, duration } from '../../src/config';

const GOOD = {
  PGHOST: 'postgres', PGDATABASE: 'events', PGUSER: 'events', PGPASSWORD: 'secret-of-pg', REDIS_URL: 'redis://:secret-of-redis@redis:6379',
};

function faults(env: Record<string, string>): readonly string[] {
  try {
    new Config(env);
  } catch (error) {
    assert.ok(error instanceof ConfigFaults);
    return error.faults;
  }
  return [];
}

test('defaults are filled in', () => {
  const config = new Config(GOOD);
  assert.equal(config.port, 3000);
  assert.equal(config.poolSize, 10);
  assert.equal(config.keepAliveMs, 65_000);
  assert.equal(config.lameDuckMs, 1_000);
  assert.equal(config.shutdownMs, 30_000);
  assert.equal(config.name, 'events');
});

test('durations take a unit, or are seconds', () => {
  assert.deepEqual(['30', '30s', '500ms', '1.5m', '1h'].map(duration), [30_000, 30_000, 500, 90_000, 3_600_000]);
  assert.deepEqual(['', 's', '-1s', '10 s', '1d', '0x10'].map(duration), Array(6).fill(undefined));
});

test('all faults are told at once', () => {
  const found = faults({
    PORT: '70000', PGPORT: 'x', PG_POOL: '0', REDIS_URL: 'http://redis', KEEL_KEEPALIVE_APP: 'soon', FAULT: 'nap', LOG_REQUESTS: 'yes',
    SHUTDOWN_LAMEDUCK: '40s',
  });
  const about = ['PORT', 'PGPORT', 'PG_POOL', 'PGHOST', 'PGDATABASE', 'PGUSER', 'PGPASSWORD', 'REDIS_URL', 'KEEL_KEEPALIVE_APP', 'FAULT',
    'LOG_REQUESTS', 'SHUTDOWN_LAMEDUCK'];
  for (const name of about) assert.ok(found.some((fault) => fault.startsWith(name)), `${name} is missing in ${found.join('; ')}`);
  assert.equal(found.length, about.length);
});

test('a variable set to nothing is not set', () => {
  assert.deepEqual(faults({ ...GOOD, PGPASSWORD: '' }), ['PGPASSWORD is not set']);
  assert.equal(new Config({ ...GOOD, FAULT: '', PORT: '' }).port, 3000);
});

test('no fault shows a secret', () => {
  const found = faults({ ...GOOD, REDIS_URL: 'rediss//:secret-of-redis@redis', PORT: 'x' }).join('\n');
  assert.doesNotMatch(found, /secret/);
});
