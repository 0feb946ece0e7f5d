/** `node scripts/capabilities.mjs`: README's table of capabilities, from brokers on real servers. */
import { join } from 'node:path';
import { root, run } from './steps.mjs';
import './prepare.mjs';

process.exitCode = await run(process.execPath, [
  join(root, 'dist/test/conformance/write-capabilities.js'),
]);
