import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './root';

/** Any number does, as long as every release of this app uses the same one. */
const LOCK = 7_203_114;

export interface Migration {
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

/** A client or a pool: only what is needed of it. */
export interface Queryable {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
}

export function migration(name: string, sql: string): Migration {
  return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
}

/** The migrations of this release in the order of their names. */
export function listMigrations(folder: string = join(packageRoot(), 'migrations')): Migration[] {
  const names = readdirSync(folder).filter((name) => name.endsWith('.sql')).sort();
  return names.map((name) => migration(name.replace(/\.sql$/, ''), readFileSync(join(folder, name), 'utf8')));
}

export async function missingMigrations(db: Queryable, wanted: Migration[] = listMigrations()): Promise<string[]> {
  const { rows } = await db.query("SELECT to_regclass('schema_migrations') IS NOT NULL AS there");
  const applied = new Map<string, string>();
  if ((rows[0] as { there: boolean }).there) {
    const found = await db.query('SELECT name, checksum FROM schema_migrations');
    for (const row of found.rows as { name: string; checksum: string }[]) applied.set(row.name, row.checksum);
  }
  return wanted.filter(({ name }) => !applied.has(name)).map(({ name }) => name);
}

/**
 * Apply what is missing, each file in a transaction of its own, and return the names. Migrators that run at the same time take turns:
 * the lock belongs to the transaction and not to the session, so that it also holds through PgBouncer.
 */
export async function migrate(client: Queryable, wanted: Migration[] = listMigrations()): Promise<string[]> {
  const applied: string[] = [];
  await transaction(client, async () => {
    await client.query(`CREATE TABLE IF NOT EXISTS schema_migrations (
      name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`);
  });
  for (const { name, sql, checksum } of wanted) {
    await transaction(client, async () => {
      const { rows } = await client.query('SELECT checksum FROM schema_migrations WHERE name = $1', [name]);
      const before = rows[0] as { checksum: string } | undefined;
      if (before && before.checksum !== checksum) throw new Error(`${name} was changed after it had been applied: add a new file instead`);
      if (before) return;
      // A migration that waits for a table lock makes every query after it wait too: better to fail and be run again.
      await client.query("SET LOCAL lock_timeout = '5s'");
      try {
        await client.query(sql);
      } catch (error) {
        throw new Error(`${name} failed`, { cause: error });
      }
      await client.query('INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)', [name, checksum]);
      applied.push(name);
    });
  }
  return applied;
}

async function transaction(client: Queryable, work: () => Promise<void>): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query('SELECT pg_advisory_xact_lock($1)', [LOCK]);
    await work();
    await client.query('COMMIT');
  } catch (error) {
    // When the connection itself is gone the server has rolled back already; the first error is the one to show.
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}
