import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { createClient } from '@redis/client';
import { Config } from './config';
import { log, reason } from './log';
import { within } from './within';

const COMMAND_MS = 1_000;

/** Redis as a cache: when it is away the app is slower and not ready, but what it answers stays right. */
@Injectable()
export class Cache implements OnApplicationShutdown {
  private readonly client;
  private readonly prefix: string;
  private lastFault: Error | undefined;
  private connecting: Promise<unknown> | undefined;

  constructor(config: Config) {
    // Environments may share one Redis server, never one database.
    this.prefix = `${config.name}:${config.pg.database}:`;
    this.client = createClient({
      url: config.redisUrl,
      disableOfflineQueue: true, // fail at once instead of collecting commands for when Redis is back
      pingInterval: 5_000,
      socket: {
        connectTimeout: 2_000,
        socketTimeout: 12_000, // a connection that does not even answer pings is dead
        reconnectStrategy: (tries) => Math.min(100 * 2 ** tries, 2_000) + Math.random() * 100,
      },
    });
    // Said once per reason, and not at every attempt; the client goes on trying by itself.
    this.client.on('error', (error: Error) => {
      if (reason(error) !== reason(this.lastFault)) log.warn('Redis is away', { reason: reason(error) });
      this.lastFault = error;
    });
    this.client.on('ready', () => {
      if (this.lastFault) log.info('Redis is back');
      this.lastFault = undefined;
    });
  }

  /** Connects, the first time it is called, and throws unless Redis answers; the client reconnects for as long as it lives. */
  async ready(ms: number): Promise<void> {
    this.connecting ??= this.client.connect();
    try {
      await within(ms, 'redis', this.connecting);
    } catch (error) {
      if (!this.client.isOpen) this.connecting = undefined; // it gave up by itself
      if (this.lastFault) throw this.lastFault;
      throw error;
    }
    await this.ping(ms);
  }

  async ping(ms: number): Promise<void> {
    if (!this.client.isReady) throw this.lastFault ?? new Error('not connected');
    await within(ms, 'redis', this.client.ping());
  }

  /** The cached text, or what `make` gives, kept for `seconds`. */
  async through(key: string, seconds: number, make: () => Promise<string>): Promise<string> {
    const cached = await this.attempt(() => this.client.get(this.prefix + key));
    if (typeof cached === 'string') return cached;
    const made = await make();
    await this.attempt(() => this.client.set(this.prefix + key, made, { expiration: { type: 'EX', value: seconds } }));
    return made;
  }

  async forget(key: string): Promise<void> {
    await this.attempt(() => this.client.del(this.prefix + key));
  }

  /** A cache that fails is a miss; the 'error' listener and readiness report it. */
  private async attempt<T>(command: () => Promise<T>): Promise<T | undefined> {
    if (!this.client.isReady) return undefined;
    try {
      return await within(COMMAND_MS, 'redis', command());
    } catch (error) {
      log.warn('a cache command failed', { reason: reason(error) });
      return undefined;
    }
  }

  async onApplicationShutdown(): Promise<void> {
    if (this.client.isReady) await within(COMMAND_MS, 'redis', this.client.close());
    else if (this.client.isOpen) this.client.destroy();
  }
}
