// A tiny real application for the proxy's tests: says who it is, echoes what reached it, streams, upgrades.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

const release = process.env.KEEL_RELEASE ?? 'none';
const open = new Set();
let counter = 0;

const answers = {
  '/big': (req, res) => send(res, 200, { 'Content-Type': 'text/plain; charset=utf-8' }, 'compress me '.repeat(8192)),
  '/static/app.3f2a1b.css': (req, res) => send(res, 200, { 'Content-Type': 'text/css', 'Cache-Control': 'no-cache' }, 'body{}'),
  '/own-headers': (req, res) => send(res, 200, {
    'X-Frame-Options': 'DENY', 'Referrer-Policy': 'no-referrer', 'Content-Security-Policy': "default-src 'self'",
    'X-Powered-By': 'me' }, 'own'),
  '/cacheable': (req, res) => send(res, 200, { 'Cache-Control': 'public, max-age=60' }, `${release} ${++counter}`),
  '/unmarked': (req, res) => send(res, 200, {}, `${release} ${++counter}`),
  '/busy': (req, res) => send(res, 503, { 'Content-Type': 'application/json' }, '{"status":"draining"}'),
  '/slow': (req, res) => setTimeout(() => send(res, 200, {}, release), Number(new URL(req.url, 'http://x').searchParams.get('ms'))),
  '/events': events,
};

const server = createServer((req, res) => {
  const path = req.url.split('?')[0];
  if (answers[path]) return answers[path](req, res);
  if (path === `/static/of-${release}.css`) return send(res, 200, { 'Content-Type': 'text/css' }, release);
  if (path.startsWith('/static/')) return send(res, 404, {}, 'no such file');
  let bytes = 0;
  req.on('data', (chunk) => { bytes += chunk.length; });
  req.on('end', () => send(res, 200, { 'Content-Type': 'application/json' },
    JSON.stringify({ release, method: req.method, url: req.url, headers: req.headers, bytes })));
});

function send(res, status, headers, body) {
  res.writeHead(status, { 'Content-Length': Buffer.byteLength(body), ...headers });
  res.end(body);
}

function events(req, res) {
  res.writeHead(200, { 'Content-Type': 'text/event-stream' });
  let n = 0;
  const timer = setInterval(() => res.write(`data: ${release} ${++n}\n\n`), 100);
  res.on('close', () => clearInterval(timer));
}

server.on('upgrade', (req, socket) => {
  const accept = createHash('sha1').update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let n = 0;
  const timer = setInterval(() => {
    const text = Buffer.from(`${release} ${++n}`);
    socket.write(Buffer.concat([Buffer.from([0x81, text.length]), text]));
  }, 100);
  open.add(socket);
  socket.on('close', () => { clearInterval(timer); open.delete(socket); });
  socket.on('error', () => socket.destroy());
});

server.keepAliveTimeout = 65_000;
server.listen(3000);
process.on('SIGTERM', () => process.exit(0));
