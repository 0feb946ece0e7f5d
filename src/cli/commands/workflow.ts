/** `micro workflow start|list|show|history|signal|cancel|pause|resume|retry|fork|move|parked`: instances and their journals. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Command } from 'commander';
import type { WorkflowHandle } from '../../workflow/handle.ts';
import type { ListedRun } from '../../workflow/journal/listing.ts';
import { type AnyWorkflow, isWorkflow } from '../../workflow/workflow.ts';
import { type Workflows, workflows } from '../../workflow/workflows.ts';
import { type BrokerFlags, onBroker, outputOf, withBroker } from '../connect.ts';
import { withExamples } from '../examples.ts';
import { CommandFailure, notFound, usage } from '../exit-code.ts';
import type { Column } from '../printing/output.ts';
import { count, duration, position } from '../values.ts';

interface ListFlags extends BrokerFlags {
  readonly status?: string;
  readonly since?: string;
  readonly limit: string;
}

const STATUSES = ['running', 'parked', 'completed', 'failed', 'cancelled'] as const;

export function workflowCommand(): Command {
  const command = new Command('workflow').description('look at workflow instances and steer them');
  const sub = (name: string) => withBroker(command.command(name));
  const one = (name: string) => sub(name).argument('<workflow>').argument('<id>');
  const start = one('start')
    .description('start an instance; a second start of the same id starts nothing')
    .argument('[json]', 'the input, as JSON')
    .option('--delay <time>', 'start it so much later: 500ms, 5s, 1m, 2h')
    .action(startInstance);
  withExamples(start, [
    { line: `micro workflow start order order-19 '{"sku":"ab"}'`, says: 'a worker takes it' },
  ]);
  const list = workflowList(command.command('list'));
  withExamples(list, [
    { line: 'micro workflow list', says: 'every workflow, and versions that no worker takes' },
    { line: 'micro workflow list order --status running', says: 'the running instances of one' },
  ]);
  const parked = sub('parked')
    .description('instances that need a person, and why')
    .argument('[workflow]')
    .option('-n, --limit <n>', 'at most n of them', '100')
    .action((workflow: string | undefined, flags: ListFlags) =>
      printRuns(workflow, { ...flags, status: 'parked' }),
    );
  withExamples(parked, [
    { line: 'micro workflow parked --json', says: 'all of them, for a script' },
  ]);
  const show = one('show')
    .description('status, state and result of an instance')
    .action(showInstance);
  withExamples(show, [{ line: 'micro workflow show order order-17', says: 'one instance' }]);
  const history = one('history')
    .description('every record of the journal of an instance')
    .action(showHistory);
  withExamples(history, [
    { line: 'micro workflow history order order-17', says: 'what happened, in order' },
  ]);
  const signal = one('signal')
    .description('send a signal; it waits where the instance does not wait for it yet')
    .argument('<signal>')
    .argument('[json]', 'the value, as JSON')
    .option('--id <id>', 'a second signal of this id is passed over')
    .action(sendSignal);
  withExamples(signal, [
    { line: `micro workflow signal order order-17 note '{"text":"hi"}' --id n-1`, says: 'once' },
  ]);
  const pause = one('pause')
    .description('begin no further step until resume')
    .action((workflow: string, id: string, flags: BrokerFlags) =>
      steer(workflow, id, flags, 'paused', (handle) => handle.pause()),
    );
  withExamples(pause, [{ line: 'micro workflow pause order order-17', says: 'hold it' }]);
  const resume = one('resume')
    .description('go on after pause')
    .action((workflow: string, id: string, flags: BrokerFlags) =>
      steer(workflow, id, flags, 'resumed', (handle) => handle.resume()),
    );
  withExamples(resume, [{ line: 'micro workflow resume order order-17', says: 'let it go on' }]);
  const fork = one('fork')
    .description('a new instance with the history of this one before an operation')
    .option('--from <operation>', 'the name of a step or a number')
    .option('--version <n>', 'the version of the new one')
    .option('--id <id>', 'the id of the new one')
    .action(forkInstance);
  withExamples(fork, [
    {
      line: 'micro workflow fork order order-17 --from 2 --id order-17b',
      says: 'try again beside it',
    },
  ]);
  const retry = one('retry')
    .description('go on with what is parked, failed or cancelled')
    .option('--from <operation>', 'forget what this step and later ones gave')
    .action((workflow: string, id: string, flags: BrokerFlags & { from?: string }) =>
      steer(workflow, id, flags, 'retried', (handle) =>
        handle.retry(flags.from === undefined ? {} : { from: operation(flags.from) }),
      ),
    );
  withExamples(retry, [
    {
      line: 'micro workflow retry order order-18 --from charge',
      says: 'from the step "charge" on',
    },
  ]);
  const cancel = one('cancel')
    .description('cancel: compensations run')
    .option('--reason <text>', 'why')
    .action((workflow: string, id: string, flags: BrokerFlags & { reason?: string }) =>
      steer(workflow, id, flags, 'cancelled', (handle) => handle.cancel(flags.reason)),
    );
  withExamples(cancel, [
    { line: 'micro workflow cancel order order-17 --reason "sold out"', says: 'end it in order' },
  ]);
  const move = sub('move')
    .description('let instances of one version go on with another one')
    .argument('<workflow>')
    .requiredOption('--module <file>', 'a module that exports the workflow with both versions')
    .requiredOption('--from <version>', 'whose instances')
    .requiredOption('--to <version>', 'whose code')
    .option('--check', 'only replay, and say which would differ')
    .action(moveInstances);
  withExamples(move, [
    {
      line: 'micro workflow move order --module order.mjs --from 1 --to 2 --check',
      says: 'which would move and which would differ; without --check they move',
    },
  ]);
  return command;
}

async function onFlows<T>(flags: BrokerFlags, work: (flows: Workflows) => Promise<T>): Promise<T> {
  return onBroker(flags, async (broker) => {
    const flows = await workflows(broker);
    try {
      return await work(flows);
    } finally {
      await flows.close();
    }
  });
}

/** `micro workflow list`, which is `micro list workflows` too. */
export function workflowList(command: Command): Command {
  return withBroker(command)
    .description('workflows with counts, or the instances of one')
    .argument('[workflow]')
    .option('-s, --status <status>', STATUSES.join(', '))
    .option('--since <time>', 'started, parked or ended since: 1h, 7d, a time')
    .option('-n, --limit <n>', 'at most n of them', '100')
    .action(listInstances);
}

