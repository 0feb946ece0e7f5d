/**
 * Every benchmark runs at its smallest size, so that none rots between measurements.
 */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runTool } from '../helpers/children.ts';
import { missing } from '../helpers/requirements.ts';

const main = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bench', 'main.js');

for (const [name, rows] of Object.entries({
  xadd: 6,
  xreadgroup: 2,
  xrange: 2,
  memory: 2,
  restart: 1,
  growth: 12,
  client: 2,
  brokers: 36,
  requests: 14,
  rpc: 15,
  gateway: 10,
  console: 44,
})) {
  const skip = missing(
    'redis-server',
    'redis-benchmark',
    ...(name === 'requests' || name === 'brokers' || name === 'rpc'
      ? (['nats-server'] as const)
      : []),
    ...(name === 'brokers' ? (['rabbitmq-server'] as const) : []),
  );
  test(`the benchmark ${name} runs and prints its ${rows} rows`, { skip }, async () => {
    const { code, stdout, stderr } = await runTool(process.execPath, [main, name, '--smoke'], {
      timeoutMs: 120_000,
    });
    assert.equal(code, 0, `${stdout}${stderr}`);
    const printed = stdout
      .split('\n')
      .filter((line) =>
        / (entries\/s|requests\/s|calls\/s|messages\/s|replies\/s|bytes|ms|µs\/operation) /.test(
          line,
        ),
      );
    assert.equal(printed.length, rows, stdout);
  });
}

test('an unknown benchmark is refused with the list of those there are', {
  skip: missing('redis-server'),
}, async () => {
  const { code, stderr } = await runTool(process.execPath, [main, 'xad', '--smoke']);
  assert.equal(code, 1);
  assert.match(stderr, /no benchmark xad; there are:\n {2}xadd/);
});
