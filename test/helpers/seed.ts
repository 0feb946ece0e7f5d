/**
 * The seeds of tests that draw: all of them come from here, so that each commit is judged by the same
 * draws, and a failure can be seen again.
 *
 *     (nothing)              a number made of the test's name: the same on each machine and each day
 *     RIVULET_SEED=N         this one, in each test that runs
 *     RIVULET_SEED=random    a drawn one, printed; `npm run soak` gives another one to each run
 *
 * A test that fails says in its error which seed it had.
 */
import { randomInt } from 'node:crypto';
import type { TestContext } from 'node:test';
import { Random } from '../../src/util/random.ts';

const SETTING = process.env.RIVULET_SEED ?? '';
const IS_DRAWN = SETTING === 'random';
if (SETTING !== '' && !IS_DRAWN && !Number.isSafeInteger(Number(SETTING))) {
  throw new Error(`RIVULET_SEED=${SETTING}: it is a whole number, or the word random`);
}

/** The seed of what has this name. */
export function seedNamed(name: string): number {
  if (IS_DRAWN) return randomInt(2 ** 31);
  if (SETTING !== '') return Number(SETTING);
  // FNV-1a.
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 1;
}

/** `count` seeds, one after the other; where the test fails, its error names the one it was at. */
export function* seedsOf(t: TestContext, count: number): Generator<number, void, undefined> {
  const first = seedNamed(t.fullName);
  let seed = first;
  t.after(() => tell(t, seed));
  if (IS_DRAWN) t.diagnostic(`RIVULET_SEED=${first}`);
  for (; seed < first + count; seed++) yield seed;
}

/** The seed of a test; where the test fails, its error names it. */
export function seedOf(t: TestContext): number {
  const [seed] = seedsOf(t, 1);
  return seed as number;
}

/** What a test draws from. */
export function randomOf(t: TestContext): Random {
  return new Random(seedOf(t));
}

function tell(t: TestContext, seed: number): void {
  // Node has it since 20.12, and the types of Node 20 do not.
  const failure = (t as TestContext & { error?: Error | null }).error;
  if (failure === null || failure === undefined) return;
  const note = `RIVULET_SEED=${seed} repeats it`;
  const error = failure.cause ?? failure;
  if (!(error instanceof Error)) {
    failure.cause = failure.message = `${String(error)}\n${note}`;
    return;
  }
  const { message, stack } = error;
  error.message = `${message}\n${note}`;
  // What was thrown keeps the text that it was made with.
  error.stack = stack?.includes(message)
    ? stack.replace(message, () => error.message)
    : `${note}\n${stack}`;
}