async function listInstances(workflow: string | undefined, flags: ListFlags): Promise<void> {
  if (workflow !== undefined || flags.status !== undefined || flags.since !== undefined) {
    return printRuns(workflow, flags);
  }
  const counts = await onFlows(flags, (flows) => flows.counts());
  const output = outputOf(flags);
  await output.rows(counts, [
    { title: 'workflow', of: ({ name }) => name },
    { title: 'running', of: ({ running }) => running, right: true },
    { title: 'parked', of: ({ parked }) => parked, right: true },
    { title: 'done', of: ({ done }) => done, right: true },
    { title: 'oldest parked', of: ({ oldestParkedAt }) => oldestParkedAt?.toISOString() },
  ]);
  if (flags.json) return;
  for (const { name, waiting } of counts) {
    for (const { version, tasks } of waiting) {
      const what = tasks === 1 ? '1 task' : `${tasks} tasks`;
      output.note(`${what} of ${name}@${version} wait${tasks === 1 ? 's' : ''} for a worker`);
    }
  }
}

async function printRuns(workflow: string | undefined, flags: ListFlags): Promise<void> {
  const { status } = flags;
  const known = STATUSES.find((each) => each === status);
  if (status !== undefined && known === undefined) {
    throw usage(`--status ${JSON.stringify(status)}: write one of ${STATUSES.join(', ')}`);
  }
  const since = flags.since === undefined ? undefined : sinceOf(flags.since);
  const limit = count(flags.limit, '--limit', 1, 1_000_000);
  const runs = await onFlows(flags, async (flows) => {
    const found: ListedRun[] = [];
    for await (const run of flows.list({
      limit,
      ...(workflow === undefined ? {} : { name: workflow }),
      ...(known === undefined ? {} : { status: known }),
      ...(since === undefined ? {} : { since }),
    })) {
      found.push(run);
    }
    return found;
  });
  await outputOf(flags).rows(runs, RUN_COLUMNS);
}

const RUN_COLUMNS: readonly Column<ListedRun>[] = [
  { title: 'id', of: ({ id, schedule }) => (schedule === true ? `schedule ${id}` : id) },
  { title: 'workflow', of: ({ name, version }) => `${name}@${version}` },
  { title: 'status', of: ({ status }) => status },
  { title: 'started', of: ({ startedAt }) => startedAt.toISOString() },
  { title: 'stopped', of: ({ at }) => at?.toISOString() },
  {
    title: 'result or reason',
    of: ({ reason, result, resultBytes }) =>
      reason?.slice(0, 120) ??
      (resultBytes === undefined ? JSON.stringify(result) : `${resultBytes} bytes`)?.slice(0, 120),
  },
];

async function showInstance(workflow: string, id: string, flags: BrokerFlags): Promise<void> {
  const found = await onFlows(flags, async (flows) => {
    const handle = flows.get(workflow, id);
    const info = await handle.info();
    const state = await handle.state();
    const result = info.status === 'completed' ? await handle.result() : undefined;
    return {
      ...info,
      ...(state === undefined ? {} : { state }),
      ...(result === undefined ? {} : { result }),
    };
  });
  const output = outputOf(flags);
  if (flags.json) return output.value(found);
  await output.facts(
    Object.fromEntries(
      Object.entries(found).map(([name, value]) => {
        if (value instanceof Date) return [name, value.toISOString()];
        return [name, typeof value === 'object' ? JSON.stringify(value) : value];
      }),
    ),
  );
}

