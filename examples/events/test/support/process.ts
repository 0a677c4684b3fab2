import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '../../src/root';
import { until } from './until';

export type Line = Record<string, unknown> & { message: string };

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** The built app as a process of its own, started as the image and PM2 start it. */
export class AppProcess {
  readonly lines: Line[] = [];
  readonly messages: unknown[] = [];
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly url: string;

  private constructor(
    readonly child: ChildProcess,
    readonly port: number,
  ) {
    this.url = `http://127.0.0.1:${port}`;
    this.exited = new Promise((resolve) => child.once('close', (code, signal) => resolve({ code, signal })));
    child.on('message', (message) => this.messages.push(message));
    if (child.stdout) createInterface(child.stdout).on('line', (line) => this.lines.push(JSON.parse(line) as Line));
  }

  static async start(env: Record<string, string>, script = 'dist/main.js'): Promise<AppProcess> {
    const port = Number(env.PORT ?? (await freePort()));
    // Nothing is inherited but PATH: a variable of the machine that runs the test must not decide it.
    const child = fork(join(packageRoot(), script), {
      env: { PATH: process.env.PATH, PORT: String(port), SHUTDOWN_LAMEDUCK: '300ms', KEEL_RELEASE: 'r1', KEEL_COLOUR: 'blue', ...env },
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      execArgv: [],
    });
    return new AppProcess(child, port);
  }

  static async ready(env: Record<string, string>): Promise<AppProcess> {
    const app = await AppProcess.start(env);
    await app.said('ready');
    return app;
  }

  /** The first log line with this message. */
  async said(message: string, matches: (line: Line) => boolean = () => true): Promise<Line> {
    return until(`the app logs '${message}'; it said ${JSON.stringify(this.lines.slice(-5))}`, () => {
      const found = this.lines.find((line) => line.message === message && matches(line));
      if (!found && this.child.exitCode !== null) throw new Error(`exited ${this.child.exitCode}: ${JSON.stringify(this.lines)}`);
      return found;
    });
  }

  /** For the end of a test: gone for certain, however the test went. */
  async end(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    await this.exited;
  }
}

/** Runs the project's own smoke test; throws with what it said when it fails. */
export function smoke(env: Record<string, string>): string {
  return execFileSync(join(packageRoot(), 'smoke'), { env: { PATH: process.env.PATH, ...env }, encoding: 'utf8', stdio: 'pipe' });
}
