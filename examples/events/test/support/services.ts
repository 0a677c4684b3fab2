import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { Config } from '../../src/config';
import { listMigrations, migrate } from '../../src/migrations';

/** The variables of the real PostgreSQL and Redis. A test without them fails: one that was skipped would prove nothing. */
export function serviceEnv(): Record<string, string> {
  const names = ['PGHOST', 'PGPORT', 'PGUSER', 'PGPASSWORD', 'REDIS_URL'];
  const missing = names.filter((name) => !process.env[name]);
  if (missing.length > 0) throw new Error(`these tests need a real PostgreSQL and Redis: set ${missing.join(', ')}`);
  return Object.fromEntries(names.map((name) => [name, process.env[name] as string]));
}

async function asAdmin(statement: string): Promise<void> {
  const { PGHOST: host, PGPORT: port, PGUSER: user, PGPASSWORD: password } = serviceEnv();
  const client = new Client({ host, port: Number(port), user, password, database: 'postgres' });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

export interface Scratch {
  readonly env: Record<string, string>;
  connect(): Promise<Client>;
  drop(): Promise<void>;
}

/** A database of its own for one test file, so that tests never meet somebody's data; its cache keys carry its name too. */
export async function scratchDatabase(migrated = true): Promise<Scratch> {
  const database = `events_test_${randomBytes(6).toString('hex')}`;
  await asAdmin(`CREATE DATABASE ${database}`);
  const env = { ...serviceEnv(), PGDATABASE: database };
  const connect = async (): Promise<Client> => {
    const client = new Client({ ...new Config(env).pg });
    await client.connect();
    return client;
  };
  if (migrated) {
    const client = await connect();
    await migrate(client, listMigrations());
    await client.end();
  }
  return { env, connect, drop: () => asAdmin(`DROP DATABASE ${database} WITH (FORCE)`) };
}
