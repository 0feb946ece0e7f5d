/**
 * `npm run example 01`: builds what is missing and runs one example of examples/, by the beginning of
 * its name. Without a name it lists them.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fail, root, run } from './steps.mjs';
import './prepare.mjs';

const [wanted = '', ...args] = process.argv.slice(2);
const names = readdirSync(join(root, 'examples')).filter((name) => /^\d\d-/.test(name));
const found = names.filter((name) => name.startsWith(wanted));
if (found.length !== 1) {
  fail(`npm run example NAME, one of:\n${names.map((name) => `  ${name}`).join('\n')}`);
}
const program = join(root, 'dist', 'examples', found[0], 'main.js');
process.exitCode = await run(process.execPath, [program, ...args]);
