#!/usr/bin/env node
// The installed command. The program is compiled TypeScript; this only finds it: put together in
// dist/micro (scripts/bundle.mjs) or, where that is missing or older, module by module in dist/src.
import { statSync } from 'node:fs';
import * as module from 'node:module';
import { fileURLToPath } from 'node:url';

const bundle = new URL('../dist/micro/main.js', import.meta.url);
const modules = new URL('../dist/src/cli/main.js', import.meta.url);
const program = builtAt(bundle) >= builtAt(modules) ? bundle : modules;

if (builtAt(program) > 0) {
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

function builtAt(url) {
  return statSync(fileURLToPath(url), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
