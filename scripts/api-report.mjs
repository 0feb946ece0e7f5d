/**
 * The API report: every name that the packages export, with its signature, in docs/api-report.md.
 *
 *   node scripts/api-report.mjs           writes it, from the declarations of the last build
 *   node scripts/api-report.mjs --check   compares it, and shows the first lines that differ
 *
 * Read from the .d.ts files that the compiler wrote, so it is what users' programs compile against.
 * Types that are not exported, but that exported ones are made of, are part of it: a change of one is
 * a change of the API. Comments and private members are not.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './steps.mjs';

const PAGE = join(root, 'docs', 'api-report.md');

/** The report as the last build has it. */
export function apiReport() {
  const parts = [HEAD];
  /** By file and name: under which entry point a declaration is shown. */
  const shown = new Map();
  const entries = entryPoints().map(([name, file]) => [name, [...exportsOf(file)].sort(byName)]);
  for (const [name, exported] of entries) {
    parts.push(`\n## ${name}\n`, '```ts', ...print(exported, name, shown), '```');
  }
  const exported = entries.flatMap(([, names]) => names.map(([, at]) => at));
  const reached = reachedFrom(exported, shown);
  parts.push('\n## Reached from these, and not exported\n');
  parts.push('```ts', ...print(reached, '', shown), '```');
  return `${parts.join('\n')}\n`;
}

const HEAD = `# API report

Every name that the packages export, with its signature. Written by \`node scripts/api-report.mjs\` from the compiled declarations; test/house/api-report.test.ts compares it, so that a change of the API is always meant. A name that several entry points export is shown under the first, and named under the others.`;

function entryPoints() {
  const found = [];
  for (const folder of ['.', 'adapters/nats', 'adapters/rabbitmq', 'adapters/redis']) {
    const { name, exports } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
    for (const [path, entry] of Object.entries(exports)) {
      if (entry.types !== undefined) {
        found.push([join(name, path), join(root, folder, entry.types)]);
      }
    }
  }
  return found;
}

function print(names, entry, shown) {
  const lines = [];
  for (const [name, { file, local }] of names) {
    const key = `${file} ${local}`;
    const as = local === name ? '' : ` as ${name}`;
    if (shown.has(key)) {
      lines.push(`export { ${local}${as} }; // ${shown.get(key)}`);
      continue;
    }
    shown.set(key, entry);
    if (as !== '') lines.push(`export { ${local}${as} };`);
    lines.push(...declarationOf({ file, local }));
  }
  return lines;
}

function declarationOf({ file, local }) {
  const texts = moduleOf(file).declarations.get(local);
  if (texts === undefined) throw new Error(`${relative(root, file)} declares no ${local}`);
  return texts;
}

/** The types that exported ones are made of, over any number of steps. */
function reachedFrom(exported, shown) {
  const found = new Map();
  const queue = [...exported];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { declarations, imports } = moduleOf(next.file);
    const words = declarationOf(next)
      .join('\n')
      .match(/\b[A-Z][\w$]*/g);
    for (const word of new Set(words)) {
      const isDeclared = declarations.has(word);
      const at = imports.get(word) ?? (isDeclared ? { file: next.file, local: word } : null);
      const origin = at === null ? null : originOf(at);
      if (origin === null) continue;
      const key = `${origin.file} ${origin.local}`;
      if (shown.has(key) || found.has(key)) continue;
      found.set(key, [origin.local, origin]);
      queue.push(origin);
    }
  }
  return [...found.values()].sort(byName);
}

/** Exported names of a file, each with where it is declared. */
function exportsOf(file) {
  const { exported, stars } = moduleOf(file);
  const names = new Map();
  for (const star of stars) for (const [name, at] of exportsOf(star)) names.set(name, at);
  for (const [name, at] of exported) {
    const origin = originOf(at);
    if (origin === null) throw new Error(`${relative(root, file)}: where is ${name} from?`);
    names.set(name, origin);
  }
  return names;
}

function originOf({ file, local }) {
  const { declarations, imports } = moduleOf(file);
  if (declarations.has(local)) return { file, local };
  const imported = imports.get(local);
  if (imported !== undefined) return originOf(imported);
  return exportsOf(file).get(local) ?? null;
}

const modules = new Map();

