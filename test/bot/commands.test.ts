/** Commands: go-micro's texts, permissions, the audit, limits, and services that are commands. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { startBot } from '../../src/bot/bot.ts';
import type { BotOptions } from '../../src/bot/options.ts';
import { AUDIT_TOPIC } from '../../src/broker/audit.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { loadProto } from '../../src/rpc/proto/proto-contract.ts';
import { createService } from '../../src/service/service.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';
import { until } from '../helpers/until.ts';
import { FakeTelegram, TELEGRAM_TOKEN } from './fake-telegram.ts';
import { botFixture, quiet, settled } from './fixture.ts';

const ANN = { id: 7, username: 'ann' };
const BOB = { id: 8, username: 'bob' };

async function chat(options: Partial<BotOptions> = {}) {
  const fixture = await botFixture();
  const telegram = await FakeTelegram.start();
  const bot = await fixture.start({
    inputs: ['telegram'],
    telegram: { token: TELEGRAM_TOKEN, apiUrl: telegram.url },
    allow: ['telegram:bob'],
    operators: ['telegram:7'],
    ...options,
  });
  return {
    ...fixture,
    bot,
    telegram,
    /** The next answer to the user. */
    async ask(text: string, user = ANN): Promise<string> {
      const before = telegram.sent.length;
      telegram.say(user, text);
      await telegram.until(() => telegram.sent.length > before);
      return telegram.sent.at(-1)?.text ?? '';
    },
    async [Symbol.asyncDispose]() {
      await fixture[Symbol.asyncDispose]();
      await telegram[Symbol.asyncDispose]();
    },
  };
}

test('every built-in command has go-micro’s texts', async () => {
  await using with_ = await chat();
  const { ask, registry } = with_;
  for (const [text, expected] of [
    ['echo hello  world', 'hello  world'],
    ['echo "hello world"', 'hello world'],
    ['echo', 'echo what?'],
    ['hello', "hey what's up?"],
    ['ping', 'pong'],
    ['/ping', 'pong'],
    ['/ping@micro_bot', 'pong'],
    ['list', 'list what?'],
    ['list topics', 'unknown command...\nsupported commands: \nlist services'],
    ['list services', 'go.micro.srv.greeter'],
    ['get', 'get what?'],
    ['get x', 'unknown command...\nsupported commands: \nget service [name]'],
    ['get service', 'require service name'],
    ['get service nobody', 'error executing cmd: no node of nobody is in the registry'],
    ['health', 'health of what?'],
    ['call', 'call what?'],
    ['call a', 'error executing cmd: require an endpoint: Struct.Method'],
    ['call a B.C {', 'error executing cmd: the request is not JSON'],
    ['call go.micro.srv.greeter Say.Hello {"name":"ann"}', '{\n\t"msg": "Hello ann"\n}'],
    ['call go.micro.srv.greeter Say.Hello {“name”:“ann b”}', '{\n\t"msg": "Hello ann b"\n}'],
    ['register', 'register what?'],
    ['register x', 'unknown command...\nsupported commands: \nregister service [definition]'],
    ['register service', 'require service definition'],
    ['deregister', 'deregister what?'],
  ] as const) {
    assert.equal(await ask(text), expected, text);
  }
  assert.match(await ask('time'), /^Server time is: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \S+$/);
  assert.match(await ask('three laws of robotics'), /^\n1\. A robot may not injure[\s\S]*Laws\.$/);
  const help = await ask('help');
  assert.ok(
    help.startsWith('\n\ncall [service] [endpoint] [request] - Returns the response for a'),
  );
  assert.match(help, /\nlist services - Returns a list of registered services\n/);
  const got = await ask('get service go.micro.srv.greeter');
  assert.match(
    got,
    /^service {2}go\.micro\.srv\.greeter\n\nversion 1\.0\.0\n\nID\tAddress\tMetadata\n/,
  );
  const health = await ask('health go.micro.srv.greeter');
  const node = (await registry.getService('go.micro.srv.greeter'))[0]?.nodes[0];
  assert.ok(health.endsWith(`${node?.id}\t\t${node?.address}\t\tok`), health);
});

