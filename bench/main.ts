/**
 * `npm run bench [-- name ...] [--smoke] [--runs N] [--entries N] [--match TEXT]`: runs the benchmarks,
 * prints each row with both sides, ratio and budget, and appends them to bench/results/<date>.jsonl.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { repositoryRoot } from '../test/house/source-file.ts';
import { brokers } from './brokers/brokers.ts';
import { requests } from './brokers/requests.ts';
import { consoleBench } from './console.ts';
import { meetsBudget, type Row } from './row.ts';
import { gateway } from './services/gateway.ts';
import { rpc } from './services/rpc.ts';
import { client } from './streams/client.ts';
import { growth } from './streams/growth.ts';
import { memory } from './streams/memory.ts';
import { restart } from './streams/restart.ts';
import { xadd } from './streams/xadd.ts';
import { xrange } from './streams/xrange.ts';
import { xreadgroup } from './streams/xreadgroup.ts';
import { workflowsBench } from './workflows/workflows.ts';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    smoke: { type: 'boolean', default: false },
    runs: { type: 'string', default: '5' },
    entries: { type: 'string' },
    match: { type: 'string', default: '' },
  },
});
const entries = options.entries === undefined ? undefined : Number(options.entries);
const benchmarks = [
  xadd,
  xreadgroup,
  xrange,
  memory,
  restart(entries),
  growth,
  client,
  brokers,
  requests,
  rpc,
  gateway,
  workflowsBench,
  consoleBench(entries),
];
const unknown = positionals.filter(
  (name) => !benchmarks.some((benchmark) => benchmark.name === name),
);
if (unknown.length > 0) {
  process.stderr.write(`no benchmark ${unknown.join(', ')}; there are:\n`);
  for (const { name, about } of benchmarks) process.stderr.write(`  ${name.padEnd(12)}${about}\n`);
  process.exit(1);
}
const selected = benchmarks.filter(
  ({ name }) => positionals.length === 0 || positionals.includes(name),
);
const runs = options.smoke ? 1 : Number(options.runs);
const machine = describeMachine();
const [date] = new Date().toISOString().split('T');
const results = join(repositoryRoot, 'bench', 'results', `${date}.jsonl`);

process.stdout.write(`${Object.values(machine).join(' · ')}\n`);
process.stdout.write(
  `alternating runs, median of ${runs}${options.smoke ? ' (smoke: not a measurement)' : ''}\n\n`,
);
for (const benchmark of selected) {
  process.stdout.write(`${benchmark.name}: ${benchmark.about}\n`);
  const wants = (name: string) => name.includes(options.match);
  await benchmark.run({ smoke: options.smoke, runs, wants }, report);
}
// A client's reconnection timer or the like must not keep a finished run alive.
process.exit(0);

function report(row: Row): void {
  const ratio = row.ratio === null ? '' : `${row.ratio.toFixed(2)} ×`;
  const verdict = { true: 'met', false: 'MISSED', null: '' }[String(meetsBudget(row)) as 'true'];
  const bound = row.better === 'higher' ? '≥' : '≤';
  const budget = row.budget === null ? '' : `budget ${bound} ${row.budget} ${verdict}`;
  const sides = [row.rivulet, row.redis].map((value) => (value === null ? '' : format(value)));
  const [rivulet, redis] = sides.map((text) => text.padStart(12));
  process.stdout.write(
    `  ${row.name.padEnd(60)}${rivulet}${redis}  ${row.unit.padEnd(13)}${ratio.padStart(8)}  ${budget}\n`,
  );
  if (options.smoke) return;
  mkdirSync(join(repositoryRoot, 'bench', 'results'), { recursive: true });
  appendFileSync(
    results,
    `${JSON.stringify({ ...machine, at: new Date().toISOString(), ...row })}\n`,
  );
}

function format(value: number): string {
  return value >= 1_000
    ? Math.round(value).toLocaleString('en').replaceAll(',', ' ')
    : value.toPrecision(3);
}

function describeMachine() {
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', repositoryRoot, ...args], { encoding: 'utf8' }).trim();
  const redis = execFileSync('redis-server', ['--version'], { encoding: 'utf8' });
  const changed = git('status', '--porcelain', '--', 'src') === '' ? '' : ' with changes';
  const kernel = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
  return {
    machine: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${kernel}`,
    node: `Node ${process.versions.node}`,
    redis: `redis-server ${/v=(\S+)/.exec(redis)?.[1]}`,
    commit: `commit ${git('rev-parse', '--short', 'HEAD')}${changed}`,
  };
}
