/**
 * /metrics: Prometheus's rules, one scrape for many requests, bounded connections and requests.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { HTTP_CONNECTIONS, HttpListener } from '../../src/server/observability/http.ts';
import { until } from '../helpers/until.ts';
import { type RunningServer, runServer } from './running-server.ts';

async function withHttp(): Promise<RunningServer & { http: number }> {
  const { freePort } = await import('../helpers/free-port.ts');
  const port = await freePort();
  const running = await runServer({ 'http-port': String(port) });
  return Object.assign(running, { http: port });
}

const scrape = async (port: number) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text();

/** The rules of promlint and of the text format that a scrape must keep; the findings. */
function lint(text: string): string[] {
  const findings: string[] = [];
  const types = new Map<string, string>();
  const helped = new Set<string>();
  const series = new Set<string>();
  let family = '';
  const done = new Set<string>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const meta = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line);
    if (meta !== null) {
      const [, kind, name, rest] = meta as unknown as [string, string, string, string];
      if (name !== family) {
        if (done.has(name)) findings.push(`${name} comes twice`);
        done.add(name);
        family = name;
      }
      if (kind === 'HELP') helped.add(name);
      else types.set(name, rest);
      continue;
    }
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(.*)\})? (\S+)$/s.exec(line);
    if (sample === null) {
      findings.push(`not a sample: ${line}`);
      continue;
    }
    const [, name, , labels = '', value] = sample as unknown as string[];
    if (series.has(`${name}{${labels}}`)) findings.push(`duplicate ${name}{${labels}}`);
    series.add(`${name}{${labels}}`);
    if (!/^([-+]?(\d|\.).*|[-+]?Inf|NaN)$/i.test(value ?? '')) findings.push(`value of ${line}`);
    const type = types.get(family);
    if (type === undefined || !helped.has(family)) findings.push(`${name} without TYPE or HELP`);
    const suffix = (name ?? '').slice(family.length);
    const fits = type === 'histogram' ? /^_(bucket|sum|count)$/.test(suffix) : suffix === '';
    if (!fits) findings.push(`${name} stands in the family ${family}`);
    if (type !== 'summary' && /\bquantile="/.test(labels)) findings.push(`quantile on ${name}`);
    if (type !== 'histogram' && /\ble="/.test(labels)) findings.push(`le on ${name}`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they end the parser's input
    if (/[\x00-\x08]/.test(labels)) findings.push(`a control character in ${name}`);
  }
  for (const [name, type] of types) {
    if (type === 'counter' && !name.endsWith('_total')) findings.push(`counter ${name}`);
    if (type !== 'counter' && name.endsWith('_total')) findings.push(`${type} named ${name}`);
    if (type !== 'histogram' && /_(bucket|sum|count)$/.test(name)) findings.push(`${type} ${name}`);
    if (/[A-Z:]/.test(name)) findings.push(`name ${name}`);
    if (/_(gauge|counter|histogram|summary)\b/.test(name)) findings.push(`type in ${name}`);
    if (/_(ms|milliseconds|kilobytes|mb|kb)(_|$)/.test(name)) findings.push(`unit of ${name}`);
  }
  return findings;
}

