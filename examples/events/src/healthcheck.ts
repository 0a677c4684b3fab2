import { get } from 'node:http';

/** The container's own health check: exit 0 when ready. The image needs no curl for it. */
const url = `http://127.0.0.1:${process.env.PORT || 3000}/health/ready`;
const request = get(url, { timeout: 4_000 }, (response) => {
  response.resume();
  process.exitCode = response.statusCode === 200 ? 0 : 1;
});
request.on('timeout', () => request.destroy(new Error('no answer')));
request.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