async function showHistory(workflow: string, id: string, flags: BrokerFlags): Promise<void> {
  const events = await onFlows(flags, (flows) => flows.get(workflow, id).history());
  await outputOf(flags).rows(events, [
    { title: 'at', of: ({ at }) => at.toISOString() },
    { title: 'what', of: ({ kind }) => kind },
    { title: 'n', of: ({ n }) => n, right: true },
    { title: 'name', of: ({ name }) => name },
    {
      title: 'took',
      of: ({ durationMs }) => (durationMs === undefined ? null : `${durationMs} ms`),
    },
    {
      title: 'detail',
      of: ({ value, error, detail }) =>
        error === undefined
          ? JSON.stringify(value === undefined ? detail : value).slice(0, 100)
          : `${error.name}: ${error.message}`.slice(0, 100),
    },
  ]);
}

async function startInstance(
  workflow: string,
  id: string,
  json: string | undefined,
  flags: BrokerFlags & { delay?: string },
): Promise<void> {
  const input = jsonOf(json, 'the input');
  const startAt =
    flags.delay === undefined ? undefined : Date.now() + duration(flags.delay, '--delay');
  await onFlows(flags, (flows) =>
    flows.start(workflow, input, { id, ...(startAt === undefined ? {} : { startAt }) }),
  );
  await outputOf(flags).facts({ workflow, id, done: 'started' });
}

async function sendSignal(
  workflow: string,
  id: string,
  signal: string,
  json: string | undefined,
  flags: BrokerFlags & { id?: string },
): Promise<void> {
  const value = jsonOf(json, 'the value');
  await steer(workflow, id, flags, 'signalled', (handle) =>
    handle.signal<unknown>(signal, value, flags.id === undefined ? {} : { id: flags.id }),
  );
}

async function forkInstance(
  workflow: string,
  id: string,
  flags: BrokerFlags & { from?: string; version?: string; id?: string },
): Promise<void> {
  const made = await onFlows(flags, (flows) =>
    flows.get(workflow, id).fork({
      ...(flags.from === undefined ? {} : { from: operation(flags.from) }),
      ...(flags.version === undefined ? {} : { version: count(flags.version, '--version') }),
      ...(flags.id === undefined ? {} : { id: flags.id }),
    }),
  );
  await outputOf(flags).facts({ workflow, id, fork: made.id });
}

async function moveInstances(
  workflow: string,
  flags: BrokerFlags & { module: string; from: string; to: string; check?: boolean },
): Promise<void> {
  const module = await moduleAt(flags.module);
  const all = Object.values(module).filter(isWorkflow) as AnyWorkflow[];
  const definition = all
    .filter(({ name }) => name === workflow)
    .sort((a, b) => b.version - a.version)[0];
  if (definition === undefined) throw notFound(`${flags.module} exports no workflow ${workflow}`);
  const options = {
    from: count(flags.from, '--from'),
    to: count(flags.to, '--to'),
    check: flags.check === true,
  };
  const report = await onFlows(flags, (flows) => flows.move(definition, options));
  const output = outputOf(flags);
  if (flags.json) return output.value(report);
  await output.facts({
    [options.check ? 'would move' : 'moved']: report.moved.length,
    differ: report.differs.length,
    busy: report.busy.length,
  });
  await output.rows(report.differs, [
    { title: 'id', of: ({ id }) => id },
    { title: 'why', of: ({ why }) => why },
  ]);
}

async function steer(
  workflow: string,
  id: string,
  flags: BrokerFlags,
  done: string,
  work: (handle: WorkflowHandle) => Promise<void>,
): Promise<void> {
  await onFlows(flags, (flows) => work(flows.get(workflow, id)));
  await outputOf(flags).facts({ workflow, id, done });
}

async function moduleAt(path: string): Promise<Record<string, unknown>> {
  const file = resolve(path);
  if (!existsSync(file)) throw notFound(`--module ${path}: there is no such file`);
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    throw new CommandFailure(`--module ${path} cannot be loaded: ${(error as Error).message}`);
  }
}

function jsonOf(json: string | undefined, what: string): unknown {
  try {
    return json === undefined ? undefined : JSON.parse(json);
  } catch (error) {
    throw usage(`${what} is no JSON: ${(error as Error).message}; quote it: '{"a":1}' or '"text"'`);
  }
}

function operation(text: string): string | number {
  return /^\d+$/.test(text) ? Number(text) : text;
}

function sinceOf(text: string): Date {
  const at = position(text, Date.now(), '--since');
  if (typeof at === 'object' && 'time' in at) return at.time;
  throw usage(`--since ${JSON.stringify(text)}: write 1h, 7d or a time`);
}
