/**
 * Random commands to both servers, episode after episode, until the number is reached or a difference
 * is found; that one is then made as short as it goes.
 *
 * Seed S means: episode i is made from S + i alone, so `--seed` of a failing episode replays it first.
 */
import { Random } from '../../src/util/random.ts';
import {
  type Difference,
  type EpisodeResult,
  runEpisode,
  type Setting,
  type Target,
} from './episode.ts';
import { CONNECTIONS, describeStep, Generator, type Step } from './generator.ts';
import { Reference } from './reference.ts';

const EPISODE_COMMANDS = 250;
/** How many shorter sequences are tried before the report. */
const SHRINK_ATTEMPTS = 400;

export interface DifferentialOptions {
  readonly targets: readonly [redis: Target, rivulet: Target];
  readonly seed: number;
  readonly commands: number;
  readonly progress?: (commands: number) => void;
  /** Kinds of differences (see `kindOf`) that are not reported; the run goes on after them. */
  readonly ignore?: ReadonlySet<string>;
}

export interface DifferentialResult {
  readonly commands: number;
  /** The report of the difference found; undefined when there was none. */
  readonly report: string | undefined;
  /** What `ignore` takes to pass over this kind of difference. */
  readonly kind?: string;
  readonly known: Map<string, number>;
}

export async function runDifferential(options: DifferentialOptions): Promise<DifferentialResult> {
  const known = new Map<string, number>();
  let commands = 0;
  const reference = await Reference.ask(options.targets[0].port);
  for (let seed = options.seed; commands < options.commands; seed++) {
    const { setting, steps } = episodeOf(seed, reference);
    const result = await runEpisode(options.targets, setting, steps);
    commands += result.commands;
    for (const [what, count] of result.known) known.set(what, (known.get(what) ?? 0) + count);
    const { difference } = result;
    const kind = difference === undefined ? '' : kindOf(steps[difference.at], difference);
    if (difference !== undefined && !options.ignore?.has(kind)) {
      const report = await shrunkReport(options.targets, seed, setting, steps, difference);
      return { commands, report, kind, known };
    }
    options.progress?.(commands);
  }
  return { commands, report: undefined, known };
}

function episodeOf(seed: number, reference: Reference): { setting: Setting; steps: Step[] } {
  const random = new Random(seed);
  const setting: Setting = {
    nodeMaxEntries: random.pick([100, 100, 1, 2, 5, 10, 0]),
    nodeMaxBytes: random.pick([4096, 4096, 100, 300, 0]),
    version: reference.version,
    protocols: Array.from({ length: CONNECTIONS }, () => random.pick([2, 3] as const)),
  };
  return { setting, steps: new Generator(random, reference).steps(EPISODE_COMMANDS) };
}

/** Differences of one kind have, most likely, one cause. */
function kindOf(step: Step, { redis, rivulet }: Difference): string {
  const [name, second] = step.args.map((arg) => String(arg).toUpperCase());
  const command = ['XGROUP', 'XINFO', 'CLIENT'].includes(name) ? `${name} ${second}` : name;
  const shape = (reply: string) => reply.replace(/[0-9]+/g, '0').slice(0, 24);
  return `${command} ${shape(redis)} ${shape(rivulet)}`;
}

/** Leaves out ever smaller parts of the sequence as long as the same command still differs. */
async function shrunkReport(
  targets: DifferentialOptions['targets'],
  seed: number,
  setting: Setting,
  steps: readonly Step[],
  difference: Difference,
): Promise<string> {
  let best = steps.slice(0, difference.after + 1);
  let bestDifference = difference;
  const culprit = describeStep(steps[difference.at]);
  let attempts = 0;
  for (let size = best.length >> 1; size >= 1; size = size === 1 ? 0 : size >> 1) {
    for (let from = 0; from < best.length && attempts < SHRINK_ATTEMPTS; ) {
      attempts++;
      const shorter = [...best.slice(0, from), ...best.slice(from + size)];
      const result: EpisodeResult = await runEpisode(targets, setting, shorter, 3_000);
      const found = result.difference;
      if (found !== undefined && describeStep(shorter[found.at]) === culprit) {
        best = shorter.slice(0, found.after + 1);
        bestDifference = found;
      } else from += size;
    }
  }
  return [
    `replies differ (seed ${seed}; replay: npm run test:differential -- --seed ${seed} --commands 1)`,
    `stream-node-max-entries ${setting.nodeMaxEntries}, stream-node-max-bytes ${setting.nodeMaxBytes}, RESP ${setting.protocols.join(' ')}`,
    ...best.map((step, i) => `${i === bestDifference.at ? '>>' : '  '} ${describeStep(step)}`),
    `${targets[0].name.padEnd(8)} ${bestDifference.redis}`,
    `${targets[1].name.padEnd(8)} ${bestDifference.rivulet}`,
  ].join('\n');
}
