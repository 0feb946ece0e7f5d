/**
 * Configuration: the table, values, CONFIG SET's all or nothing, files and their rewriting.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readServerFlags } from '../../src/cli/server/server-flags.ts';
import { Config } from '../../src/server/config/config.ts';
import {
  loadConfigFile,
  rewriteConfigFile,
  rewritten,
} from '../../src/server/config/config-file.ts';
import { PARAMETERS } from '../../src/server/config/config-parameters.ts';
import { canonical, outputLimit } from '../../src/server/config/config-values.ts';

function directory(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'rivulet-config-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

function message(run: () => void): string {
  try {
    run();
  } catch (error) {
    return (error as Error).message;
  }
  return 'no error';
}

test('every default is its own canonical form, and no name stands twice', () => {
  const names = PARAMETERS.flatMap(({ name, alias }) => (alias ? [name, alias] : [name]));
  assert.equal(new Set(names).size, names.length);
  for (const parameter of PARAMETERS) {
    if (parameter.default === '') continue;
    assert.equal(canonical(parameter, [parameter.default]), parameter.default, parameter.name);
  }
});

test('CONFIG SET refuses with the reasons of Redis and changes nothing', () => {
  const config = new Config();
  const set = (...pairs: [string, string][]) => message(() => config.change(pairs, false));
  const failed = (name: string, why: string) =>
    `ERR CONFIG SET failed (possibly related to argument '${name}') - ${why}`;
  assert.equal(set(['maxmemory', 'foo']), failed('maxmemory', 'argument must be a memory value'));
  assert.equal(
    set(['foo', 'bar']),
    "ERR Unknown option or number of arguments for CONFIG SET - 'foo'",
  );
  assert.equal(set(['databases', '3']), failed('databases', "can't set immutable config"));
  assert.equal(set(['dir', '/x']), failed('dir', "can't set protected config"));
  assert.equal(set(['timeout', '1'], ['timeout', '2']), failed('timeout', 'duplicate parameter'));
  assert.equal(
    set(['maxclients', '0']),
    failed('maxclients', 'argument must be between 1 and 4294967295 inclusive'),
  );
  assert.equal(
    set(['slowlog-max-len', '-4']),
    failed('slowlog-max-len', 'argument must be between 0 and 9223372036854775807 inclusive'),
  );
  assert.equal(
    set(['appendfsync', 'x']),
    failed('appendfsync', 'argument(s) must be one of the following: everysec, always, no'),
  );
  assert.equal(
    set(['protected-mode', 'maybe']),
    failed('protected-mode', "argument must be 'yes' or 'no'"),
  );
  assert.equal(set(['save', 'foo']), failed('save', 'Invalid save parameters'));
  assert.equal(
    set(['client-output-buffer-limit', 'normal 0 0']),
    failed(
      'client-output-buffer-limit',
      'Wrong number of arguments in buffer limit configuration.',
    ),
  );
  assert.equal(
    set(['notify-keyspace-events', 'q']),
    failed('notify-keyspace-events', "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
  );
  set(['maxmemory', '1mb'], ['appendfsync', 'sometimes']);
  assert.equal(config.get('maxmemory'), '0', 'all or nothing');
});

test('a value that its user refuses is taken back, with those set beside it', () => {
  const config = new Config();
  const seen: string[] = [];
  config.watch('timeout', (value) => seen.push(value));
  config.watch('maxclients', (value) => {
    if (value === '5') throw new Error('too few files');
  });
  assert.match(
    message(() =>
      config.change(
        [
          ['timeout', '7'],
          ['maxclients', '5'],
        ],
        false,
      ),
    ),
    /argument 'maxclients'\) - too few files/,
  );
  assert.equal(config.get('timeout'), '0');
  assert.equal(config.get('maxclients'), '10000');
  assert.deepEqual(seen, ['0', '7', '0']);
  let told = 0;
  const both = () => void told++;
  config.watch('maxclients', both);
  config.watch('timeout', both);
  config.change(
    [
      ['timeout', '7'],
      ['maxclients', '6'],
    ],
    false,
  );
  assert.equal(told, 3, 'twice at the beginning, once for the change');
});

test('values are shown as Redis shows them', () => {
  const config = new Config();
  config.change(
    [
      ['maxmemory', '1gb'],
      ['save', '900 1 300 10'],
      ['notify-keyspace-events', 'KEA'],
      ['client-output-buffer-limit', 'replica 1mb 64k 3'],
    ],
    false,
  );
  assert.equal(config.get('maxmemory'), '1073741824');
  assert.equal(config.number('maxmemory'), 1024 ** 3);
  assert.equal(config.get('save'), '900 1 300 10');
  assert.equal(config.get('notify-keyspace-events'), 'AKE');
  assert.equal(
    config.get('client-output-buffer-limit'),
    'normal 0 0 0 slave 1048576 64000 3 pubsub 33554432 8388608 60',
  );
  assert.deepEqual(outputLimit(config.get('client-output-buffer-limit'), 'pubsub'), {
    hard: 33554432,
    soft: 8388608,
    softSeconds: 60,
  });
});

test('CONFIG GET takes globs, several, in any case, and knows the old names', () => {
  const config = new Config();
  assert.deepEqual(config.matching(['PORT', 'maxmemor?']), [
    ['maxmemory', '0'],
    ['port', '7488'],
  ]);
  assert.deepEqual(config.matching(['slave-read-only']), [['slave-read-only', 'yes']]);
  assert.ok(config.matching(['*']).length > 100);
});

test('a file is read with comments, quotes, includes and users', () => {
  using place = directory();
  const inner = join(place.path, 'inner.conf');
  const outer = join(place.path, 'outer.conf');
  writeFileSync(inner, 'timeout 5\nsave 900 1\n');
  writeFileSync(
    outer,
    `# comment\n\nport 1234\n  requirepass "a b\\x41"\nsave 300 10\nsave 60 20\nuser bob on >x\ninclude inner.conf\nbind 127.0.0.1 -::1\n`,
  );
  const config = new Config();
  loadConfigFile(config, outer);
  assert.equal(config.number('port'), 1234);
  assert.equal(config.get('requirepass'), 'a bA');
  assert.equal(config.get('bind'), '127.0.0.1 -::1');
  assert.equal(config.number('timeout'), 5);
  assert.deepEqual(config.users, [['bob', 'on', '>x']]);
});

test('a bad line is named with its place and what was probably meant', () => {
  using place = directory();
  const file = join(place.path, 'bad.conf');
  const error = (line: string) => {
    writeFileSync(file, `port 1\n${line}\n`);
    return message(() => loadConfigFile(new Config(), file)).replace(file, 'FILE');
  };
  assert.equal(error('prot 5'), "FILE:2: unknown parameter 'prot'; did you mean 'port'?");
  assert.equal(error('port x'), "FILE:2: 'port': argument couldn't be parsed into an integer");
  assert.equal(error('dir "x'), 'FILE:2: unbalanced quotes');
  assert.equal(error('port'), "FILE:2: 'port' needs a value");
  assert.match(error('include nowhere.conf'), /can't read configuration file/);
  writeFileSync(file, 'include bad.conf\n');
  assert.match(
    message(() => loadConfigFile(new Config(), file)),
    /includes nest too deeply/,
  );
});

test('rewriting keeps comments and order, updates values and adds what differs', () => {
  const config = new Config();
  config.change(
    [
      ['timeout', '9'],
      ['maxmemory', '5mb'],
      ['requirepass', 'a "b"'],
    ],
    false,
  );
  const before = '# mine\ntimeout 3\n\n# more\nloglevel notice\ntimeout 4\nuser old on\n';
  assert.equal(
    rewritten(config, before, [
      'user bob on nopass',
      'user default on nopass sanitize-payload ~* &* +@all',
    ]),
    '# mine\ntimeout 9\n\n# more\nloglevel notice\n# Generated by CONFIG REWRITE\nmaxmemory 5242880\nrequirepass "a \\"b\\""\nuser bob on nopass\n',
  );
});

test('a rewritten file says the same when it is read again, and again', () => {
  using place = directory();
  const file = join(place.path, 'some.conf');
  writeFileSync(file, '# top\nbind 127.0.0.1 -::1\n');
  const config = new Config();
  loadConfigFile(config, file);
  config.file = file;
  config.change(
    [
      ['save', '900 1 60 2'],
      ['client-output-buffer-limit', 'pubsub 5mb 1mb 2'],
      ['requirepass', "it's"],
    ],
    false,
  );
  rewriteConfigFile(config, []);
  const first = readFileSync(file, 'utf8');
  const again = new Config();
  loadConfigFile(again, file);
  for (const { name } of PARAMETERS) assert.equal(again.get(name), config.get(name), name);
  again.file = file;
  rewriteConfigFile(again, []);
  assert.equal(readFileSync(file, 'utf8'), first);
});

test('flags: values reach to the next flag, the file comes first, mistakes are named', () => {
  using place = directory();
  const file = join(place.path, 'f.conf');
  writeFileSync(file, 'port 1\ntimeout 8\n');
  const read = (...args: string[]) => {
    const config = new Config();
    readServerFlags(config, args);
    return config;
  };
  const config = read(file, '--port', '7000', '--bind', '127.0.0.1', '::1', '--maxmemory=1gb');
  assert.equal(config.number('port'), 7000);
  assert.equal(config.number('timeout'), 8);
  assert.equal(config.get('bind'), '127.0.0.1 ::1');
  assert.equal(config.number('maxmemory'), 1024 ** 3);
  assert.equal(read('--config', file).number('port'), 1);
  assert.equal(read('--appendonly').get('appendonly'), 'yes');
  assert.equal(
    message(() => read('--prot', '1')),
    "unknown flag 'prot'; did you mean 'port'?",
  );
  assert.match(
    message(() => read('--port', 'x')),
    /bad value for '--port'/,
  );
  assert.match(
    message(() => read('--port')),
    /'--port' needs a value/,
  );
});
