/** The built pages: their sizes, what they name, what they may hold under the content security policy. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { repositoryRoot } from '../house/source-file.ts';

const folder = join(repositoryRoot, 'dist', 'web');
const html = readFileSync(join(folder, 'index.html'), 'utf8');
const gzipped = (path: string) => gzipSync(readFileSync(join(folder, path))).length;

/** Files that the browser fetches for index.html: what it names. */
const named = [...html.matchAll(/(?:href|src)="\/console\/(assets\/[^"]+)"/g)].map(
  ([, path]) => path!,
);

/** A file and all that it imports before it runs. */
function withImports(path: string, seen = new Set<string>()): Set<string> {
  if (seen.has(path)) return seen;
  seen.add(path);
  const text = readFileSync(join(folder, path), 'utf8');
  for (const [, name] of text.matchAll(/(?:from|import)\s*"\.\/([^"]+)"/g)) {
    withImports(`assets/${name}`, seen);
  }
  return seen;
}

test('index.html names one script, one style sheet, and nothing that is not there', () => {
  assert.equal(named.filter((path) => /\/main-/.test(path)).length, 1);
  assert.equal(named.filter((path) => path.endsWith('.css')).length, 1);
  for (const path of named) assert.ok(existsSync(join(folder, path)), path);
});

test('the first view is below 100 KB in gzip, with its chart', () => {
  const overview = readdirSync(join(folder, 'assets')).find((name) => name.startsWith('overview-'));
  const chart = readdirSync(join(folder, 'assets')).find((name) => name.startsWith('uPlot'));
  assert.ok(overview !== undefined && chart !== undefined);
  const files = new Set(named);
  for (const path of [...named, `assets/${overview}`, `assets/${chart}`]) {
    if (path.endsWith('.js')) withImports(path, files);
    else files.add(path);
  }
  const total = [...files].reduce((sum, path) => sum + gzipped(path), gzipped('index.html'));
  assert.ok(total < 100_000, `the first view has ${total} bytes`);
  assert.ok(total > 20_000, `all of it is counted: ${total} bytes`);
});

test('a file is fetched at once with the script that imports it', () => {
  const main = named.find((path) => /\/main-/.test(path))!;
  for (const path of withImports(main)) assert.ok(named.includes(path), `${path} has no preload`);
});

test('the document holds no inline script, style or handler', () => {
  assert.doesNotMatch(html, /<script(?![^>]*\bsrc=)[^>]*>/);
  assert.doesNotMatch(html, /<style|\sstyle=|\son\w+=/);
});

test('no page turns text into markup or code', () => {
  for (const name of readdirSync(join(repositoryRoot, 'web'), { recursive: true }) as string[]) {
    if (!/\.tsx?$/.test(name)) continue;
    const text = readFileSync(join(repositoryRoot, 'web', name), 'utf8');
    assert.doesNotMatch(
      text,
      /dangerouslySetInnerHTML|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/,
      name,
    );
  }
});

test('nothing is fetched from another host, and each library has its licence beside the files', () => {
  for (const name of readdirSync(join(folder, 'assets'))) {
    const text = readFileSync(join(folder, 'assets', name), 'utf8');
    const hosts = [...text.matchAll(/https?:\/\/[\w.-]+/g)].map(([url]) => url);
    // Names of XML namespaces are no addresses.
    assert.deepEqual(
      hosts.filter((url) => url !== 'http://www.w3.org'),
      [],
      name,
    );
  }
  const licences = readFileSync(join(folder, 'licences.txt'), 'utf8');
  for (const name of ['preact', '@preact/signals', '@preact/signals-core', 'uplot']) {
    assert.match(licences, new RegExp(`^${name}$`, 'm'));
  }
});

test('pages import nothing of the server but the types of its API', () => {
  for (const name of readdirSync(join(repositoryRoot, 'web'), { recursive: true }) as string[]) {
    if (!/\.tsx?$/.test(name)) continue;
    const text = readFileSync(join(repositoryRoot, 'web', name), 'utf8');
    for (const [, what, from] of text.matchAll(/import\s+([^;]*?)from\s+'([^']*\/src\/[^']*)'/g)) {
      assert.match(from!, /\/src\/console\/api-types\.ts$/, name);
      assert.match(what!, /^type\b/, `${name} imports only types`);
    }
  }
  const api = join(repositoryRoot, 'src', 'console', 'api');
  for (const name of ['../api-types.ts', ...readdirSync(api)]) {
    const text = readFileSync(join(api, name), 'utf8');
    assert.doesNotMatch(text, /^import (?!type )|from '(?!\.\/)/m, `${name} imports only api/`);
    assert.doesNotMatch(text, /^export (?!type |interface )/m, `${name} holds only types`);
  }
});

test('each class and each variable of the style sheets is used by a page', () => {
  const sheets = filesOf(/\.css$/).replace(/\/\*[\s\S]*?\*\/|"[^"]*"/g, '');
  const pages = filesOf(/\.(tsx?|html)$/);
  const isUsed = (name: string): boolean => {
    if (new RegExp(`(?<![\\w-])${name}(?![\\w-])`).test(pages)) return true;
    // `tag-good` is made of `tag-${tone}`.
    const start = /^(.*?-|[a-z]+(?=\d))/.exec(name)?.[0];
    return start !== undefined && pages.includes(`${start}\${`);
  };
  const classes = new Set([...sheets.matchAll(/\.([a-z][\w-]*)/gi)].map(([, name]) => name!));
  assert.ok(classes.size > 50, `${classes.size} classes`);
  assert.deepEqual(
    [...classes].filter((name) => !isUsed(name)),
    [],
  );
  const variables = new Set([...sheets.matchAll(/(--[\w-]+)\s*:/g)].map(([, name]) => name!));
  // `--line2` is made of `--line${number}`.
  const isRead = (name: string) =>
    [sheets.includes(`var(${name})`), pages.includes(name), pages.includes(madeOf(name))].some(
      Boolean,
    );
  assert.deepEqual(
    [...variables].filter((name) => !isRead(name)),
    [],
  );
});

const madeOf = (name: string): string => `${name.replace(/\d.*$/, '')}\${`;

/** The texts of files below web/, one after the other. */
function filesOf(kind: RegExp): string {
  const names = readdirSync(join(repositoryRoot, 'web'), { recursive: true }) as string[];
  const wanted = names.filter((name) => kind.test(name));
  return wanted.map((name) => readFileSync(join(repositoryRoot, 'web', name), 'utf8')).join('\n');
}
