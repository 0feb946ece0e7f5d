/** Waits of tests end: a loop that only waits is `until` (test/helpers/until.ts), which fails with a sentence. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSource, type SourceFile, sourceFiles } from './source-file.ts';

/** `while` loops whose body only waits, or whose condition waits and has no body. */
function endlessWaits(files: readonly SourceFile[]): string[] {
  const found: string[] = [];
  for (const { path, code } of files) {
    for (const { index } of code.matchAll(/\bwhile \(/g)) {
      const open = code.indexOf('(', index);
      const close = endOf(code, open);
      const condition = code.slice(open, close);
      const body = code.slice(close + 1, close + 200).trimStart();
      const waits =
        /^await (new Promise|once|turn|pause|delay)\b/.test(body) ||
        /^\{\s*await (new Promise|once)\([^;]*;\s*\}/.test(body) ||
        (/^(;|\{\s*\})/.test(body) && /\bawait\b/.test(condition));
      if (!waits || /performance\.now|aborted|exitCode/.test(condition)) continue;
      found.push(`${path}:${code.slice(0, index).split('\n').length}`);
    }
  }
  return found;
}

/** Where the parenthesis at `open` is closed. */
function endOf(code: string, open: number): number {
  let depth = 0;
  for (let at = open; at < code.length; at++) {
    if (code[at] === '(') depth++;
    else if (code[at] === ')' && --depth === 0) return at;
  }
  return code.length;
}

test('no loop of a test waits without an end', () => {
  // A program that is run as it stands, without the helpers of the tests; a broker that is broken on purpose.
  const apart = [
    'test/package/program/',
    'test/conformance/broken-brokers.ts',
    'test/helpers/until.ts',
  ];
  const files = [...sourceFiles('test'), ...sourceFiles('src/conformance')];
  assert.deepEqual(
    endlessWaits(files.filter(({ path }) => !apart.some((p) => path.startsWith(p)))),
    [],
  );
  const bad = [
    "while (got < count) await once(socket, 'data');",
    'while (left > 0) await new Promise((resolve) => setTimeout(resolve, 10));',
    'while (left > 0) {\n  await new Promise(setImmediate);\n}',
    "while (!(await ask('help')).includes(')')) {}",
    'while ((await call()) !== dead);',
  ];
  for (const text of bad) {
    assert.equal(endlessWaits([parseSource('test/x.test.ts', text)]).length, 1, text);
  }
  const good =
    "while (at < end) {\n  await client.call('PING');\n  at++;\n}\nwhile (cursor.next());";
  assert.deepEqual(endlessWaits([parseSource('test/y.test.ts', good)]), []);
});
