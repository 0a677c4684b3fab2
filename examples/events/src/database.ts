import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { Pool, type QueryResultRow } from 'pg';
import { Config } from './config';
import { log, reason } from './log';
import { missingMigrations } from './migrations';
import { within } from './within';

/** Class 08 (connection), 57P (server going down or coming up), 53 (out of connections), and what the socket itself says. */
const AWAY = /^(08|57P|53|ECONN|EPIPE|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH)/;
/** The pool and the driver name these only by message. */
const AWAY_MESSAGES = ['timeout exceeded when trying to connect', 'Connection terminated', 'Query read timeout', 'Client has encountered'];

/** True when PostgreSQL was not there to answer, so that trying again later makes sense. */
export function databaseIsAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = (error as { code?: unknown }).code;
  return (typeof code === 'string' && AWAY.test(code)) || AWAY_MESSAGES.some((start) => error.message.startsWith(start));
}

/** The connection pool. It opens connections as needed, so it survives a restart of PostgreSQL without doing anything about it. */
@Injectable()
export class Database implements OnApplicationShutdown {
  private readonly pool: Pool;

  constructor(config: Config) {
    this.pool = new Pool({
      ...config.pg,
      max: config.poolSize,
      application_name: `${config.name}-${config.colour}`,
      connectionTimeoutMillis: 5_000,
      idleTimeoutMillis: 30_000,
      // Kept by the driver and not the server: a start-up parameter would not pass through PgBouncer.
      query_timeout: 10_000,
      keepAlive: true,
    });
    // An idle connection that the server closes is reported here; without a listener it would end the process.
    this.pool.on('error', (error) => log.warn('an idle PostgreSQL connection is lost', { reason: reason(error) }));
  }

  async query<Row extends QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return (await this.pool.query<Row>(text, values)).rows;
  }

  async ping(ms: number): Promise<void> {
    await within(ms, 'postgres', this.pool.query('SELECT 1'));
  }

  /** Throws unless PostgreSQL answers and has every migration that this release was built with. */
  async ready(): Promise<void> {
    const missing = await missingMigrations(this.pool);
    if (missing.length > 0) throw new Error(`not migrated: ${missing.join(', ')}`);
  }

  get stats(): { total: number; idle: number; waiting: number } {
    return { total: this.pool.totalCount, idle: this.pool.idleCount, waiting: this.pool.waitingCount };
  }

  async onApplicationShutdown(): Promise<void> {
    await this.pool.end();
  }
}
