import type { INestApplication } from '@nestjs/common';
import { setTimeout as wait } from 'node:timers/promises';
import { Cache } from './cache';
import { Config } from './config';
import { Database } from './database';
import { Events } from './events';
import { Lifecycle } from './lifecycle';
import { log, reason } from './log';

const RETRY_MS = 250;
const CHECK_MS = 2_000;

/**
 * The stages after the configuration: database, Redis, warm cache, ready. A dependency that is away is waited for, because it may be
 * starting too; whoever started this process decides when to give up. Returns false when the process was told to stop meanwhile.
 */
export async function startUp(app: INestApplication): Promise<boolean> {
  const life = app.get(Lifecycle);
  const db = app.get(Database);
  const cache = app.get(Cache);

  await stage(life, 'database', () => db.ready());
  await stage(life, 'redis', () => cache.ready(CHECK_MS));
  await stage(life, 'warm cache', async () => void (await app.get(Events).list()));
  if (app.get(Config).fault === 'never-ready') life.enter('never ready (a fault is injected)');
  else life.ready();
  return life.phase === 'ready';
}

async function stage(life: Lifecycle, name: string, attempt: () => Promise<void>): Promise<void> {
  if (life.draining) return;
  life.enter(name);
  let said = '';
  while (!life.draining) {
    try {
      await attempt();
      return;
    } catch (error) {
      if (reason(error) !== said) log.warn('waiting', { stage: name, reason: reason(error) });
      said = reason(error);
    }
    await wait(RETRY_MS);
  }
}
