/** `micro context`: named addresses, so that commands need no URL. */
import { Command } from 'commander';
import { withoutPassword } from '../../broker/addresses.ts';
import { type Context, contextOf, contextsFile, readContexts, writeContexts } from '../contexts.ts';
import { withExamples } from '../examples.ts';
import { usage } from '../exit-code.ts';
import { Output } from '../printing/output.ts';

/** Registries without an address. */
const REGISTRIES = new Set(['mdns', 'broker', 'memory']);

interface Flags {
  readonly json?: boolean;
}

export function contextCommand(): Command {
  const command = new Command('context').description(
    'name the addresses of brokers and registries',
  );
  const add = command
    .command('add')
    .description('add a context, or replace one; the first one is selected')
    .argument('<name>')
    .option('-b, --broker <url>', 'the broker of this context')
    .option('-r, --registry <url>', 'the registry of this context')
    .option('--select', 'use it from now on')
    .option('--json', 'print JSON')
    .action(addContext);
  withExamples(add, [
    {
      line: 'micro context add local --broker rivulet://127.0.0.1:7488 --registry broker',
      says: 'a server on this machine',
    },
  ]);
  const select = command
    .command('select')
    .description('use a context from now on; - goes back to the one before')
    .argument('<name>')
    .option('--json', 'print JSON')
    .action(selectContext);
  withExamples(select, [{ line: 'micro context select local', says: 'use it from now on' }]);
  const list = command
    .command('list')
    .description('the contexts, without passwords; * is the current one')
    .option('--json', 'print JSON')
    .action(listContexts);
  withExamples(list, [{ line: 'micro context list', says: 'show them' }]);
  const show = command
    .command('show')
    .description('the addresses of a context, with passwords')
    .argument('[name]', 'default: the current one')
    .option('--json', 'print JSON')
    .action(showContext);
  withExamples(show, [{ line: 'micro context show local --json', says: 'one of them, as JSON' }]);
  const remove = command
    .command('remove')
    .description('remove a context')
    .argument('<name>')
    .option('--json', 'print JSON')
    .action(removeContext);
  withExamples(remove, [{ line: 'micro context remove local', says: 'remove it' }]);
  return command;
}

async function addContext(
  name: string,
  { broker, registry, select, json }: Context & Flags & { select?: boolean },
): Promise<void> {
  if (!/^[\w.-]{1,64}$/.test(name) || name === '-') {
    throw usage(`context ${JSON.stringify(name)}: a name is 1 to 64 letters, digits and . _ -`);
  }
  if (broker === undefined && registry === undefined) {
    throw usage('a context holds addresses: give --broker, --registry or both');
  }
  for (const address of [broker, registry]) {
    if (address === undefined || /^[a-z][a-z0-9+.-]*:./i.test(address)) continue;
    if (address === registry && REGISTRIES.has(address)) continue;
    throw usage(
      `${JSON.stringify(address)} is no address: write rivulet://host:port, redis://host:port, amqp://host or nats://host`,
    );
  }
  const before = readContexts();
  const context = {
    ...(broker === undefined ? {} : { broker }),
    ...(registry === undefined ? {} : { registry }),
  };
  const isSelected = select === true || before.current === null;
  writeContexts({
    contexts: { ...before.contexts, [name]: context },
    current: isSelected ? name : before.current,
    previous: isSelected && before.current !== name ? before.current : before.previous,
  });
  const output = new Output(json === true);
  const file = contextsFile();
  if (output.json) await output.value({ ...shown(name, context), current: isSelected, file });
  else await output.line(`${name} is in ${file}${isSelected ? ', selected' : ''}`);
}

async function selectContext(name: string, flags: Flags): Promise<void> {
  const before = readContexts();
  const wanted = name === '-' ? before.previous : name;
  if (wanted === null) throw usage('no context was selected before this one');
  const context = contextOf(wanted) as Context;
  writeContexts({ ...before, current: wanted, previous: before.current });
  const output = new Output(flags.json === true);
  if (output.json) await output.value({ ...shown(wanted, context), current: true });
  else await output.line(`${wanted} is selected`);
}

async function listContexts(flags: Flags): Promise<void> {
  const { current, contexts } = readContexts();
  const rows = Object.entries(contexts)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, context]) => ({ ...shown(name, context), current: name === current }));
  await new Output(flags.json === true).rows(rows, [
    { title: ' ', of: (row) => (row.current ? '*' : '') },
    { title: 'name', of: (row) => row.name },
    { title: 'broker', of: (row) => row.broker },
    { title: 'registry', of: (row) => row.registry },
  ]);
}

async function showContext(name: string | undefined, flags: Flags): Promise<void> {
  const context = contextOf(name);
  if (context === null) throw usage('no context is selected; micro context add makes one');
  await new Output(flags.json === true).facts({ ...context });
}

async function removeContext(name: string, flags: Flags): Promise<void> {
  const context = contextOf(name) as Context;
  const { contexts, current, previous } = readContexts();
  const { [name]: _, ...others } = contexts;
  writeContexts({
    contexts: others,
    current: current === name ? null : current,
    previous: previous === name ? null : previous,
  });
  const output = new Output(flags.json === true);
  if (output.json) await output.value({ ...shown(name, context), current: false });
  else await output.line(`${name} is removed`);
}

/** What every command here prints of a context: never a password. */
function shown(name: string, { broker, registry }: Context) {
  return {
    name,
    broker: broker === undefined ? null : withoutPassword(broker),
    registry: registry === undefined ? null : withoutPassword(registry),
  };
}
