import { type ArgumentsHost, Catch, type DynamicModule, HttpException, Module, type NestApplicationOptions } from '@nestjs/common';
import { BaseExceptionFilter, HttpAdapterHost, NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NextFunction, Request, Response } from 'express';
import { join } from 'node:path';
import { Cache } from './cache';
import { Config } from './config';
import { Database, databaseIsAway } from './database';
import { Drain } from './drain';
import { Events, EventsController } from './events';
import { badSmoke } from './faults';
import { Feed, FeedController } from './feed';
import { Health, HealthController } from './health';
import { Lifecycle, startingGate } from './lifecycle';
import { log, NestLog, reason } from './log';
import { PageController } from './page';
import { Registrations, RegistrationsController } from './registrations';
import { packageRoot } from './root';
import { SlowController } from './slow';
import { Venues, VenuesController } from './venues';

@Module({})
class AppModule {
  static with(config: Config): DynamicModule {
    return {
      module: AppModule,
      controllers: [
        HealthController, EventsController, VenuesController, RegistrationsController, SlowController, FeedController, PageController,
      ],
      providers: [{ provide: Config, useValue: config }, Lifecycle, Drain, Database, Cache, Health, Events, Venues, Registrations, Feed],
    };
  }
}

/** A database that is away is 503 and worth another try; everything else keeps Nest's own answer. */
@Catch()
class AwayFilter extends BaseExceptionFilter {
  override catch(error: unknown, host: ArgumentsHost): void {
    if (error instanceof HttpException || !databaseIsAway(error)) {
      super.catch(error, host);
      return;
    }
    log.warn('PostgreSQL is away', { reason: reason(error) });
    const response = host.switchToHttp().getResponse<Response>();
    if (!response.headersSent) {
      response.status(503).set('Retry-After', '1').json({ statusCode: 503, message: 'the database is not available' });
    }
  }
}

function requestLog(request: Request, response: Response, next: NextFunction): void {
  const begun = performance.now();
  response.once('close', () => {
    log.info('request', {
      method: request.method,
      path: request.path, // without the query: people put secrets there
      status: response.statusCode,
      ms: Math.round(performance.now() - begun),
      complete: response.writableFinished,
      id: request.get('x-request-id'),
    });
  });
  next();
}

/** The application, wired but not listening and not connected to anything yet. */
export async function createApp(config: Config, options: NestApplicationOptions = {}): Promise<NestExpressApplication> {
  const app = await NestFactory.create<NestExpressApplication>(AppModule.with(config), {
    logger: new NestLog(), abortOnError: false, ...options,
  });
  app.disable('x-powered-by');
  if (config.logRequests) app.use(requestLog);
  app.use(startingGate(app.get(Lifecycle)), badSmoke(config));
  // The name of each file holds a hash of what is in it, so it can be kept for ever.
  app.useStaticAssets(join(packageRoot(), 'static'), { prefix: '/static/', index: false, immutable: true, maxAge: '365d' });
  app.useGlobalFilters(new AwayFilter(app.get(HttpAdapterHost).httpAdapter));
  return app;
}
