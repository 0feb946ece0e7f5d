/**
 * The conformance suite for brokers: everything that the Broker contract promises, failures included.
 *
 * Give it a test runner (node:test's `describe`, `test`, `before`, `after`) and a factory of a fixture;
 * it registers one test per case. A case is skipped only where the broker does not claim a capability,
 * or the fixture lacks something, such as a way to kill its server. The skip names it.
 */
import { randomBytes } from 'node:crypto';
import type { Capabilities } from '../broker/capabilities.ts';
import { type Case, CaseContext, type Fixture } from './case-context.ts';
import { args } from './cases/arguments.ts';
import { attempts } from './cases/attempts.ts';
import { batches } from './cases/batches.ts';
import { bodies } from './cases/bodies.ts';
import { calls } from './cases/calls.ts';
import { closing } from './cases/closing.ts';
import { connectionFaults } from './cases/connection-faults.ts';
import { deadLetters } from './cases/dead-letters.ts';
import { delays } from './cases/delays.ts';
import { flow } from './cases/flow.ts';
import { groups } from './cases/groups.ts';
import { loops } from './cases/loops.ts';
import { neighbours } from './cases/neighbours.ts';
import { order } from './cases/order.ts';
import { outages } from './cases/outages.ts';
import { publishing } from './cases/publishing.ts';
import { refusals } from './cases/refusals.ts';
import { replaying } from './cases/replaying.ts';
import { requests } from './cases/requests.ts';
import { retries } from './cases/retries.ts';
import { type Runner, withFixture } from './register-cases.ts';

export { capabilityColumn, capabilityTable, columnIn } from './capability-table.ts';
export type { Case, Fixture, Fixture as Backing } from './case-context.ts';
export { type CodecFixture, codecCases, codecConformance } from './codec/suite.ts';
export { FaultyProxy, type ProxyMode } from './faulty-proxy.ts';
export type { CaseRunner, CaseSetup, FixtureCase, Runner } from './register-cases.ts';
export { type RegistryFixture, registryConformance } from './registry/suite.ts';
export { type RpcFixture, rpcCases, rpcConformance } from './rpc/suite.ts';
export { type SelectorFixture, selectorCases, selectorConformance } from './selector/suite.ts';
export { type TransportFixture, transportCases, transportConformance } from './transport/index.ts';

export interface ConformanceSetup {
  readonly name: string;
  readonly runner: Runner;
  readonly factory: () => Promise<Fixture>;
  /** Only cases whose group and name contain this. */
  readonly only?: string;
  /** Checks what a connected broker claims, against documentation for example. */
  readonly capabilities?: (claimed: Readonly<Capabilities>) => void;
  /**
   * How many cases run in parallel, for servers on which they mostly wait. Cases that count
   * connections, harm the server or block the process run alone. @default 1
   */
  readonly sideBySide?: number;
  /** What the cases that draw draw from: the same seed, the same draws. @default 1 */
  readonly seed?: number;
}

/** Every case, by group, in the order they run: those that harm the server come last. */
export const cases: Readonly<Record<string, readonly Case[]>> = {
  publishing,
  bodies,
  groups,
  retries,
  attempts,
  'dead letters': deadLetters,
  order,
  flow,
  batches,
  loops,
  delays,
  replaying,
  requests,
  calls,
  refusals,
  arguments: args,
  neighbours,
  closing,
  outages: [...connectionFaults, ...outages],
};

/** Groups whose cases run alone. */
const ALONE: readonly string[] = ['closing', 'outages'];

export function conformance(setup: ConformanceSetup): void {
  const { name, runner, only = '', capabilities, sideBySide = 1, seed = 1 } = setup;
  withFixture(`${name}: conformance`, setup, (fixture) => {
    if (capabilities !== undefined) {
      runner.test('capabilities: as documented', { timeout: 60_000 }, async () => {
        await using broker = await fixture().open();
        capabilities(broker.capabilities);
      });
    }
    const register = (group: string, list: readonly Case[]) => {
      for (const each of list) {
        if (!`${group}: ${each.name}`.includes(only)) continue;
        const timeout = each.timeoutMs ?? 240_000;
        runner.test(`${group}: ${each.name}`, { timeout }, async (context) => {
          const reason = await reasonToSkip(each, fixture());
          if (reason !== null) context.skip(reason);
          else await runCase(each, fixture(), seed);
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

async function reasonToSkip(each: Case, fixture: Fixture): Promise<string | null> {
  for (const use of each.uses ?? []) {
    if (use === 'processUrl' && fixture.url !== undefined) continue;
    if (fixture[use] === undefined) return `the fixture has no ${String(use)}`;
  }
  if (each.needs === undefined) return null;
  await using broker = await fixture.open(each.options);
  const missing = each.needs(broker.capabilities);
  return missing === null ? null : `capability ${missing}`;
}

async function runCase(each: Case, fixture: Fixture, seed: number): Promise<void> {
  const prefix = `conformance.${randomBytes(4).toString('hex')}`;
  const context = new CaseContext(fixture, prefix, seed);
  try {
    await each.run(context);
  } finally {
    await context.end();
  }
}
