import 'reflect-metadata';
import { createApp } from './app';
import { Config, ConfigFaults } from './config';
import { Drain } from './drain';
import { faultAtStart, faultWhenReady, portToListenOn } from './faults';
import { Feed, serveWebSocket } from './feed';
import { Lifecycle } from './lifecycle';
import { log, reason } from './log';
import { startUp } from './startup';
import { within } from './within';

const BROKEN = 1;
const CONFIGURATION = 78;
/** For the pools, after the last answer is out. */
const CLOSE_MS = 3_000;

function readConfig(): Config {
  try {
    return new Config();
  } catch (error) {
    if (!(error instanceof ConfigFaults)) throw error;
    for (const fault of error.faults) log.error('configuration', { fault });
    process.exit(CONFIGURATION);
  }
}

/** Calls `stop` once, at whatever comes first; a second signal changes nothing. */
function onStop(stop: (why: string) => Promise<void>): void {
  let stopping = false;
  const once = (why: string): void => {
    if (stopping) {
      log.info('already stopping', { why });
      return;
    }
    stopping = true;
    stop(why).catch(die);
  };
  process.on('SIGTERM', () => once('SIGTERM'));
  process.on('SIGINT', () => once('SIGINT'));
  process.on('message', (message) => {
    if (message === 'shutdown') once('message from PM2');
  });
}

function die(error: unknown): never {
  log.error('broken', { reason: reason(error), stack: error instanceof Error ? error.stack : undefined });
  process.exit(BROKEN);
}

async function main(): Promise<void> {
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);
  const config = readConfig();
  faultAtStart(config);
  let stop: (why: string) => Promise<void> = () => process.exit(0); // nobody has been let in yet
  onStop((why) => stop(why));

  const app = await createApp(config);
  const server = app.getHttpServer();
  const life = app.get(Lifecycle);
  const feed = app.get(Feed);
  const drain = app.get(Drain);
  drain.watch(server);
  server.keepAliveTimeout = config.keepAliveMs;
  server.headersTimeout = config.keepAliveMs + 5_000;
  serveWebSocket(server, feed, life);

  const port = portToListenOn(config);
  await app.listen(port, '0.0.0.0');
  stop = async (why) => {
    log.info('draining', { why, inFlight: drain.inFlight, connections: drain.connections });
    const cut = await drain.run(() => feed.goodbye());
    await within(CLOSE_MS, 'closing the pools', app.close()).catch((error: unknown) => log.warn('not closed', { reason: reason(error) }));
    log.info('stopped', { cut });
    process.exit(0);
  };
  log.info('listening', { port, release: config.release, colour: config.colour, version: config.version, pid: process.pid });
  if (await startUp(app)) {
    process.send?.('ready'); // PM2 with wait_ready
    faultWhenReady(config);
  }
}

main().catch(die);
