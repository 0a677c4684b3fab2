import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FAULTS, type Fault } from './faults';
import { packageRoot } from './root';

type Env = Record<string, string | undefined>;

/** Everything that is wrong with the configuration, so that one start shows all of it. */
export class ConfigFaults extends Error {
  constructor(readonly faults: readonly string[]) {
    super(`configuration: ${faults.join('; ')}`);
  }
}

const UNITS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** Milliseconds of `30s`, `500ms`, `15m`, `1h`, or a bare number of seconds; undefined when it is none of these. */
export function duration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text.trim());
  return match ? Number(match[1]) * (UNITS[match[2] ?? 's'] ?? 0) : undefined;
}

/** Reads variables and collects the faults instead of stopping at the first. */
export class Reader {
  readonly faults: string[] = [];

  constructor(private readonly env: Env) {}

  /** A variable set to nothing counts as unset: Compose passes `NAME: ${NAME:-}` that way. */
  optional(name: string): string | undefined {
    return this.env[name]?.trim() || undefined;
  }

  required(name: string): string {
    const value = this.optional(name);
    if (value === undefined) this.faults.push(`${name} is not set`);
    return value ?? '';
  }

  integer(name: string, fallback: number, min: number, max: number): number {
    const text = this.optional(name);
    if (text === undefined) return fallback;
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!(value >= min && value <= max)) this.faults.push(`${name}=${text} is not a whole number from ${min} to ${max}`);
    return value;
  }

  milliseconds(name: string, fallback: string): number {
    const text = this.optional(name) ?? fallback;
    const value = duration(text);
    if (value === undefined) this.faults.push(`${name}=${text} is not a duration such as 30s`);
    return value ?? 0;
  }

  choice<T extends string>(name: string, allowed: readonly T[]): T | undefined {
    const text = this.optional(name);
    if (text !== undefined && !allowed.includes(text as T)) {
      this.faults.push(`${name}=${text} is none of: ${allowed.join(', ')}`);
    }
    return text as T | undefined;
  }

  /** Checks the address without ever putting it into a message: it may hold a password. */
  redisUrl(name: string): string {
    const text = this.required(name);
    if (text !== '' && !(URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol))) {
      this.faults.push(`${name} is not an address such as redis://redis:6379`);
    }
    return text;
  }

  done(): void {
    if (this.faults.length > 0) throw new ConfigFaults(this.faults);
  }
}

export interface PgConfig {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password: string;
}

export function readPg(read: Reader): PgConfig {
  return {
    host: read.required('PGHOST'),
    port: read.integer('PGPORT', 5432, 1, 65_535),
    database: read.required('PGDATABASE'),
    user: read.required('PGUSER'),
    password: read.required('PGPASSWORD'),
  };
}

/** The configuration of the API, valid as a whole or not made at all. */
export class Config {
  readonly name: string;
  readonly version: string;
  readonly revision: string;
  readonly release: string;
  readonly colour: string;
  readonly port: number;
  readonly pg: PgConfig;
  readonly poolSize: number;
  readonly redisUrl: string;
  /** How long an idle connection is kept for the proxy; must outlast the proxy's own limit. */
  readonly keepAliveMs: number;
  /** Time between failing readiness and closing the listener. */
  readonly lameDuckMs: number;
  /** From the signal to the moment when what is still open gets cut. */
  readonly shutdownMs: number;
  readonly logRequests: boolean;
  readonly fault: Fault | undefined;
  readonly faultAfterMs: number;

  constructor(env: Env = process.env) {
    const read = new Reader(env);
    const about = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { name: string; version: string };
    this.name = about.name;
    this.version = read.optional('APP_VERSION') ?? about.version;
    this.revision = read.optional('APP_REVISION') ?? 'unknown';
    this.release = read.optional('KEEL_RELEASE') ?? 'unreleased';
    this.colour = read.optional('KEEL_COLOUR') ?? 'none';
    this.port = read.integer('PORT', 3000, 1, 65_535);
    this.pg = readPg(read);
    this.poolSize = read.integer('PG_POOL', 10, 1, 500);
    this.redisUrl = read.redisUrl('REDIS_URL');
    this.keepAliveMs = read.milliseconds('KEEL_KEEPALIVE_APP', '65s');
    this.lameDuckMs = read.milliseconds('SHUTDOWN_LAMEDUCK', '1s');
    this.shutdownMs = read.milliseconds('KEEL_SHUTDOWN_TIMEOUT', '30s');
    if (this.lameDuckMs >= this.shutdownMs) read.faults.push('SHUTDOWN_LAMEDUCK is not shorter than KEEL_SHUTDOWN_TIMEOUT');
    this.logRequests = read.choice('LOG_REQUESTS', ['on', 'off']) === 'on';
    this.fault = read.choice('FAULT', FAULTS);
    this.faultAfterMs = read.milliseconds('FAULT_AFTER', '2s');
    read.done();
  }
}
