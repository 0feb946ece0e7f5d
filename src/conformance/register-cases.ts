/**
 * What the suites share: how cases become tests, with a new fixture for each, or one for all.
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

/** The same, of a suite that has one fixture for all its cases. */
export interface Runner extends CaseRunner {
  describe(name: string, body: () => void): unknown;
  describe(name: string, options: { concurrency: number }, body: () => void): unknown;
  before(hook: () => Promise<void>, options?: { timeout: number }): unknown;
  after(hook: () => Promise<void>, options?: { timeout: number }): unknown;
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

/** Makes one fixture for all tests that `register` adds; they ask for it when they run. */
export function withFixture<Fixture extends AsyncDisposable>(
  title: string,
  { runner, factory }: { readonly runner: Runner; readonly factory: () => Promise<Fixture> },
  register: (fixture: () => Fixture) => void,
): void {
  runner.describe(title, () => {
    let fixture: Fixture;
    runner.before(
      async () => {
        fixture = await factory();
      },
      { timeout: 120_000 },
    );
    runner.after(async () => fixture?.[Symbol.asyncDispose](), { timeout: 60_000 });
    register(() => fixture);
  });
}

interface ContextCase<Fixture, Context> {
  readonly name: string;
  readonly uses?: readonly (keyof Fixture)[];
  readonly timeoutMs?: number;
  run(context: Context): Promise<void>;
}

/** One test per case, each with a new context on the fixture. `whyNot` = a reason of the suite to skip it. */
export function registerInContext<
  Fixture,
  Context extends { end(): Promise<void> },
  Case extends ContextCase<Fixture, Context>,
>(
  runner: Runner,
  cases: readonly Case[],
  fixture: () => Fixture,
  contextOf: (fixture: Fixture) => Context,
  whyNot: (each: Case) => string | null = () => null,
): void {
  for (const each of cases) {
    runner.test(each.name, { timeout: each.timeoutMs ?? 120_000 }, async (test) => {
      const missing = (each.uses ?? []).find((use) => fixture()[use] === undefined);
      const lacks = missing === undefined ? null : `the fixture has no ${String(missing)}`;
      const reason = whyNot(each) ?? lacks;
      if (reason !== null) {
        test.skip(reason);
        return;
      }
      const context = contextOf(fixture());
      try {
        await each.run(context);
      } finally {
        await context.end();
      }
    });
  }
}
