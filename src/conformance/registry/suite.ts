/**
 * The suite that says which registries conform, failures included.
 *
 * Give it a test runner and a factory of fixtures; it registers one test per case. A case is skipped
 * when its fixture lacks what the case needs; the skip names it.
 */
import { registryCases } from './cases.ts';
import { foreignCases } from './cases-foreign.ts';
import { RegistryContext, type RegistryFixture } from './registry-case.ts';

export { type RegistryCase, RegistryContext, type RegistryFixture } from './registry-case.ts';

export interface RegistryRunner {
  describe(name: string, body: () => void): unknown;
  test(
    name: string,
    options: { timeout: number },
    body: (context: { skip(reason: string): void }) => Promise<void>,
  ): unknown;
  before(hook: () => Promise<void>, options?: { timeout: number }): unknown;
  after(hook: () => Promise<void>, options?: { timeout: number }): unknown;
}

export interface RegistrySetup {
  readonly name: string;
  readonly runner: RegistryRunner;
  readonly factory: () => Promise<RegistryFixture>;
}

export function registryConformance({ name, runner, factory }: RegistrySetup): void {
  runner.describe(`${name} registry: conformance`, () => {
    let fixture: RegistryFixture;
    runner.before(
      async () => {
        fixture = await factory();
      },
      { timeout: 60_000 },
    );
    runner.after(async () => fixture?.[Symbol.asyncDispose](), { timeout: 60_000 });
    for (const each of [...registryCases, ...foreignCases]) {
      runner.test(each.name, { timeout: each.timeoutMs ?? 60_000 }, async (test) => {
        const missing = (each.uses ?? []).find((use) => fixture[use] === undefined);
        if (missing !== undefined) {
          test.skip(`the fixture has no ${String(missing)}`);
          return;
        }
        const context = new RegistryContext(fixture);
        try {
          await each.run(context);
        } finally {
          await context.end();
        }
      });
    }
  });
}
