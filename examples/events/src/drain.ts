import { Inject, Injectable } from '@nestjs/common';
import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { Config } from './config';
import { Lifecycle } from './lifecycle';
import { log } from './log';

const SWEEP_MS = 500;
/** A connection that never carried a byte is spare once it is this old: a client that means to ask has asked by then. */
const SPARE_MS = 2_000;

interface Limits {
  readonly lameDuckMs: number;
  readonly shutdownMs: number;
}

/** Knows the server's open connections and answers, and ends them without cutting one that is in use. */
@Injectable()
export class Drain {
  private readonly unanswered = new Set<ServerResponse>();
  private readonly sockets = new Map<Socket, number>();

  private server: Server | undefined;

  constructor(
    private readonly life: Lifecycle,
    @Inject(Config) private readonly limits: Limits,
  ) {}

  /** To be called before the server listens. */
  watch(server: Server): void {
    this.server = server;
    server.on('connection', (socket: Socket) => {
      this.sockets.set(socket, Date.now());
      socket.once('close', () => this.sockets.delete(socket));
    });
    // Before Nest's own listener, so that the header is there whoever answers.
    server.prependListener('request', (_request, response: ServerResponse) => {
      if (this.life.draining) response.setHeader('Connection', 'close');
      this.unanswered.add(response);
      response.once('close', () => this.unanswered.delete(response));
    });
  }

  get inFlight(): number {
    return this.unanswered.size;
  }

  get connections(): number {
    return this.sockets.size;
  }

  /**
   * Fail readiness, tell every client to reconnect elsewhere, wait for the proxy to notice, then close the listener and wait until
   * the last answer is out. `goodbye` ends the streams, which would never end by themselves. Returns how many requests were cut.
   */
  async run(goodbye: () => void): Promise<number> {
    const server = this.server;
    if (!server) throw new Error('no server is watched');
    const deadline = Date.now() + this.limits.shutdownMs;
    this.life.drain();
    for (const response of this.unanswered) {
      if (!response.headersSent) response.setHeader('Connection', 'close');
    }
    await wait(this.limits.lameDuckMs);

    const closed = new Promise<void>((resolve, reject) => {
      server.close((error) => (error ? reject(error) : resolve()));
    });
    goodbye();
    let cut = 0;
    const sweep = setInterval(() => this.sweep(server), SWEEP_MS);
    const hard = setTimeout(() => {
      cut = this.inFlight;
      log.warn('drain exceeded, connections are cut', { requests: cut, connections: this.connections });
      server.closeAllConnections();
      for (const socket of this.sockets.keys()) socket.destroy(); // upgraded ones are no longer the server's own
    }, deadline - Date.now());
    try {
      await closed;
    } finally {
      clearInterval(sweep);
      clearTimeout(hard);
    }
    return cut;
  }

  private sweep(server: Server): void {
    server.closeIdleConnections();
    // Proxies open spare connections ahead of need; Node does not count one without a first byte as idle, and would wait for it.
    for (const [socket, since] of this.sockets) {
      if (socket.bytesRead === 0 && Date.now() - since > SPARE_MS) socket.destroy();
    }
  }
}
