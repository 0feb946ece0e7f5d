/**
 * What the suites of codecs, selectors and calls share: one test per case, and a new fixture for each.
 *
 * Invariant: a case is skipped only where its fixture lacks what the case uses; the skip names it.
 */

/** The part of node:test that is used. */
export interface CaseRunner {
  describe(name: string, body: () => void): unknown;
  test(
    name: string,
    options: { timeout: number },
    body: (context: { skip(reason: string): void }) => Promise<void>,
  ): unknown;
}

export interface FixtureCase<Fixture> {
  readonly name: string;
  /** Optional members of the fixture that the case cannot do without. */
  readonly uses?: readonly (keyof Fixture)[];
  run(fixture: Fixture): Promise<void> | void;
}

export interface CaseSetup<Fixture> {
  readonly name: string;
  readonly runner: CaseRunner;
  /** Called once per case. */
  readonly factory: () => Promise<Fixture> | Fixture;
}

export function registerCases<Fixture>(
  { name, runner, factory }: CaseSetup<Fixture>,
  cases: readonly FixtureCase<Fixture>[],
): void {
  runner.describe(`${name}: conformance`, () => {
    for (const each of cases) {
      runner.test(each.name, { timeout: 60_000 }, async (test) => {
        const fixture = await factory();
        try {
          const missing = (each.uses ?? []).find((use) => fixture[use] === undefined);
          if (missing === undefined) await each.run(fixture);
          else test.skip(`the fixture has no ${String(missing)}`);
        } finally {
          const dispose = (fixture as Partial<AsyncDisposable>)[Symbol.asyncDispose];
          await dispose?.call(fixture);
        }
      });
    }
  });
}
