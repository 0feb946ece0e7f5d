/**
 * One source file as the house tests see it: what it imports, and its code without comments and
 * without the contents of strings.
 *
 * Holds: the result of one pass over the text that knows comments, the three kinds of strings and
 * regular expressions, which is all that is needed to find words that are really code.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Import {
  readonly specifier: string;
  /** Erased by the compiler: `import type`, or every name marked `type`. */
  readonly typeOnly: boolean;
}

export interface SourceFile {
  /** Relative to the repository, with slashes: `src/stream/stream-id.ts`. */
  readonly path: string;
  readonly text: string;
  /** Comments and the contents of strings are blanks; line breaks are kept. */
  readonly code: string;
  readonly imports: readonly Import[];
}

export const repositoryRoot = findRoot(dirname(fileURLToPath(import.meta.url)));

function findRoot(directory: string): string {
  if (readdirSync(directory).includes('package-lock.json')) return directory;
  return findRoot(dirname(directory));
}

/** Every TypeScript file below a folder of the repository. */
export function sourceFiles(folder: string): SourceFile[] {
  return readdirSync(join(repositoryRoot, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.includes('node_modules'))
    .map((name) => join(repositoryRoot, folder, name))
    .sort()
    .map((path) =>
      parseSource(relative(repositoryRoot, path).replaceAll('\\', '/'), readFileSync(path, 'utf8')),
    );
}

export function parseSource(path: string, text: string): SourceFile {
  const { code, withStrings } = blank(text);
  return { path, text, code, imports: findImports(withStrings) };
}

/** The path below the repository that a relative import of `file` means. */
export function resolveImport(file: SourceFile, specifier: string): string {
  return posix.normalize(posix.join(posix.dirname(file.path), specifier));
}

function findImports(code: string): Import[] {
  const imports: Import[] = [];
  const statement =
    /\b(import|export)\s+(type\s+)?((?:[\w*$\s,]|\{[^}]*\})*?)\s*\bfrom\s*['"]([^'"]+)['"]/g;
  for (const [, , type, clause, specifier] of code.matchAll(statement)) {
    const names = /^\s*\{([^}]*)\}\s*$/.exec(clause)?.[1];
    const allTypes = names
      ?.split(',')
      .filter((name) => name.trim() !== '')
      .every((name) => name.trim().startsWith('type '));
    imports.push({ specifier, typeOnly: type !== undefined || allTypes === true });
  }
  for (const [, specifier] of code.matchAll(/\bimport\s*\(?\s*['"]([^'"\s()]+)['"]/g)) {
    imports.push({ specifier, typeOnly: false });
  }
  return imports;
}

/** Replaces comments (and, in `code`, the contents of strings) by blanks. */
function blank(text: string): { code: string; withStrings: string } {
  const code = text.split('');
  const withStrings = text.split('');
  const erase = (target: string[], from: number, to: number) => {
    for (let i = from; i < to; i++) if (target[i] !== '\n') target[i] = ' ';
  };
  // Depths of braces at which a template's `${` was opened, innermost last.
  const templates: number[] = [];
  let depth = 0;
  let before = '';
  let at = 0;
  while (at < text.length) {
    const char = text[at];
    const next = text[at + 1];
    let end = at + 1;
    if (char === '/' && (next === '/' || next === '*')) {
      end = next === '/' ? text.indexOf('\n', at) : text.indexOf('*/', at) + 2;
      if (end < at + 2) end = text.length;
      erase(code, at, end);
      erase(withStrings, at, end);
      at = end;
      continue;
    }
    if (char === "'" || char === '"') {
      end = endOfQuoted(text, at, char);
      erase(code, at + 1, end - 1);
    } else if (char === '`' || (char === '}' && templates.at(-1) === depth)) {
      if (char === '}') templates.pop();
      end = endOfTemplatePart(text, at + 1);
      erase(code, at + 1, end - 1);
      erase(withStrings, at + 1, end - 1);
      if (text[end - 1] === '{') templates.push(depth);
    } else if (char === '/' && isRegexStart(before)) {
      end = endOfRegex(text, at);
      erase(code, at + 1, end - 1);
      erase(withStrings, at + 1, end - 1);
    } else if (char === '{') depth++;
    else if (char === '}') depth--;
    before = (before + text.slice(at, end)).trimEnd().slice(-12);
    at = end;
  }
  return { code: code.join(''), withStrings: withStrings.join('') };
}

function endOfQuoted(text: string, at: number, quote: string): number {
  let end = at + 1;
  while (end < text.length && text[end] !== quote) end += text[end] === '\\' ? 2 : 1;
  return end + 1;
}

/** After the closing backtick, or after the `${` that interrupts the template. */
function endOfTemplatePart(text: string, at: number): number {
  while (at < text.length) {
    if (text[at] === '\\') at++;
    else if (text[at] === '`') return at + 1;
    else if (text[at] === '$' && text[at + 1] === '{') return at + 2;
    at++;
  }
  return at;
}

function isRegexStart(before: string): boolean {
  return before === '' || /[(,=:[!&|?{};+\-*%~^<>]$|\b(return|typeof|case|of|in)$/.test(before);
}

function endOfRegex(text: string, at: number): number {
  let inClass = false;
  for (let end = at + 1; end < text.length; end++) {
    if (text[end] === '\\') end++;
    else if (text[end] === '[') inClass = true;
    else if (text[end] === ']') inClass = false;
    else if (text[end] === '/' && !inClass) return end + 1;
  }
  return text.length;
}
