/**
 * Builds what is stale, then runs one compiled program: `node scripts/run.mjs test/simulation/simulate.js --seeds 10`.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fail, root, run } from './steps.mjs';
import './prepare.mjs';

const [program, ...args] = process.argv.slice(2);
if (!program) fail('usage: node scripts/run.mjs <program below dist/> [its arguments]');
const path = join(root, 'dist', program);
if (!existsSync(path)) fail(`dist/${program} does not exist`);
process.exitCode = await run(process.execPath, ['--expose-gc', path, ...args]);