test('a scrape keeps the rules of Prometheus, whatever streams and groups are called', async () => {
  await using running = await withHttp();
  await using client = await running.connect();
  const names = [
    Buffer.from([0xff]),
    Buffer.from([0xfe]),
    Buffer.from([0xc3]),
    Buffer.from('\\xff'),
    Buffer.from('\\\\xff'),
    Buffer.from('a"b\\c\nd'),
    Buffer.from('a\0b'),
    Buffer.from('\ufffd'),
    Buffer.from('größe'),
    Buffer.from('__proto__'),
    Buffer.alloc(0),
  ];
  for (const name of names) {
    await client.call('XADD', name, '*', 'f', 'v');
    for (const group of names) await client.call('XGROUP', 'CREATE', name, group, '$');
  }
  await client.call('GET', 'x', 'y');
  await client.call('XREAD', 'STREAMS', 's');
  const text = await scrape(running.http);
  assert.deepEqual(lint(text), []);
  assert.equal(text.match(/^rivulet_stream_entries\{/gm)?.length, names.length);
  assert.equal(text.match(/^rivulet_group_pending\{/gm)?.length, names.length ** 2);
  assert.match(text, /^process_resident_memory_bytes \d/m);
  // The linter itself finds what it should.
  assert.equal(lint('# HELP a_total x\n# TYPE a_total gauge\na_total{quantile="1"} 1\n').length, 2);
});

test('two thousand requests in one write are one scrape, and a bounded number of answers', async () => {
  await using running = await withHttp();
  await using client = await running.connect();
  let scrapes = 0;
  const { table } = running.server.state;
  const entries = table.entries;
  Object.defineProperty(table, 'entries', {
    get: () => {
      scrapes++;
      return entries;
    },
  });
  const socket = connect({ port: running.http, host: '127.0.0.1' });
  let received = '';
  socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
  socket.on('error', () => {});
  socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(2000));
  const closed = once(socket, 'close');
  assert.equal(await client.text('PING'), '+PONG\r\n');
  await closed;
  assert.ok(scrapes <= 2, `${scrapes} scrapes`);
  assert.equal(received.match(/HTTP\/1.1 200 OK/g)?.length, 16);
  assert.match(received, /HTTP\/1.1 503/);
});

test('requests of many connections share the scrape that runs; connections are bounded', async () => {
  await using running = await withHttp();
  await using client = await running.connect();
  for (let n = 0; n < 2000; n += 100) {
    await client.pipeline(
      Array.from({ length: 100 }, (_, i) => ['XADD', `s${n + i}`, '*', 'f', 'v']),
    );
  }
  const open = new Set(
    Array.from({ length: 2 * HTTP_CONNECTIONS }, () =>
      connect({ port: running.http, host: '127.0.0.1' }),
    ),
  );
  for (const socket of open) {
    socket.on('error', () => {});
    socket.on('close', () => open.delete(socket));
    socket.resume();
  }
  await until(() => open.size <= HTTP_CONNECTIONS);
  const answers = await Promise.all(
    [...open].map(async (socket) => {
      let text = '';
      socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
      socket.write('GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      await once(socket, 'close');
      return text.startsWith('HTTP/1.1 200');
    }),
  );
  assert.equal(answers.filter(Boolean).length, HTTP_CONNECTIONS);
  assert.match(await scrape(running.http), /^rivulet_streams 2000$/m);
});

test('a client that never reads its answer gives its place back', async () => {
  await using running = await withHttp();
  // An answer of 20 MB, more than the sockets' buffers take.
  const health = { reason: 'x'.repeat(20_000_000) };
  const http = await HttpListener.open('127.0.0.1', 0, health, running.server.state.log, 500);
  const sockets: Socket[] = [];
  const open = () => {
    const socket = connect({ port: http.port, host: '127.0.0.1' });
    socket.on('error', () => {});
    sockets.push(socket);
    return socket;
  };
  /** Whether /healthz is answered on a connection of its own. */
  const isServed = async () => {
    const socket = open();
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.end('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    // Not `once`, which rejects where the connection is refused.
    await new Promise<void>((resolve) => socket.once('close', () => resolve()));
    return text.startsWith('HTTP/1.1 200');
  };
  try {
    const silent = open();
    silent.pause();
    silent.write('GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n');
    const others = Array.from({ length: http.connections - 1 }, open);
    await Promise.all(others.map((socket) => once(socket, 'connect')));
    assert.equal(await isServed(), false, 'every place is taken');
    for (let attempt = 0; attempt < 400 && !(await isServed()); attempt++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.ok(await isServed(), 'the place of the silent client is free');
  } finally {
    for (const socket of sockets) socket.destroy();
    await http.close();
  }
});

test('a scrape of many streams is done in slices', async () => {
  await using running = await withHttp();
  await using client = await running.connect();
  for (let n = 0; n < 30_000; n += 1000) {
    await client.pipeline(
      Array.from({ length: 1000 }, (_, i) => ['XADD', `s${n + i}`, '*', 'f', 'v']),
    );
  }
  const { engine } = running.server.state;
  let turns = 0;
  let clock = 0;
  // Each look at the clock is a millisecond: a slice is two of them.
  const monotonic = engine.clock.monotonic;
  (engine.clock as { monotonic: () => number }).monotonic = () => ++clock;
  let running_ = true;
  const turn = (): void => {
    turns++;
    if (running_) setImmediate(turn);
  };
  try {
    setImmediate(turn);
    const text = await scrape(running.http);
    assert.match(text, /^rivulet_streams 30000$/m);
  } finally {
    running_ = false;
    (engine.clock as { monotonic: () => number }).monotonic = monotonic;
  }
  assert.ok(turns > 100, `${turns} turns of the loop`);
});
