/**
 * `npm run test:differential [-- --reference PATH] [--commands 1000000] [--seed N] [--keep-going]`: the
 * long form, with progress. `--reference` names a redis-server of any version to compare with, in place
 * of the machine's; its commands decide which are sent. `--keep-going` goes on after a
 * difference and reports the first of each kind, up to 20.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { startRedis } from '../helpers/redis-server.ts';
import { startRivulet } from '../helpers/rivulet-server.ts';
import { runDifferential } from './differential.ts';

const { values } = parseArgs({
  options: {
    commands: { type: 'string', default: '1000000' },
    reference: { type: 'string' },
    seed: { type: 'string' },
    'keep-going': { type: 'boolean', default: false },
  },
});
const total = Number(values.commands);
let seed = Number(values.seed ?? randomInt(2 ** 31));
const redis = await startRedis(values.reference === undefined ? {} : { program: values.reference });
const rivulet = await startRivulet({ args: ['--appendonly', 'no'] });
const startedAt = performance.now();
let done = 0;
let differences = 0;
const ignore = new Set<string>();
process.stdout.write(`differential: ${total} commands from seed ${seed}\n`);
while (done < total && differences < (values['keep-going'] ? 20 : 1)) {
  let said = 0;
  const before = done;
  const result = await runDifferential({
    targets: [
      { name: 'redis', port: redis.port },
      { name: 'rivulet', port: rivulet.port },
    ],
    seed,
    commands: total - done,
    ignore,
    progress: (commands) => {
      seed++;
      if (commands - said < 20_000) return;
      said = commands;
      const rate = Math.round((before + commands) / ((performance.now() - startedAt) / 1000));
      process.stdout.write(
        `${before + commands} of ${total} commands, ${rate}/s, no difference so far\n`,
      );
    },
  });
  done += result.commands;
  seed++;
  for (const [what, count] of result.known)
    process.stdout.write(`known difference met ${count} times: ${what}\n`);
  if (result.report === undefined) continue;
  differences++;
  ignore.add(result.kind ?? '');
  process.stdout.write(`\n${result.report}\n\n`);
}
process.stdout.write(
  `${done} commands, ${differences === 0 ? 'no difference' : `${differences} differences`}\n`,
);
process.exit(differences === 0 ? 0 : 1);
