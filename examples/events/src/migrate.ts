import { Client } from 'pg';
import { ConfigFaults, type PgConfig, readPg, Reader } from './config';
import { databaseIsAway } from './database';
import { FAULTS } from './faults';
import { log, reason } from './log';
import { listMigrations, migrate, migration } from './migrations';

const FAILED = 1;
const UNAVAILABLE = 69;
const CONFIGURATION = 78;

function configuration(): { pg: PgConfig; broken: boolean } {
  const read = new Reader(process.env);
  const pg = readPg(read);
  const broken = read.choice('FAULT', FAULTS) === 'migration-fails';
  read.done();
  return { pg, broken };
}

async function main(): Promise<number> {
  const { pg, broken } = configuration();
  const wanted = listMigrations();
  if (broken) wanted.push(migration('fault_migration_fails', 'ALTER TABLE a_table_that_never_was ADD COLUMN fault text'));

  const client = new Client({ ...pg, application_name: 'events-migrate', connectionTimeoutMillis: 10_000 });
  client.on('error', (error) => log.error('the connection to PostgreSQL is lost', { reason: reason(error) }));
  try {
    await client.connect();
    const applied = await migrate(client, wanted);
    log.info('migrated', { applied, known: wanted.length });
    return 0;
  } catch (error) {
    const cause = error instanceof Error && error.cause ? error.cause : undefined;
    log.error('migration stopped', { reason: reason(error), cause: cause && reason(cause) });
    return databaseIsAway(cause ?? error) ? UNAVAILABLE : FAILED;
  } finally {
    await client.end().catch((error: unknown) => log.warn('closing the connection failed', { reason: reason(error) }));
  }
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    const faults = error instanceof ConfigFaults ? error.faults : [];
    for (const fault of faults) log.error('configuration', { fault });
    if (faults.length === 0) log.error('migration stopped', { reason: reason(error) });
    process.exit(faults.length > 0 ? CONFIGURATION : FAILED);
  },
);
