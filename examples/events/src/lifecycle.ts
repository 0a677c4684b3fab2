import { Injectable } from '@nestjs/common';
import type { NextFunction, Request, Response } from 'express';
import { log } from './log';

export type Phase = 'starting' | 'ready' | 'draining';

/** Where the process is in its life: starting (stage by stage), ready, draining. It never goes back. */
@Injectable()
export class Lifecycle {
  private current: Phase = 'starting';
  private currentStage = 'configuration';
  private readonly begun = Date.now();

  get phase(): Phase {
    return this.current;
  }

  /** What start-up is doing; stays at the last stage afterwards. */
  get stage(): string {
    return this.currentStage;
  }

  get draining(): boolean {
    return this.current === 'draining';
  }

  enter(stage: string): void {
    this.currentStage = stage;
    log.info('starting', { stage });
  }

  ready(): void {
    if (this.current !== 'starting') return; // told to stop while it was starting
    this.current = 'ready';
    this.currentStage = 'done';
    log.info('ready', { seconds: (Date.now() - this.begun) / 1000 });
  }

  drain(): void {
    this.current = 'draining';
  }
}

const ANSWERED_WHILE_STARTING = /^\/(health(\/|$)|version$|static\/)/;

/** Business endpoints answer 503 until start-up is through; health, version and files always answer. */
export function startingGate(life: Lifecycle) {
  return (request: Request, response: Response, next: NextFunction): void => {
    if (life.phase !== 'starting' || ANSWERED_WHILE_STARTING.test(request.path)) {
      next();
      return;
    }
    response.status(503).set('Retry-After', '1').json({ statusCode: 503, message: 'starting', stage: life.stage });
  };
}