/** A declaration file, taken apart. */
function moduleOf(file) {
  const known = modules.get(file);
  if (known !== undefined) return known;
  const module = { declarations: new Map(), imports: new Map(), exported: new Map(), stars: [] };
  modules.set(file, module);
  for (const statement of statementsOf(withoutComments(readFileSync(file, 'utf8')))) {
    addStatement(module, file, statement);
  }
  return module;
}

function addStatement(module, file, statement) {
  const from = /\sfrom\s+['"]([^'"]+)['"];?$/.exec(statement)?.[1];
  const target = from?.startsWith('.') ? declarationFile(join(dirname(file), from)) : null;
  if (/^export\s+(type\s+)?\*\s+from/.test(statement)) {
    if (target !== null) module.stars.push(target);
    return;
  }
  const list = /^(import|export)\s+(?:type\s+)?\{([^}]*)\}/.exec(statement);
  if (list !== null) {
    for (const part of list[2].split(',')) {
      const [, local, name = local] =
        /^\s*(?:type\s+)?([\w$]+)(?:\s+as\s+([\w$]+))?\s*$/.exec(part) ?? [];
      if (local === undefined) continue;
      if (list[1] === 'import') {
        if (target !== null) module.imports.set(name, { file: target, local });
      } else module.exported.set(name, { file: target ?? file, local });
    }
    return;
  }
  const declared =
    /^(export\s+)?(?:declare\s+)?(?:abstract\s+)?(?:interface|type|class|function\*?|const|let|enum)\s+([\w$]+)/.exec(
      statement,
    );
  if (declared === null) return;
  const [, isExported, name] = declared;
  const texts = module.declarations.get(name) ?? [];
  module.declarations.set(name, [...texts, withoutPrivate(statement)]);
  if (isExported !== undefined) module.exported.set(name, { file, local: name });
}

function declarationFile(path) {
  return path.replace(/\.(js|ts)$/, '.d.ts');
}

function withoutPrivate(statement) {
  return statement
    .replace(/^(export )?declare /, '$1')
    .split('\n')
    .filter((line) => line.trim() !== '' && !/^\s*(#private;|private\s)/.test(line))
    .map((line) => line.trimEnd().replace(/^( {4})+/, (indent) => '  '.repeat(indent.length / 4)))
    .join('\n');
}

function withoutComments(text) {
  return text.replace(
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g,
    (found) => (found.startsWith('/') ? '' : found),
  );
}

/** Statements at the top of a file: to their semicolon, or to the brace that ends their body. */
function statementsOf(text) {
  const statements = [];
  let start = 0;
  let depth = 0;
  for (const { 0: token, index } of text.matchAll(
    /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|[{}()[\];]/g,
  )) {
    if (token.length > 1) continue;
    if ('{(['.includes(token)) depth++;
    else if (token !== ';') depth--;
    if (depth > 0) continue;
    const statement = text.slice(start, index + 1).trim();
    const hasBody =
      /^(export\s+)?(declare\s+)?(abstract\s+)?(interface|class|enum|module|namespace|global)\b/.test(
        statement,
      );
    if (token === ';' || (token === '}' && hasBody)) {
      if (statement !== ';') statements.push(statement);
      start = index + 1;
    }
  }
  return statements;
}

function byName([a], [b]) {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The names of every entry point: for the test, which compares them with what modules export. */
export function exportedNames() {
  return entryPoints().map(([name, file]) => [name, [...exportsOf(file).keys()]]);
}

/** Null where the page is right; otherwise what to do, with the first lines that differ. */
export function differenceFromPage() {
  const now = apiReport().split('\n');
  let page;
  try {
    page = readFileSync(PAGE, 'utf8').split('\n');
  } catch {
    page = [];
  }
  const at = now.findIndex((line, index) => line !== page[index]);
  if (at < 0 && now.length === page.length) return null;
  const line = at < 0 ? now.length : at;
  const around = (lines) => lines.slice(Math.max(0, line - 2), line + 6).join('\n');
  return `docs/api-report.md is not the API of the last build, from line ${line + 1} on. If the change is meant, write it with: node scripts/api-report.mjs\n--- the page\n${around(page)}\n--- the build\n${around(now)}`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  if (process.argv.includes('--check')) {
    const difference = differenceFromPage();
    if (difference !== null) {
      process.stderr.write(`${difference}\n`);
      process.exitCode = 1;
    }
  } else writeFileSync(PAGE, apiReport());
}
