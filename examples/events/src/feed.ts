import { Controller, Get, Injectable, Res } from '@nestjs/common';
import type { Response } from 'express';
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import { Config } from './config';
import { Lifecycle } from './lifecycle';

interface Tick {
  release: string;
  colour: string;
  counter: number;
}

interface Subscriber {
  send(tick: Tick): void;
  /** Say that the stream ends here on purpose, and end it. */
  bye(): void;
}

/** A reader that has left this much unread is gone or hopeless; keeping it would only cost memory. */
const LARGEST_BACKLOG = 1024 * 1024;
const SERVICE_RESTART = 1012; // RFC 6455 registry of close codes
const CLOSE_MS = 3_000;

/** One tick a second to everyone who listens, by whichever transport. */
@Injectable()
export class Feed {
  private readonly subscribers = new Set<Subscriber>();
  private counter = 0;
  private timer: NodeJS.Timeout | undefined;
  private over = false;

  constructor(private readonly config: Config) {}

  get listeners(): number {
    return this.subscribers.size;
  }

  /** The first tick comes at once; returns how to unsubscribe. */
  subscribe(subscriber: Subscriber): () => void {
    if (this.over) {
      subscriber.bye();
      return () => undefined;
    }
    this.timer ??= setInterval(() => this.tick(), 1_000).unref();
    this.subscribers.add(subscriber);
    subscriber.send(this.now());
    return () => this.subscribers.delete(subscriber);
  }

  goodbye(): void {
    this.over = true;
    clearInterval(this.timer);
    for (const subscriber of this.subscribers) subscriber.bye();
    this.subscribers.clear();
  }

  private tick(): void {
    this.counter += 1;
    for (const subscriber of this.subscribers) subscriber.send(this.now());
  }

  private now(): Tick {
    return { release: this.config.release, colour: this.config.colour, counter: this.counter };
  }
}

@Controller('feed')
export class FeedController {
  constructor(private readonly feed: Feed) {}

  /** Server-sent events. */
  @Get()
  open(@Res() response: Response): void {
    response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-store, no-transform', // a compressing proxy would hold events back
      'X-Accel-Buffering': 'no',
    });
    // Listeners of a release that stops come back at different moments, not all at once.
    response.write(`retry: ${500 + Math.floor(Math.random() * 1_500)}\n\n`);
    const unsubscribe = this.feed.subscribe({
      send: (tick) => {
        if (response.writableLength > LARGEST_BACKLOG) response.destroy();
        else response.write(`id: ${tick.counter}\ndata: ${JSON.stringify(tick)}\n\n`);
      },
      bye: () => response.end('event: bye\ndata: {"reason":"service restart"}\n\n'),
    });
    response.once('close', unsubscribe);
  }
}

/** The same ticks over a WebSocket at /ws. */
export function serveWebSocket(server: Server, feed: Feed, life: Lifecycle): void {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: 1024 });
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    const path = request.url?.split('?')[0];
    if (path !== '/ws' || life.phase === 'starting') {
      const status = path === '/ws' ? '503 Service Unavailable\r\nRetry-After: 1' : '404 Not Found';
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (client) => follow(client, feed));
  });
}

function follow(client: WebSocket, feed: Feed): void {
  const unsubscribe = feed.subscribe({
    send: (tick) => {
      if (client.bufferedAmount > LARGEST_BACKLOG) client.terminate();
      else client.send(JSON.stringify(tick));
    },
    bye: () => {
      client.close(SERVICE_RESTART, 'service restart');
      setTimeout(() => client.terminate(), CLOSE_MS).unref(); // a peer that does not close its side
    },
  });
  client.on('error', () => client.terminate());
  client.once('close', unsubscribe);
}