test('a record is registered and deregistered by an operator, and the registry has it between', async () => {
  await using with_ = await chat();
  const { ask, registry } = with_;
  const record = '{"name":"old","nodes":[{"id":"old-1","address":"127.0.0.1:9"}]}';
  assert.equal(await ask(`register service ${record}`), 'ok');
  assert.equal((await registry.getService('old'))[0]?.version, 'latest');
  assert.equal(await ask(`deregister service ${record}`), 'ok');
  assert.deepEqual(await registry.getService('old'), []);
  assert.match(
    await ask('register service {"name":"a b"}'),
    /^error executing cmd: the record can/,
  );
});

test('a user in no list gets no answer, and what is no command gets none either', async () => {
  await using with_ = await chat();
  const { telegram, ask, lines, audit } = with_;
  telegram.say({ id: 666, username: 'eve' }, 'ping');
  telegram.say({ id: 667 }, 'call go.micro.srv.greeter Say.Hello {}');
  telegram.say({ id: 668, username: '7' }, 'ping');
  telegram.say(ANN, 'how are you');
  telegram.say(ANN, '__proto__');
  telegram.say(ANN, '   ');
  assert.equal(await ask('ping', BOB), 'pong');
  assert.deepEqual(
    telegram.sent.map(({ chat_id }) => chat_id),
    [8],
  );
  const strangers = lines.filter((line) => line.includes('gets no answer'));
  assert.equal(strangers.length, 3, strangers.join('\n'));
  await settled(() => audit.length > 0);
  assert.deepEqual(
    audit.map(({ user }) => user),
    ['telegram:8'],
  );
});

test('only an operator changes something, and the audit has the intent, the outcome and the refusal', async () => {
  await using with_ = await chat();
  const { ask, audit } = with_;
  const call = 'call go.micro.srv.greeter Say.Hello {"name":"secret"}';
  assert.equal(
    await ask(call, BOB),
    'error executing cmd: call is for operators, and telegram:8 is none',
  );
  assert.match(await ask(call), /Hello secret/);
  assert.match(await ask('call nobody Say.Hello'), /^error executing cmd: /);
  await ask('ping', BOB);
  await settled(() => audit.length === 6);
  assert.deepEqual(
    audit.map(({ user, verb, target, phase }) => [user, verb, target, phase]),
    [
      ['telegram:8', 'bot.call', 'go.micro.srv.greeter Say.Hello', 'refused'],
      ['telegram:7', 'bot.call', 'go.micro.srv.greeter Say.Hello', 'intent'],
      ['telegram:7', 'bot.call', 'go.micro.srv.greeter Say.Hello', 'done'],
      ['telegram:7', 'bot.call', 'nobody Say.Hello', 'intent'],
      ['telegram:7', 'bot.call', 'nobody Say.Hello', 'failed'],
      ['telegram:8', 'bot.ping', '', 'done'],
    ],
  );
  assert.equal(audit[1]?.action, audit[2]?.action);
  assert.doesNotMatch(JSON.stringify(audit), /secret/);
});

test('while the audit cannot be written nothing is changed, and what changes nothing is answered', async () => {
  const broken = await openBroker('memory:');
  const publish = broken.publish.bind(broken);
  broken.publish = (topic, ...rest) =>
    topic === AUDIT_TOPIC ? Promise.reject(new Error('no room')) : publish(topic, ...rest);
  await using with_ = await chat({ broker: broken });
  const { ask, registry } = with_;
  const record = '{"name":"old","nodes":[{"id":"old-1","address":"127.0.0.1:9"}]}';
  assert.equal(
    await ask(`register service ${record}`),
    'error executing cmd: nothing was done, because the audit _rivulet.audit cannot be written: no room',
  );
  assert.deepEqual(await registry.getService('old'), []);
  assert.equal(await ask('ping'), 'pong');
  await broken.disconnect();
});

