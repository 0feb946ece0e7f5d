/**
 * The suite that says who conforms: everything the Broker contract promises, failures included.
 *
 * Give it a test runner (node:test's `describe`, `test`, `before`, `after`) and a factory of a
 * backing server; it registers one test per case. A case is skipped for one reason only: a
 * capability that the broker does not claim, or something its backing cannot do to itself (being
 * killed, say); the skip names it.
 */
import { randomBytes } from 'node:crypto';
import type { Capabilities } from '../broker/capabilities.ts';
import { args } from './cases/arguments.ts';
import { attempts } from './cases/attempts.ts';
import { batches } from './cases/batches.ts';
import { closing } from './cases/closing.ts';
import { deadLetters } from './cases/dead-letters.ts';
import { delays } from './cases/delays.ts';
import { flow } from './cases/flow.ts';
import { groups } from './cases/groups.ts';
import { neighbours } from './cases/neighbours.ts';
import { order } from './cases/order.ts';
import { outages } from './cases/outages.ts';
import { publishing } from './cases/publishing.ts';
import { refusals } from './cases/refusals.ts';
import { replaying } from './cases/replaying.ts';
import { requests } from './cases/requests.ts';
import { retries } from './cases/retries.ts';
import { type Backing, type Case, World } from './world.ts';

export { capabilityColumn, capabilityTable, columnIn } from './capability-table.ts';
export { FaultyProxy, type ProxyMode } from './faulty-proxy.ts';
export type { Backing, Case } from './world.ts';

/** The part of node:test that is used. */
export interface Runner {
  describe(name: string, body: () => void): unknown;
  describe(name: string, options: { concurrency: number }, body: () => void): unknown;
  test(
    name: string,
    options: { timeout: number },
    body: (context: { skip(reason: string): void }) => Promise<void>,
  ): unknown;
  before(hook: () => Promise<void>, options?: { timeout: number }): unknown;
  after(hook: () => Promise<void>, options?: { timeout: number }): unknown;
}

export interface ConformanceSetup {
  readonly name: string;
  readonly runner: Runner;
  readonly factory: () => Promise<Backing>;
  /** Only cases whose group and name contain this. */
  readonly only?: string;
  /** Looks at what a connected broker claims: whether documentation says the same. */
  readonly capabilities?: (claimed: Readonly<Capabilities>) => void;
  /**
   * How many cases run side by side, for servers on which they mostly wait. Those that count
   * connections, harm the server or block the process stay alone. @default 1
   */
  readonly sideBySide?: number;
}

/** Every case, by group, in the order they run: those that harm the server come last. */
export const cases: Readonly<Record<string, readonly Case[]>> = {
  publishing,
  groups,
  retries,
  attempts,
  'dead letters': deadLetters,
  order,
  flow,
  batches,
  delays,
  replaying,
  requests,
  refusals,
  arguments: args,
  neighbours,
  closing,
  outages,
};

/** Groups whose cases stay alone. */
const ALONE: readonly string[] = ['closing', 'outages'];

export function conformance(setup: ConformanceSetup): void {
  const { name, runner, factory, only = '', capabilities, sideBySide = 1 } = setup;
  runner.describe(`${name}: conformance`, () => {
    let backing: Backing;
    runner.before(
      async () => {
        backing = await factory();
      },
      { timeout: 120_000 },
    );
    runner.after(async () => backing?.[Symbol.asyncDispose](), { timeout: 60_000 });
    if (capabilities !== undefined) {
      runner.test('capabilities: as documented', { timeout: 60_000 }, async () => {
        await using broker = await backing.open();
        capabilities(broker.capabilities);
      });
    }
    const register = (group: string, list: readonly Case[]) => {
      for (const each of list) {
        if (!`${group}: ${each.name}`.includes(only)) continue;
        const timeout = each.timeoutMs ?? 60_000;
        runner.test(`${group}: ${each.name}`, { timeout }, async (context) => {
          const reason = await reasonToSkip(each, backing);
          if (reason !== null) context.skip(reason);
          else await runCase(each, backing);
        });
      }
    };
    const beside = (group: string, each: Case) =>
      sideBySide > 1 && !ALONE.includes(group) && each.alone !== true;
    const all = Object.entries(cases);
    if (sideBySide > 1) {
      runner.describe(`${sideBySide} side by side`, { concurrency: sideBySide }, () => {
        for (const [group, list] of all) {
          register(
            group,
            list.filter((each) => beside(group, each)),
          );
        }
      });
    }
    for (const [group, list] of all) {
      register(
        group,
        list.filter((each) => !beside(group, each)),
      );
    }
  });
}

async function reasonToSkip(each: Case, backing: Backing): Promise<string | null> {
  for (const use of each.uses ?? []) {
    if (use === 'processUrl' && backing.url !== undefined) continue;
    if (backing[use] === undefined) return `the backing has no ${String(use)}`;
  }
  if (backing.notYet?.includes(each.name)) return 'not yet';
  if (each.needs === undefined) return null;
  await using broker = await backing.open(each.options);
  const missing = each.needs(broker.capabilities);
  return missing === null ? null : `capability ${missing}`;
}

async function runCase(each: Case, backing: Backing): Promise<void> {
  const world = new World(backing, `conformance.${randomBytes(4).toString('hex')}`);
  try {
    await each.run(world);
  } finally {
    await world.end();
  }
}
