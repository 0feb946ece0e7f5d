/**
 * `npm run test:chaos [-- SECONDS [SEED]]`: builds what is stale, then the chaos runs in their long
 * form, one minute for each broker unless the argument says otherwise. The seed is in the names of the tests.
 */
import { join } from 'node:path';
import { root, run } from './steps.mjs';
import './prepare.mjs';

const [seconds = '60', seed] = process.argv.slice(2);
process.exitCode = await run(
  process.execPath,
  ['--expose-gc', '--test', '--test-reporter=spec', join(root, 'dist/test/chaos/chaos.test.js')],
  { env: { ...process.env, CHAOS_SECONDS: seconds, ...(seed ? { RIVULET_SEED: seed } : {}) } },
);