test('commands run some at once, each ends in its time, and a flood is refused with one answer', async () => {
  await using with_ = await chat({ timeoutMs: 300, concurrency: 3, maxWaiting: 8 });
  const { telegram, ask } = with_;
  telegram.sayAll(ANN, Array(100).fill('call go.micro.srv.greeter Say.Never {}'));
  await telegram.until(() => telegram.sent.length === 5);
  const texts = telegram.sent.map(({ text }) => text);
  assert.equal(texts.filter((text) => /too many commands wait/.test(text)).length, 1);
  // The bot's own time and the call's deadline end at the same moment: either may be noticed first, and
  // on a busy machine the call may still be dialling, with what is left of its 300 ms.
  const late = /deadline|within \d+ ms|longer than 300 ms|300 ms/;
  assert.equal(texts.filter((text) => late.test(text)).length, 4, texts.join('\n'));
  assert.equal(await ask('ping', BOB), 'pong');
});

test('an answer of a megabyte comes in five pieces that the service takes', async () => {
  await using with_ = await chat();
  const { telegram } = with_;
  telegram.say(ANN, 'call go.micro.srv.greeter Say.Big {"size":1048576}');
  await telegram.until(() => telegram.sent.length === 5);
  for (const { text } of telegram.sent) assert.ok(text.length <= 4096);
  assert.match(telegram.sent[4]?.text ?? '', /characters in all, the others were left out$/);
});

test('a message that comes late is answered and not run', async () => {
  await using with_ = await chat();
  const { telegram, audit } = with_;
  const date = Math.floor(Date.now() / 1000) - 3600;
  telegram.say(ANN, 'call go.micro.srv.greeter Say.Hello {}', { date });
  await telegram.until(() => telegram.sent.length === 1);
  assert.match(
    telegram.sent[0]?.text ?? '',
    /^this came 36\d\d s late and was not run: send it again$/,
  );
  assert.deepEqual(audit, []);
});

const PROTO = `syntax = "proto3";
package go.micro.bot;
service Command {
  rpc Help(HelpRequest) returns (HelpResponse) {};
  rpc Exec(ExecRequest) returns (ExecResponse) {};
}
message HelpRequest {}
message HelpResponse { string usage = 1; string description = 2; }
message ExecRequest { repeated string args = 1; }
message ExecResponse { bytes result = 1; string error = 2; }
`;

test('a protobuf service of the namespace is a command while it is registered', async () => {
  await using directory = temporaryDirectory('proto');
  const file = join(directory.path, 'bot.proto');
  writeFileSync(file, PROTO);
  const { Command } = await loadProto(file);
  await using with_ = await chat();
  const { ask, telegram, registry, audit } = with_;
  telegram.say(ANN, 'weather paris');
  const service = createService({ ...quiet, registry, name: 'go.micro.bot.weather' });
  service.handle(contract('go.micro.bot.weather', { Command }), {
    Command: {
      Help: () => ({ usage: 'weather [place]', description: 'Tells the weather' }),
      Exec: ({ args }: { args: string[] }) =>
        args[1] === 'nowhere'
          ? { error: 'there is no such place' }
          : { result: Buffer.from(`sunny: ${args.join('|')}`) },
    },
  });
  await service.start();
  await until(async () => (await ask('help')).includes('\nweather [place] - Tells the weather'));
  assert.equal(await ask('weather "New York" now'), 'sunny: weather|New York|now');
  assert.equal(await ask('weather nowhere'), 'error executing cmd: there is no such place');
  assert.equal(
    await ask('weather x', BOB),
    'error executing cmd: weather is for operators, and telegram:8 is none',
  );
  const { target, verb, user } = audit.find(({ phase }) => phase === 'intent') ?? assert.fail();
  assert.deepEqual(
    [target, verb, user],
    ['go.micro.bot.weather Command.Exec', 'bot.weather', 'telegram:7'],
  );
  await service.stop();
  await until(async () => !(await ask('help')).includes('weather'));
  assert.ok(!telegram.sent.some(({ text }) => text.includes('paris')));
});

