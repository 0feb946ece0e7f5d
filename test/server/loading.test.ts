/**
 * A server that loads its data: the port is open, answers LOADING and INFO, and goes over to the server
 * without a refused connection.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { Engine } from '../../src/engine/engine.ts';
import { Acl } from '../../src/server/acl/acl.ts';
import { runnersOf } from '../../src/server/command/command.ts';
import { CommandTable } from '../../src/server/command/command-table.ts';
import { allCommands } from '../../src/server/commands/index.ts';
import { Config } from '../../src/server/config/config.ts';
import { Listeners } from '../../src/server/connection/listener.ts';
import { LoadingPorts, LoadingProgress } from '../../src/server/loading.ts';
import { silentLogger } from '../../src/server/observability/logger.ts';
import { NoPersistence } from '../../src/server/persistence.ts';
import { ServerState } from '../../src/server/server-state.ts';
import { NullJournal } from '../../src/storage/log/journal.ts';
import { Random } from '../../src/util/random.ts';
import { systemClock } from '../../src/util/time/clock.ts';
import { makeCertificates, missingOpenssl } from '../helpers/certificates.ts';
import { freePort } from '../helpers/free-port.ts';
import { RespSession } from '../helpers/resp-session.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';

async function openPorts(parameters: Record<string, string> = {}, room = Number.POSITIVE_INFINITY) {
  const config = new Config();
  const port = await freePort();
  for (const [name, value] of Object.entries({ port: String(port), ...parameters })) {
    config.assign(name, [value]);
  }
  let now = 1000;
  const progress = new LoadingProgress(() => now, 1_700_000_000_000);
  const acl = new Acl(new CommandTable(allCommands));
  if (config.get('requirepass') !== '') acl.setRequirePass(config.get('requirepass'));
  const ports = new LoadingPorts(config, progress, acl, room);
  await ports.open();
  return {
    port,
    ports,
    progress,
    advance: (ms: number) => {
      now += ms;
    },
  };
}

test('commands are answered LOADING, and INFO with the progress', async () => {
  const { port, ports, progress, advance } = await openPorts();
  try {
    await using session = await RespSession.open(port);
    assert.equal(await session.text('PING'), '-LOADING Redis is loading the dataset in memory\r\n');
    assert.match(await session.text('INFO'), /loading:1\r\n.*loading_loaded_perc:0\.00/s);
    progress.total = 4_000_000;
    progress.read = 1_000_000;
    advance(10_000);
    const info = await session.text('info', 'persistence');
    assert.match(info, /loading_start_time:1700000000\r\n/);
    assert.match(info, /loading_total_bytes:4000000\r\n/);
    assert.match(info, /loading_loaded_bytes:1000000\r\n/);
    assert.match(info, /loading_loaded_perc:25\.00\r\n/);
    assert.match(info, /loading_eta_seconds:30\r\n/);
    assert.equal(progress.text, '25% of 4 MB of log read');
    const replies = await session.pipeline([['GET', 'a'], ['XADD', 's', '*', 'f', 'v'], ['QUIT']]);
    assert.match(replies.join(''), /^-LOADING.*\r\n-LOADING.*\r\n\+OK\r\n$/);
  } finally {
    ports.close();
  }
});

test('with a password nothing is shown, and a client that sends much before it logs in is ended', async () => {
  const { port, ports } = await openPorts({ requirepass: 'secret' });
  try {
    await using session = await RespSession.open(port);
    assert.equal(await session.text('INFO'), '-NOAUTH Authentication required.\r\n');
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('error', () => {});
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.resume();
    socket.write(`*2\r\n$3\r\nGET\r\n$60000\r\n${'x'.repeat(50_000)}`);
    socket.write(Buffer.alloc(200_000, 'x'));
    await closed;
  } finally {
    ports.close();
  }
});

test('AUTH and HELLO are run while data is loaded, and the server goes on with what they settled', async () => {
  const { port, ports } = await openPorts({ requirepass: 'secret' });
  try {
    await using session = await RespSession.open(port);
    assert.match(await session.text('HELLO', '3'), /^-NOAUTH HELLO must be called/);
    assert.match(await session.text('AUTH', 'wrong'), /^-WRONGPASS/);
    assert.equal(await session.text('GET', 'a'), '-NOAUTH Authentication required.\r\n');
    assert.equal(await session.text('AUTH', 'secret'), '+OK\r\n');
    assert.match(await session.text('GET', 'a'), /^-LOADING/);
    assert.match(await session.text('INFO'), /loading:1\r\n/);
    assert.match(
      await session.text('HELLO', '3', 'SETNAME', 'early'),
      /^%7\r\n.*\r\nproto\r\n.*:3/s,
    );
    await using other = await RespSession.open(port);
    const hello = await other.text('HELLO', '2', 'AUTH', 'default', 'secret');
    assert.match(hello, /^\*14\r\n/);
    const greetings = ports.takeClients().map(({ socket, greeting }) => {
      socket.destroy();
      return { ...greeting, user: greeting.user?.name };
    });
    assert.deepEqual(greetings, [
      { id: 1, user: 'default', name: 'early', protocol: 3 },
      { id: 2, user: 'default', name: '', protocol: 2 },
    ]);
  } finally {
    ports.close();
  }
});

test('a long command that comes while data is loaded is read to its end by the next owner', async () => {
  const { port, ports } = await openPorts();
  const sender = connect({ port, host: '127.0.0.1' });
  const command = `*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3000000\r\n${'x'.repeat(3_000_000)}\r\n`;
  try {
    const first = new Promise<string>((resolve) =>
      sender.once('data', (chunk) => resolve(String(chunk))),
    );
    sender.write(`PING\r\n${command}`);
    assert.match(await first, /^-LOADING [^-]*$/, 'no error follows');
    const [client] = ports.takeClients();
    assert.ok(client);
    const { socket } = client;
    const received: Buffer[] = [];
    let length = 0;
    const whole = new Promise<void>((resolve) =>
      socket.on('data', (chunk: Buffer) => {
        received.push(chunk);
        length += chunk.length;
        if (length >= command.length) resolve();
      }),
    );
    socket.resume();
    await whole;
    assert.equal(Buffer.concat(received).toString(), command);
    socket.destroy();
  } finally {
    sender.destroy();
    ports.close();
  }
});

test('while data is loaded no more clients are accepted than there are descriptors for', async () => {
  const { port, ports } = await openPorts({}, 2);
  try {
    await using first = await RespSession.open(port);
    await using second = await RespSession.open(port);
    for (const session of [first, second]) assert.match(await session.text('PING'), /^-LOADING/);
    const third = connect({ port, host: '127.0.0.1' });
    assert.equal(await text(third), '-ERR max number of clients reached\r\n');
  } finally {
    ports.close();
  }
});

test('a restart with more clients than descriptors is ready, and counts their places once', async () => {
  await using place = temporaryDirectory('loading-descriptors');
  const port = await freePort();
  const args = ['--port', String(port), '--appendfsync', 'no'];
  const limited = ['bash', '-c', 'ulimit -n 256 && exec "$@"', 'limited'];
  const first = await startRivulet({ directory: place.path, args, within: limited });
  const alone = await RespSession.open(first.port);
  const expected = await maxClients(alone);
  const value = Buffer.alloc(1024 * 1024, 'v');
  for (let i = 0; i < 100; i++) await alone.call('SET', `k${i}`, value);
  await first.stop('SIGKILL');
  const sockets: Socket[] = [];
  const restart = startRivulet({ directory: place.path, args, within: limited });
  try {
    let done = false;
    restart.finally(() => {
      done = true;
    });
    while (!done) {
      // Each connection, or its refusal, is awaited: no more than one is on its way.
      await new Promise<void>((resolve) => {
        const socket = connect({ port, host: '127.0.0.1' });
        socket.once('connect', () => {
          if (sockets.push(socket) > 1000) done = true;
          resolve();
        });
        socket.on('error', () => setTimeout(resolve, 5));
        socket.resume();
      });
    }
    await using second = await restart;
    for (const socket of sockets) socket.destroy();
    let session: RespSession | null = null;
    for (let i = 0; i < 400 && session === null; i++) {
      const candidate = await RespSession.open(second.port);
      if ((await candidate.text('PING').catch(() => '')) === '+PONG\r\n') session = candidate;
      else await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.ok(session, 'it serves');
    const found = await maxClients(session);
    // A file that is open at one start and closed at the other makes a small difference.
    assert.ok(Math.abs(found - expected) < 10, `${found} instead of ${expected}`);
    await session.close();
  } finally {
    for (const socket of sockets) socket.destroy();
  }
});

test('a port that is in use is reported before anything is loaded', async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const { port } = taken.address() as { port: number };
  await assert.rejects(openPorts({ port: String(port) }), /the port is in use/);
  taken.close();
});

test('the listening socket and the waiting connections are handed over', async () => {
  const { port, ports } = await openPorts();
  const waiting = connect({ port, host: '127.0.0.1' });
  const reply = new Promise<string>((resolve) =>
    waiting.once('data', (chunk) => resolve(String(chunk))),
  );
  // A whole command, and half of the next one.
  waiting.write('*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nEC');
  assert.match(await reply, /^-LOADING/);
  const server = createServer((socket) => socket.end('later'));
  const taken = ports.take({ kind: 'tcp', host: '127.0.0.1', port, optional: false });
  assert.ok(taken);
  await new Promise<void>((resolve) => server.listen(taken, resolve));
  const late = connect({ port, host: '127.0.0.1' });
  assert.equal(await text(late), 'later', 'the port is the same and never closed');
  const [client, ...others] = ports.takeClients();
  assert.ok(client && others.length === 0);
  const { socket } = client;
  const received = new Promise<string>((resolve) =>
    socket.once('data', (chunk) => resolve(String(chunk))),
  );
  socket.resume();
  assert.equal(await received, '*2\r\n$4\r\nEC', 'what was unfinished is read by the next owner');
  waiting.destroy();
  socket.destroy();
  ports.close();
  server.close();
});

async function maxClients(session: RespSession): Promise<number> {
  const reply = await session.text('CONFIG', 'GET', 'maxclients');
  return Number(/\$\d+\r\n(\d+)\r\n$/.exec(reply)?.[1]);
}

async function text(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

test('a restart answers from its first moment on, and the same connection is served', async () => {
  await using place = temporaryDirectory('loading');
  const port = await freePort();
  const args = ['--port', String(port), '--appendfsync', 'no'];
  const first = await startRivulet({ directory: place.path, args });
  const writer = await RespSession.open(first.port);
  const value = Buffer.alloc(1024 * 1024, 'v');
  for (let i = 0; i < 100; i++) await writer.call('SET', `k${i}`, value);
  await first.stop('SIGKILL');
  const restart = startRivulet({ directory: place.path, args });
  let session: RespSession | null = null;
  for (let i = 0; i < 4000 && session === null; i++) {
    session = await RespSession.open(port).catch(() => null);
    if (session === null) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.ok(session, 'the port opens');
  for (let i = 0; i < 4000; i++) {
    const reply = await session.text('DBSIZE');
    if (!reply.startsWith('-LOADING')) {
      assert.equal(reply, ':100\r\n');
      break;
    }
    assert.match(await session.text('INFO', 'persistence'), /loading:[01]\r\n/);
  }
  assert.equal(await session.text('DBSIZE'), ':100\r\n');
  await session.close();
  await using _second = await restart;
});

test('TLS ports and unix sockets reply LOADING too, and their connections are served afterwards', {
  skip: missingOpenssl,
}, async () => {
  await using place = temporaryDirectory('loading-endpoints');
  const files = makeCertificates(place.path);
  const tlsPort = await freePort();
  const path = join(place.path, 'socket');
  const config = new Config();
  const given = {
    port: '0',
    'tls-port': String(tlsPort),
    'tls-cert-file': files.cert,
    'tls-key-file': files.key,
    'tls-auth-clients': 'no',
    unixsocket: path,
    unixsocketperm: '700',
    'http-port': '0',
    appendonly: 'no',
  };
  for (const [name, value] of Object.entries(given)) config.assign(name, [value]);
  const acl = new Acl(new CommandTable(allCommands));
  const progress = new LoadingProgress(() => 0, 0);
  const loading = new LoadingPorts(config, progress, acl, Number.POSITIVE_INFINITY);
  await loading.open();
  assert.equal(statSync(path).mode & 0o777, 0o700);
  const secure = () =>
    connectTls({ port: tlsPort, host: '127.0.0.1', servername: 'localhost', ca: files.caText });
  const clients = [secure(), connect({ path })];
  for (const socket of clients) {
    const first = once(socket, 'data');
    socket.write('PING\r\nEC');
    assert.match(String(await first), /^-LOADING/);
  }
  // Its handshake begins when the data is loaded.
  const late = connect({ port: tlsPort, host: '127.0.0.1' });
  await once(late, 'connect');
  await until(() => loading.clients >= 3);

  const engine = new Engine({
    clock: systemClock,
    random: new Random(1),
    journal: new NullJournal(),
  });
  const persistence = new NoPersistence(0);
  const log = silentLogger;
  const state = new ServerState({ engine, config, commands: allCommands, acl, log, persistence });
  const listeners = new Listeners(state, runnersOf(acl.table, allCommands), loading);
  await listeners.open();
  try {
    loading.onLate = (socket) => listeners.adopt(socket, null);
    state.continueIds(loading.lastId);
    for (const { socket, greeting } of loading.takeClients()) listeners.adopt(socket, greeting);
    loading.close();
    for (const socket of clients) {
      const next = once(socket, 'data');
      socket.write('HO x\r\n');
      assert.equal(String(await next), '$1\r\nx\r\n', 'what was unfinished is run');
    }
    clients.push(connectTls({ socket: late, servername: 'localhost', ca: files.caText }));
    clients.push(secure(), connect({ path }));
    for (const socket of clients.slice(2)) {
      const reply = once(socket, 'data');
      socket.write('PING\r\n');
      assert.equal(String(await reply), '+PONG\r\n');
    }
    assert.deepEqual([...state.connections.keys()].sort(), [1, 2, 3, 4, 5]);
  } finally {
    for (const socket of [...clients, late]) socket.destroy();
    listeners.close();
    for (const connection of [...state.connections.values()]) connection.destroy();
    state.close();
  }
});

test('while data is loaded, TLS handshakes count as clients', {
  skip: missingOpenssl,
}, async () => {
  await using place = temporaryDirectory('loading-handshakes');
  const files = makeCertificates(place.path);
  const tlsPort = await freePort();
  const { ports } = await openPorts(
    {
      'tls-port': String(tlsPort),
      'tls-cert-file': files.cert,
      'tls-key-file': files.key,
      'tls-auth-clients': 'no',
    },
    2,
  );
  const sockets = [1, 2].map(() => connect({ port: tlsPort, host: '127.0.0.1' }));
  try {
    await until(() => ports.clients >= 2);
    const third = connect({ port: tlsPort, host: '127.0.0.1' });
    third.on('error', () => {});
    await once(third, 'close');
    assert.equal(ports.clients, 2);
  } finally {
    for (const socket of sockets) socket.destroy();
    ports.close();
  }
});
