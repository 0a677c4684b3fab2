import type { LoggerService } from '@nestjs/common';

type Fields = Record<string, unknown>;

function write(level: string, message: string, fields: Fields = {}): void {
  process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...fields })}\n`);
}

/** JSON lines on stdout; whoever runs the app collects them. */
export const log = {
  info: (message: string, fields?: Fields) => write('info', message, fields),
  warn: (message: string, fields?: Fields) => write('warn', message, fields),
  error: (message: string, fields?: Fields) => write('error', message, fields),
};

/** A short reason for people: the code where there is one (ECONNREFUSED, 57P03), else the message. */
export function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = (error as { code?: unknown }).code;
  if (typeof code === 'string') return error.message ? `${code}: ${error.message}` : code;
  return error.message || error.name;
}

/** Nest's own messages in the same form: its faults only, not the list of routes at every start. */
export class NestLog implements LoggerService {
  log(): void {}

  warn(message: unknown, ...rest: unknown[]): void {
    log.warn(text(message), { context: rest.at(-1) });
  }

  error(message: unknown, ...rest: unknown[]): void {
    const [stack, context] = rest.length > 1 ? rest : [undefined, rest[0]];
    log.error(text(message), { context, stack: stack ?? (message instanceof Error ? message.stack : undefined) });
  }
}

function text(message: unknown): string {
  return message instanceof Error ? reason(message) : String(message);
}
