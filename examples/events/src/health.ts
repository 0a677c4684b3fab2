import { Controller, Get, Header, Injectable, Res } from '@nestjs/common';
import type { Response } from 'express';
import { Cache } from './cache';
import { Config } from './config';
import { Database } from './database';
import { Drain } from './drain';
import { Feed } from './feed';
import { Lifecycle } from './lifecycle';
import { reason } from './log';

const CHECK_MS = 2_000;

interface Readiness {
  status: 'ready' | 'starting' | 'draining' | 'unavailable';
  stage: string;
  release: string;
  checks: Record<'configuration' | 'postgres' | 'redis', string>;
}

@Injectable()
export class Health {
  constructor(
    private readonly config: Config,
    private readonly life: Lifecycle,
    private readonly db: Database,
    private readonly cache: Cache,
  ) {}

  async readiness(): Promise<Readiness> {
    const [postgres, redis] = await Promise.all([outcome(this.db.ping(CHECK_MS)), outcome(this.cache.ping(CHECK_MS))]);
    // An invalid configuration never gets this far (exit 78); it is listed so that the answer is complete.
    const checks = { configuration: 'ok', postgres, redis };
    const well = Object.values(checks).every((check) => check === 'ok');
    const { phase, stage } = this.life;
    const status = phase === 'ready' && !well ? 'unavailable' : phase;
    return { status, stage, release: this.config.release, checks };
  }
}

async function outcome(check: Promise<void>): Promise<string> {
  try {
    await check;
    return 'ok';
  } catch (error) {
    // Anyone may ask: the code says enough, the message would name addresses and users. The log has both.
    const { code } = error as { code?: unknown };
    return typeof code === 'string' ? code : reason(error);
  }
}

@Controller()
export class HealthController {
  constructor(
    private readonly health: Health,
    private readonly config: Config,
    private readonly life: Lifecycle,
    private readonly db: Database,
    private readonly feed: Feed,
    private readonly drain: Drain,
  ) {}

  /** Alive: asks nobody, so that a slow database never gets a healthy process killed. */
  @Get('health')
  @Header('Cache-Control', 'no-store')
  alive(): { status: string } {
    return { status: 'ok' };
  }

  @Get('health/ready')
  @Header('Cache-Control', 'no-store')
  async ready(@Res({ passthrough: true }) response: Response): Promise<Readiness> {
    const readiness = await this.health.readiness();
    if (readiness.status !== 'ready') response.status(503).set('Retry-After', '1');
    return readiness;
  }

  @Get('health/live')
  @Header('Cache-Control', 'no-store')
  detail(): Record<string, unknown> {
    const { rss, heapUsed } = process.memoryUsage();
    return {
      status: 'ok',
      phase: this.life.phase,
      stage: this.life.stage,
      ...this.version(),
      node: process.version,
      pid: process.pid,
      uptimeSeconds: Math.round(process.uptime()),
      memoryBytes: { rss, heapUsed },
      eventLoopUtilization: Math.round(performance.eventLoopUtilization().utilization * 1_000) / 1_000,
      postgresPool: this.db.stats,
      requestsInFlight: this.drain.inFlight,
      connections: this.drain.connections,
      feedListeners: this.feed.listeners,
    };
  }

  @Get('version')
  @Header('Cache-Control', 'no-store')
  version(): Record<'name' | 'version' | 'revision' | 'release' | 'colour', string> {
    const { name, version, revision, release, colour } = this.config;
    return { name, version, revision, release, colour };
  }
}
