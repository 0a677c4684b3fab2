import { BadRequestException, NotFoundException } from '@nestjs/common';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Body, KeyPipe } from '../../src/body';

function faults(given: unknown): string[] {
  const body = new Body(given);
  body.text('name', 5);
  body.integer('eventId');
  body.time('startsAt');
  try {
    body.done();
  } catch (error) {
    assert.ok(error instanceof BadRequestException);
    return (error.getResponse() as { faults: string[] }).faults;
  }
  return [];
}

test('a good body passes, trimmed', () => {
  assert.deepEqual(faults({ name: ' ab ', eventId: 1, startsAt: '2031-05-17T18:00:00+02:00' }), []);
  assert.equal(new Body({ name: ' ab ' }).text('name', 5), 'ab');
});

test('every fault is told', () => {
  assert.equal(faults({}).length, 3);
  for (const notAnObject of [undefined, null, [], 'x', 1]) assert.match(faults(notAnObject)[0] ?? '', /not a JSON object/);
});

test('what PostgreSQL could not store is refused', () => {
  const good = { name: 'ab', eventId: 1, startsAt: '2031-05-17T18:00:00Z' };
  for (const name of ['', '   ', 'abcdef', 'a\u0000b', 7, null]) assert.match(faults({ ...good, name })[0] ?? '', /^name/);
  for (const eventId of [0, -1, 1.5, '1', 2 ** 31, NaN]) assert.match(faults({ ...good, eventId })[0] ?? '', /^eventId/);
  for (const startsAt of ['2031-05-17', '2031-13-45T00:00:00Z', 'now', 5]) {
    assert.match(faults({ ...good, startsAt })[0] ?? '', /^startsAt/);
  }
});

test('a key in a path is a positive integer, anything else does not exist', () => {
  assert.equal(new KeyPipe().transform('12'), 12);
  for (const text of ['0', '-1', '1e3', '2147483648', '99999999999', 'x', '']) {
    assert.throws(() => new KeyPipe().transform(text), NotFoundException);
  }
});
