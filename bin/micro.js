#!/usr/bin/env node
// The installed command. The program is compiled TypeScript; this only finds it.
import { existsSync } from 'node:fs';
import * as module from 'node:module';
import { fileURLToPath } from 'node:url';

const program = new URL('../dist/src/cli/main.js', import.meta.url);
if (existsSync(fileURLToPath(program))) {
  // Node 22 and later keep compiled code from one start to the next.
  module.enableCompileCache?.();
  const { main } = await import(program.href);
  await main(process.argv.slice(2));
} else {
  process.stderr.write(
    'micro: not built yet; run `npm start` (or `npm install && npm run build`)\n',
  );
  process.exitCode = 1;
}
