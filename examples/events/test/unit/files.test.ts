import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { listMigrations } from '../../src/migrations';
import { packageRoot } from '../../src/root';

const read = (...path: string[]): string => readFileSync(join(packageRoot(), ...path), 'utf8');

test('each static file is named by what is in it, and the page uses those names', () => {
  const page = read('page.html');
  for (const name of readdirSync(join(packageRoot(), 'static'))) {
    const hash = createHash('sha256').update(read('static', name)).digest('hex').slice(0, 12);
    assert.equal(name.split('.')[1], hash, `${name} should be renamed to hold ${hash}`);
    assert.ok(page.includes(`/static/${name}`), `page.html does not use ${name}`);
  }
});

test('migrations are numbered without a gap', () => {
  listMigrations().forEach(({ name }, index) => assert.match(name, new RegExp(`^${String(index + 1).padStart(3, '0')}_[a-z_]+$`)));
});

test('the lockfile names no registry, and every package has its hash', () => {
  const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, { resolved?: string; integrity?: string }> };
  for (const [name, about] of Object.entries(packages)) {
    if (name === '') continue;
    assert.equal(about.resolved, undefined, name);
    assert.ok(about.integrity, name);
  }
});
