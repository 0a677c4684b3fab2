import type { Request, Response } from 'express';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lifecycle, startingGate } from '../../src/lifecycle';
import { reason } from '../../src/log';
import { databaseIsAway } from '../../src/database';

function passes(life: Lifecycle, path: string): boolean {
  let passed = false;
  const response = { status: () => response, set: () => response, json: () => response };
  startingGate(life)({ path } as Request, response as unknown as Response, () => (passed = true));
  return passed;
}

test('only health, version and files answer while starting', () => {
  const life = new Lifecycle();
  for (const path of ['/health', '/health/ready', '/health/live', '/version', '/static/a.js']) assert.ok(passes(life, path), path);
  for (const path of ['/', '/events', '/healthy', '/versions', '/feed']) assert.ok(!passes(life, path), path);
  life.ready();
  assert.ok(passes(life, '/events'));
  life.drain();
  assert.ok(passes(life, '/events'), 'a draining release still serves what reaches it');
});

test('a process told to stop never becomes ready', () => {
  const life = new Lifecycle();
  life.drain();
  life.ready();
  assert.equal(life.phase, 'draining');
});

test('an absent database is told from a faulty query', () => {
  const coded = (code: string): Error => Object.assign(new Error('x'), { code });
  for (const code of ['ECONNREFUSED', '57P01', '57P03', '08006', '53300', 'ENOTFOUND']) assert.ok(databaseIsAway(coded(code)), code);
  for (const code of ['23505', '42P01', '22021']) assert.ok(!databaseIsAway(coded(code)), code);
  assert.ok(databaseIsAway(new Error('Connection terminated unexpectedly')));
  assert.ok(!databaseIsAway(new Error('something else')));
  assert.equal(reason(coded('57P03')), '57P03: x');
});
