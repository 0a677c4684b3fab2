// Development: the TypeScript compiler in watch mode, and the app restarted whenever the compiler has written dist/.
import { spawn, spawnSync } from 'node:child_process';

const tsc = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'];
const options = { cwd: import.meta.dirname, stdio: 'inherit' };

// A first build that fails does not end the session: the watcher shows the error, and the fix.
spawnSync(process.execPath, tsc, options);
const children = [
  spawn(process.execPath, [...tsc, '--watch', '--preserveWatchOutput'], options),
  spawn(process.execPath, ['--watch', '--watch-preserve-output', 'dist/main.js'], {
    ...options,
    // Nobody waits behind a proxy here, so a restart need not be announced first.
    env: { ...process.env, SHUTDOWN_LAMEDUCK: process.env.SHUTDOWN_LAMEDUCK ?? '0s' },
  }),
];

let stopping = false;
function stop() {
  stopping = true;
  for (const child of children) child.kill('SIGTERM');
}
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, stop);
for (const child of children) {
  child.on('exit', (code) => {
    if (stopping) return;
    process.exitCode = code ?? 1; // one of the two is gone: the session is over
    stop();
  });
}