test('a service without a .proto is a command by its JSON', async () => {
  await using with_ = await chat();
  const { ask, registry } = with_;
  const Tool = contract('go.micro.bot.dice', {
    Command: {
      Help: unary<unknown, { usage: string; description: string }>(),
      Exec: unary<{ args: string[] }, { result?: string; error?: string }>(),
    },
  });
  const service = createService({ ...quiet, registry }).handle(Tool, {
    Command: {
      Help: () => ({ usage: 'dice', description: 'Throws\na dice' }),
      Exec: ({ args }) => ({ result: `four ${args.length}` }),
    },
  });
  await service.start();
  await until(async () => (await ask('help')).includes('\ndice - Throws\\na dice'));
  assert.equal(await ask('dice a'), 'four 2');
  await service.stop();
});

test('a Go service gets the bytes that go-micro’s bot sends, and its bytes are the answer', async () => {
  const seen: { endpoint: unknown; type: unknown; body: string }[] = [];
  const replies: Record<string, string> = {
    // usage "w", description "x"
    'Command.Help': '0a0177120178',
    // result "ok", and a field that this version does not know
    'Command.Exec': '0a026f6b1a0161',
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const { 'micro-endpoint': endpoint, 'content-type': type } = request.headers;
      seen.push({ endpoint, type, body: Buffer.concat(chunks).toString('hex') });
      response.setHeader('content-type', 'application/protobuf');
      response.end(Buffer.from(replies[String(endpoint)] ?? '', 'hex'));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await using with_ = await chat();
  const metadata = { protocol: 'mucp', transport: 'http', server: 'mucp' };
  const nodes = [{ id: 'w-1', address: `127.0.0.1:${port}`, metadata }];
  const record = { name: 'go.micro.bot.w', version: '1', metadata: {}, endpoints: [], nodes };
  await with_.registry.register(record, { ttlMs: 60_000 });
  await until(async () => (await with_.ask('help')).includes('\nw - x'));
  assert.equal(await with_.ask('w paris'), 'ok');
  assert.deepEqual(seen, [
    { endpoint: 'Command.Help', type: 'application/protobuf', body: '' },
    { endpoint: 'Command.Exec', type: 'application/protobuf', body: '0a01770a057061726973' },
  ]);
  server.closeAllConnections();
  server.close();
});

test('options that cannot be obeyed stop the start and say what to write', async () => {
  for (const [options, text] of [
    [{ inputs: [] }, /inputs is empty/],
    [{ inputs: ['hipchat'] }, /HipChat ended in 2019/],
    [{ inputs: ['irc'] }, /there are slack, discord, telegram, terminal/],
    [{ inputs: ['telegram'] }, /--telegram-token \(MICRO_TELEGRAM_TOKEN\)/],
    [{ inputs: ['slack'], slack: { token: 'x' } }, /--slack-app-token/],
    [{ inputs: ['discord'] }, /--discord-token/],
    [{ inputs: ['terminal', 'terminal'] }, /twice/],
    [{ inputs: ['terminal'], namespace: 'a b' }, /namespace/],
    [{ inputs: ['terminal'], allow: ['ann'] }, /slack:U0123ABCD/],
    [{ inputs: ['terminal'], allow: 'ann' }, /allow must be a list/],
  ] as [unknown, RegExp][]) {
    await assert.rejects(startBot(options as BotOptions), (error: Error & { code: string }) => {
      assert.equal(error.code, 'INVALID_ARGUMENT');
      assert.match(error.message, text);
      return true;
    });
  }
});
