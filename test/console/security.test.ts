/**
 * The console attacked by raw HTTP: Host, Origin, form posts, logins, permissions, framing, paths.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { connect as connectTo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openBroker } from '../../src/broker/open-broker.ts';
import { Sessions } from '../../src/console/http/sessions.ts';
import { StaticFiles } from '../../src/console/http/static-files.ts';
import type { Account } from '../../src/console/http/users.ts';
import { signal, workflow, workflows } from '../../src/workflow/index.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { type OpenConsole, openConsole } from './fixture.ts';

const LOGIN = { user: 'default', password: 'secret' };

test('a Host that is not a name of the console is answered 421 before anything else', async () => {
  await using console = await openConsole();
  const { port } = console;
  for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1.evil.example', '[::2]']) {
    for (const path of ['/', '/console/', '/console/api/v1/', '/console/api/v1/nothing']) {
      const answer = await console.ask(path, { headers: { host } });
      assert.equal(answer.status, 421, `${host} ${path}`);
    }
  }
  for (const host of ['localhost', '127.0.0.1', `LOCALHOST:${port}`, '[::1]:1']) {
    assert.equal((await console.ask('', { headers: { host } })).status, 200, host);
  }
});

test('--console-host allows further names', async () => {
  await using console = await openConsole({ 'console-host': 'queue.example, other.example' });
  const ask = (host: string) => console.ask('', { headers: { host } });
  assert.equal((await ask('queue.example:80')).status, 200);
  assert.equal((await ask('other.example')).status, 200);
  assert.equal((await ask('third.example')).status, 421);
});

test('no reply has a CORS header, and every one has the security headers', async () => {
  await using console = await openConsole();
  const paths = ['/', '/console/', '/console/x.js', '', 'topics', 'topics/none', 'nothing'];
  for (const path of paths) {
    const origin = `http://127.0.0.1:${console.port}`;
    const answer = await console.ask(path, { headers: { origin } });
    const headers = answer.headers as Record<string, string | undefined>;
    assert.deepEqual(
      Object.keys(headers).filter((name) => name.startsWith('access-control')),
      [],
    );
    assert.match(
      headers['content-security-policy'] ?? '',
      /^default-src 'none'; script-src 'self';/,
    );
    assert.match(headers['content-security-policy'] ?? '', /frame-ancestors 'none'/);
    assert.match(headers['content-security-policy'] ?? '', /require-trusted-types-for 'script'/);
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['x-frame-options'], 'DENY');
    assert.equal(headers['cross-origin-opener-policy'], 'same-origin');
    assert.equal(headers['cross-origin-resource-policy'], 'same-origin');
    assert.equal(headers['referrer-policy'], 'no-referrer');
    assert.equal(headers['cache-control'], 'no-store');
  }
  assert.equal((await console.ask('', { method: 'OPTIONS' })).status, 400);
});

test('a page of another site can neither read nor write', async () => {
  await using console = await openConsole();
  const own = `http://127.0.0.1:${console.port}`;
  const attacks: Record<string, string>[] = [
    { origin: 'http://evil.example' },
    { origin: 'null' },
    { origin: `https://127.0.0.1:${console.port}` },
    { origin: 'http://127.0.0.1:1' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: own, 'sec-fetch-site': 'cross-site' },
  ];
  for (const headers of attacks) {
    const shown = JSON.stringify(headers);
    assert.equal((await console.ask('topics', { headers })).status, 403, shown);
    const write = { method: 'POST', headers, body: LOGIN };
    assert.equal((await console.ask('session', write)).status, 403, shown);
  }
  const headers = { origin: own, 'sec-fetch-site': 'same-origin' };
  assert.equal((await console.ask('topics', { headers })).status, 200);
});

test('what changes something must be JSON', async () => {
  await using console = await openConsole();
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; b=1',
    '',
  ]) {
    const answer = await console.ask('session', {
      method: 'POST',
      headers: { 'content-type': type },
      body: JSON.stringify(LOGIN),
    });
    assert.equal(answer.status, 400, type);
  }
});

test('a write with a cookie and no word of where it comes from is refused', async () => {
  await using console = await openConsole({ requirepass: 'secret' }, [], { password: 'secret' });
  const cookie = await loggedIn(console);
  const answer = await console.ask('session', { method: 'DELETE', headers: { cookie } });
  assert.equal(answer.status, 400, 'no content type');
  const json = { cookie, 'content-type': 'application/json' };
  assert.equal((await console.ask('session', { method: 'DELETE', headers: json })).status, 403);
  const headers = { ...json, origin: `http://127.0.0.1:${console.port}` };
  assert.equal((await console.ask('session', { method: 'DELETE', headers })).status, 204);
  assert.equal((await console.ask('topics', { headers: { cookie } })).status, 401, 'logged out');
});

test('a console without a password answers on this machine only', async () => {
  await using console = await openConsole({ 'http-bind': '0.0.0.0' });
  assert.equal((await console.ask('')).status, 200);
  const address = Object.values(networkInterfaces())
    .flat()
    .find((each) => each?.family === 'IPv4' && !each.internal)?.address;
  // On a machine without a network there is no address to refuse.
  if (address === undefined) return;
  const answer = await console.ask('', { at: address, headers: { host: 'localhost' } });
  assert.equal(answer.status, 403);
  assert.match(answer.json().hint, /password/);
});

test('with a password a login is needed: cookie, Basic or Bearer', async () => {
  await using console = await openConsole({ requirepass: 'secret' }, [], { password: 'secret' });
  const { port } = console;
  assert.equal((await console.ask('topics')).status, 401);
  assert.equal((await console.ask('live?watch=overview')).status, 401);
  const ask = (authorization: string) => console.ask('topics', { headers: { authorization } });
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
  assert.equal((await ask(basic('default:secret'))).status, 200);
  assert.equal((await ask('Bearer secret')).status, 200);
  assert.equal((await ask('Bearer default:secret')).status, 200);
  assert.equal((await ask(basic('default:wrong'))).status, 401);
  assert.equal((await ask('Digest x')).status, 401);
  const answer = await console.ask('session', { method: 'POST', body: LOGIN });
  assert.equal(answer.status, 200);
  const cookie = String(answer.headers['set-cookie']);
  assert.match(cookie, new RegExp(`^rivulet_console_${port}=[\\w-]{43}; `));
  assert.match(cookie, /HttpOnly; SameSite=Strict; Max-Age=43200/);
  assert.ok(!answer.text.includes('secret'));
  const headers = { cookie: cookie.split(';')[0]! };
  assert.equal((await console.ask('topics', { headers })).status, 200);
  assert.equal(
    (await console.ask('topics', { headers: { cookie: 'rivulet_console=x' } })).status,
    401,
  );
});

test('after five wrong passwords one try a second is looked at', async () => {
  await using console = await openConsole({ requirepass: 'secret' }, [], { password: 'secret' });
  const attempt = (password: string) =>
    console.ask('session', { method: 'POST', body: { user: 'default', password } });
  for (let i = 0; i < 5; i++) assert.equal((await attempt(`wrong${i}`)).status, 401);
  assert.equal((await attempt('secret')).status, 429, 'the right one tells a guesser nothing');
});

test('failed tries come back one a second, and sessions end after 12 hours', async () => {
  let now = 0;
  const account = { name: 'a', roles: [], isValid: true, viewer: () => undefined as never };
  const users = {
    canLogin: true,
    asksElsewhere: false,
    open: null,
    login: async (_: string, password: string) => (password === 'right' ? account : null),
    close() {},
  };
  const sessions = new Sessions(users, 1, true, () => now);
  const codeOf = (password: string, address = '1.1.1.1') =>
    sessions.open('a', password, address).then(
      () => 'in',
      (error: { code: string }) => error.code,
    );
  for (let i = 0; i < 5; i++) assert.equal(await codeOf('wrong'), 'AUTHENTICATION_FAILED');
  assert.equal(await codeOf('right'), 'LIMIT_EXCEEDED');
  assert.equal(await codeOf('right', '2.2.2.2'), 'in');
  now += 1000;
  assert.equal(await codeOf('wrong'), 'AUTHENTICATION_FAILED');
  assert.equal(await codeOf('wrong'), 'LIMIT_EXCEEDED');
  now += 1000;
  const [, header] = await sessions.open('a', 'right', '1.1.1.1');
  assert.match(header, /^__Host-rivulet_console_1=.*; Path=\/; .*; Secure$/);
  const request = { headers: { cookie: header.split(';')[0] } } as never;
  assert.equal(await sessions.accountOf(request, ''), account);
  now += 12 * 60 * 60 * 1000;
  assert.equal(await sessions.accountOf(request, ''), null);
  for (let i = 0; i < 150; i++) await sessions.open('a', 'right', '3.3.3.3');
  assert.equal(sessions.size, 100);
});

test('a user sees and reads only the topics of its key patterns', async () => {
  const rules = ['on', '>pw', '~shop.*', '+@read'];
  await using console = await openConsole(
    {},
    [
      ['ann', ...rules],
      ['default', 'on', '>root', '~*', '&*', '+@all'],
    ],
    {
      password: 'root',
    },
  );
  await console.client.call('XADD', 'shop.orders', '*', 'body', 'x');
  await console.client.call('XADD', 'secret', '1-1', 'body', 'x');
  await console.client.call('XADD', 'secret.dead', '1-1', 'body', 'x');
  const headers = { authorization: 'Bearer ann:pw' };
  const list = await console.get('topics', { headers });
  assert.deepEqual(
    list.topics.map((each: { name: string }) => each.name),
    ['shop.orders'],
  );
  assert.equal(list.total, 1);
  assert.equal((await console.ask('topics/shop.orders/entries', { headers })).status, 200);
  for (const path of [
    'topics/secret',
    'topics/secret/entries',
    'topics/secret/entries/1-1',
    'topics/secret/entries/1-1/body',
    'topics/secret/groups',
  ]) {
    const answer = await console.ask(path, { headers });
    assert.equal(answer.status, 403, path);
    assert.equal(answer.json().code, 'PERMISSION_DENIED');
  }
  assert.deepEqual((await console.get('dead', { headers })).topics, []);
  assert.equal((await console.ask('clients', { headers })).status, 403);
  const overview = await console.get('overview', { headers });
  assert.ok(!JSON.stringify(overview).includes('secret'));
  assert.equal(overview.totals.topics, null);
  const root = await console.get('', { headers });
  assert.deepEqual(root.roles, ['read']);
});

test('a session ends when its user is deleted or switched off', async () => {
  await using console = await openConsole(
    {},
    [
      ['ann', 'on', '>pw', '~*', '+@read'],
      ['default', 'on', '>root', '~*', '&*', '+@all'],
    ],
    { password: 'root' },
  );
  const cookie = await loggedIn(console, { user: 'ann', password: 'pw' });
  assert.equal((await console.ask('topics', { headers: { cookie } })).status, 200);
  await console.client.call('ACL', 'SETUSER', 'ann', 'off');
  assert.equal((await console.ask('topics', { headers: { cookie } })).status, 401);
  await console.client.call('ACL', 'SETUSER', 'ann', 'on');
  const again = await loggedIn(console, { user: 'ann', password: 'pw' });
  await console.client.call('ACL', 'DELUSER', 'ann');
  await console.client.call('ACL', 'SETUSER', 'ann', 'on', '>other', '~*', '+@all');
  assert.equal((await console.ask('topics', { headers: { cookie: again } })).status, 401);
});

test('no path leads out of the folder of pages', async () => {
  await using console = await openConsole();
  for (const path of [
    '/console/../../package.json',
    '/console/..%2f..%2fpackage.json',
    '/console/%2e%2e/%2e%2e/package.json',
    '/console/assets/../../../package.json',
    '/console//etc/passwd.txt',
    '/console/C:/x.json',
    '/console/\\..\\package.json',
  ]) {
    const answer = await console.ask(path);
    assert.ok(!answer.text.includes('"dependencies"'), path);
    // A path without a file is a page of the application.
    const isPage = answer.text.startsWith('<!doctype html>');
    assert.ok(isPage || answer.status === 404, `${path} ${answer.status}`);
  }
  assert.equal((await console.ask('/console/', { method: 'POST', body: {} })).status, 400);
});

test('--console no leaves health and metrics alone', async () => {
  const { startRivulet } = await import('../helpers/rivulet-server.ts');
  const { freePort } = await import('../helpers/free-port.ts');
  const { askAt } = await import('./fixture.ts');
  const port = await freePort();
  await using _ = await startRivulet({ args: ['--http-port', String(port), '--console', 'no'] });
  assert.equal((await askAt(port, '/console/', {})).status, 404);
  assert.equal((await askAt(port, '/', {})).status, 200);
  assert.equal((await askAt(port, '/healthz', {})).status, 200);
});

async function loggedIn(console: OpenConsole, body: object = LOGIN): Promise<string> {
  const answer = await console.ask('session', { method: 'POST', body });
  assert.equal(answer.status, 200, answer.text);
  return String(answer.headers['set-cookie']).split(';')[0]!;
}

test('tries that come at once are counted as tries that come one after the other', async () => {
  let asked = 0;
  const users = {
    canLogin: true,
    asksElsewhere: false,
    open: null,
    async login(_user: string, password: string) {
      asked++;
      await new Promise((resolve) => setImmediate(resolve));
      return password === 'right' ? ({ name: 'a', isValid: true } as Account) : null;
    },
    close() {},
  };
  const sessions = new Sessions(users, 1, false, () => 0);
  const tries = (password: string, address: string) =>
    Promise.allSettled(
      Array.from({ length: 100 }, () => sessions.open('a', password, address)),
    ).then((all) => all.filter(({ status }) => status === 'fulfilled').length);
  assert.equal(await tries('wrong', '1.1.1.1'), 0);
  assert.equal(asked, 5);
  assert.equal(await tries('right', '2.2.2.2'), 100, 'right ones wait for each other');
});

test('a user of a few key patterns changes no workflow and no service', async () => {
  const lim = ['lim', 'on', '>lim', '~a.*', '&*', '+@all', '-@dangerous'];
  await using console = await openConsole({}, [lim]);
  await using broker = await openBroker(`rivulet://127.0.0.1:${console.running.port}`);
  const go = signal('go');
  const order = workflow({ name: 'order', version: 1 }, async (flow) => {
    await flow.wait(go);
  });
  await using worker = await workflows(broker, { definitions: [order] });
  await worker.start(order, {}, { id: 'o1' });
  const headers = { authorization: 'Bearer lim:lim' };
  assert.ok((await console.get('', { headers })).roles.includes('operate'));
  const target = { workflow: 'order', instance: 'o1', service: 'x', node: 'y' };
  const verbs = {
    cancel: {},
    pause: {},
    signal: { name: 'go' },
    retry: { from: 1 },
    fork: { from: 1 },
  };
  for (const [verb, options] of Object.entries({ ...verbs, resume: {} })) {
    const body = { dryRun: true, target, options };
    const answer = await console.ask(`actions/workflow.${verb}`, { method: 'POST', headers, body });
    assert.equal(answer.status, 403, `${verb}: ${answer.text}`);
  }
  const state = await console.get('workflows/order/o1');
  assert.equal(state.status, 'running');
});

test('a user with many logins ends its own sessions and no others', async () => {
  const login = async (name: string) => ({ name, isValid: true }) as Account;
  const users = { canLogin: true, asksElsewhere: false, open: null, login, close() {} };
  const sessions = new Sessions(users, 1, false, () => 0);
  const [, first] = await sessions.open('ann', 'x', '1.1.1.1');
  for (let i = 0; i < 300; i++) await sessions.open('low', 'x', '1.1.1.1');
  const request = { headers: { cookie: first.split(';')[0] } } as IncomingMessage;
  assert.equal((await sessions.accountOf(request, ''))?.name, 'ann');
  assert.equal(sessions.size, 100);
});

test('pages are read from the disk once a build, whatever paths are asked for', async () => {
  await using directory = temporaryDirectory('pages');
  const index = join(directory.path, 'index.html');
  const script = join(directory.path, 'app.js');
  writeFileSync(index, 'first');
  writeFileSync(script, 'first');
  let now = 0;
  const files = new StaticFiles(directory.path, () => now);
  const get = async (path: string) => {
    const request = { method: 'GET', headers: {}, socket: { destroy() {} } };
    const response = new FakeResponse(request);
    files.answer(request as never, response as never, path);
    return response.text;
  };
  assert.deepEqual([await get('app.js'), await get('topics/x')], ['first', 'first']);
  // A file that changes without index.html is of the same build: it is not read again.
  writeFileSync(script, 'second');
  now += 60_000;
  assert.deepEqual([await get('topics/x'), await get('app.js')], ['first', 'first']);
  writeFileSync(index, 'second build');
  now += 60_000;
  assert.deepEqual([await get('topics/x'), await get('app.js')], ['second build', 'second']);
});

/** The first line of the answer to a request as it is written. */
async function statusOf(port: number, request: Buffer): Promise<string> {
  const socket = connectTo(port, '127.0.0.1');
  socket.end(request);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks).toString().split('\r\n', 1)[0]!;
}

test('a request with two hosts, or with a body that is no UTF-8, is refused', async () => {
  await using console = await openConsole();
  const head = (line: string, ...more: string[]) =>
    Buffer.from([line, ...more, 'Connection: close', '', ''].join('\r\n'));
  const hosts = ['Host: localhost', 'Host: evil.example'];
  const get = 'GET /console/api/v1/ HTTP/1.1';
  assert.match(await statusOf(console.port, head(get, hosts[0]!)), / 200 /);
  assert.match(await statusOf(console.port, head(get, ...hosts)), / 421 /);
  const json = '{"dryRun":true,"target":{"topic":"a\xff"},"options":{"body":"x"}}';
  const body = Buffer.from(json, 'latin1');
  const type = 'Content-Type: application/json';
  const post = 'POST /console/api/v1/actions/topic.publish HTTP/1.1';
  const written = head(post, hosts[0]!, type, `Content-Length: ${body.length}`);
  assert.match(await statusOf(console.port, Buffer.concat([written, body])), / 400 /);
});

class FakeResponse {
  readonly req: object;
  text = '';

  constructor(req: object) {
    this.req = req;
  }

  writeHead(): void {}

  once(): void {}

  end(body: unknown): void {
    this.text = String(body);
  }
}
