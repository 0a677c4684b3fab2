import type { NextFunction, Request, Response } from 'express';
import { log } from './log';

/** Ways to be a sick release, for the tests that prove that one never gets traffic. Set by FAULT, never in production. */
export const FAULTS = ['exit-at-start', 'never-ready', 'ready-then-die', 'wrong-port', 'bad-smoke', 'migration-fails'] as const;
export type Fault = (typeof FAULTS)[number];

interface Faulty {
  readonly fault: Fault | undefined;
  readonly faultAfterMs: number;
  readonly port: number;
}

export function faultAtStart({ fault }: Faulty): void {
  if (fault === undefined) return;
  log.warn('a fault is injected', { fault });
  if (fault === 'exit-at-start') {
    log.error('giving up at start', { fault });
    process.exit(1);
  }
}

export function portToListenOn({ fault, port }: Faulty): number {
  return fault === 'wrong-port' ? port + 1 : port;
}

export function faultWhenReady({ fault, faultAfterMs }: Faulty): void {
  if (fault !== 'ready-then-die') return;
  setTimeout(() => {
    log.error('dying after having been ready', { fault });
    process.exit(1);
  }, faultAfterMs);
}

/** One journey that answers 500 while readiness stays green. */
export function badSmoke({ fault }: Faulty) {
  return (request: Request, response: Response, next: NextFunction): void => {
    if (fault === 'bad-smoke' && request.path === '/events') {
      response.status(500).json({ statusCode: 500, message: 'a fault is injected: bad-smoke' });
    } else {
      next();
    }
  };
}
