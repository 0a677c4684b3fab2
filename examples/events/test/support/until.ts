import { setTimeout as wait } from 'node:timers/promises';

/** Polls until `check` gives a value that is neither undefined nor false, and returns it; fails after `ms`. */
export async function until<T>(what: string, check: () => Promise<T | undefined | false> | T | undefined | false, ms = 10_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > end) throw new Error(`did not happen within ${ms} ms: ${what}`);
    await wait(20);
  }
}
