/**
 * Records that take time to make, and have no effect before their commit: publishes, and starts of other
 * instances.
 */
import { NO_RECORD } from '../../broker/journal.ts';
import { journalKey } from '../journal/keys.ts';
import { noteVersion } from '../journal/names.ts';
import { captured } from '../journal/publishing.ts';
import { firstRecord, startAsEffects } from '../journal/starting.ts';
import type { AnyWorkflow } from '../workflow.ts';
import type { PublishRequest, SpawnRequest } from './context.ts';
import type { Flow, Operation } from './flow.ts';
import type { ExecutionHost, Item } from './host.ts';

/** The instance that starts another one. */
export interface Spawner {
  readonly host: ExecutionHost;
  readonly definition: AnyWorkflow;
  readonly flow: Flow;
  readonly token: () => string;
}

export async function publishItem(op: Operation, mostBytes: number): Promise<Item> {
  const request = op.request as PublishRequest;
  const { topic, fields, at, delayMs } = await captured(request, mostBytes);
  const due = at !== undefined ? { at } : delayMs !== undefined ? { delayMs } : {};
  return {
    kind: 'publish',
    data: { n: op.n, topic },
    effects: [{ kind: 'add', key: topic, fields, ...due }],
  };
}

export async function spawnItem(op: Operation, spawner: Spawner): Promise<Item> {
  const { definition, input, id } = op.request as SpawnRequest;
  const { host, flow, token } = spawner;
  const n = op.kind === 'child' ? op.n : 0;
  const { version } = spawner.definition;
  const { run } = flow.start;
  const of = { name: flow.name, id: flow.id, version, n, by: op.n };
  const parent = run === undefined ? of : { ...of, run };
  const more = { parent, cause: { id: journalKey(flow.name, flow.id) } };
  const record = await firstRecord({ definition, id, input, more }, host.mostBytes);
  const { store, scheduler } = host;
  // A child must not fail because of an outage.
  await noteVersion({ store, scheduler, token }, definition.name, definition.version).catch(
    () => {},
  );
  return {
    kind: 'spawn',
    data: { n: op.n, name: definition.name, id },
    effects: startAsEffects(definition.name, id, record, token()),
    also: [{ key: journalKey(definition.name, id), last: NO_RECORD }],
  };
}
