/**
 * The pages: what `npm run build` put into `dist/web`.
 *
 * Holds: the files, read once a build, with their gzip form. A path is looked up among them and never opened, so
 * no path leads anywhere else. Paths without a file are pages of the application: they get index.html.
 * Invariant: a file whose name has a hash may be kept for a year; anything else is asked for each time.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { RivuletError } from '../../errors.ts';
import { send, sendError } from './reply.ts';

const TYPES: Record<string, string> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  '.webmanifest': 'application/manifest+json; charset=utf-8',
  '.woff2': 'font/woff2',
};
const HASHED = /[-.][0-9A-Za-z_]{8,}\.\w+$/;
const SMALLEST_GZIP = 512;
/** When a file is missing and index.html is another, the folder is read again, at most so often. */
const AGAIN_MS = 1000;

interface File {
  readonly bytes: Buffer;
  readonly gzip: Buffer | null;
  readonly type: string;
  readonly isHashed: boolean;
}

export class StaticFiles {
  readonly #folder: string;
  readonly #now: () => number;
  #files: Map<string, File> | null = null;
  #readAt = 0;
  /** Of index.html when the folder was read. */
  #build = '';

  /** `now`: monotonic ms. */
  constructor(folder = webFolder(), now = () => performance.now()) {
    this.#folder = folder;
    this.#now = now;
  }

  /** `path` is what follows `/console/`, not decoded. */
  answer(request: IncomingMessage, response: ServerResponse, path: string): void {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      const error = new RivuletError('INVALID_ARGUMENT', 'a page can only be read: use GET');
      sendError(response, error, { allow: 'GET, HEAD' });
      return;
    }
    const file = this.#find(path);
    if (file !== null) {
      this.#send(request, response, file);
      return;
    }
    // Only there: a page's address may end in a topic's name, such as orders.created.
    if (path.startsWith('assets/')) {
      sendError(response, new RivuletError('NOT_FOUND', 'the console has no such file'));
      return;
    }
    const index = this.#find('index.html');
    if (index !== null) this.#send(request, response, index);
    else send(response, 503, NOT_BUILT, { 'content-type': 'text/html; charset=utf-8' });
  }

  #find(path: string): File | null {
    const found = this.#files?.get(path);
    if (found !== undefined) return found;
    if (this.#files !== null && this.#now() - this.#readAt < AGAIN_MS) return null;
    this.#readAt = this.#now();
    // Reading and packing all files holds the loop, and any page's address is the name of no file.
    const build = buildOf(this.#folder);
    if (this.#files !== null && build === this.#build) return null;
    this.#build = build;
    this.#files = readFolder(this.#folder);
    return this.#files.get(path) ?? null;
  }

  #send(request: IncomingMessage, response: ServerResponse, file: File): void {
    const takesGzip = /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''));
    const isZipped = takesGzip && file.gzip !== null;
    send(response, 200, isZipped ? file.gzip! : file.bytes, {
      'content-type': file.type,
      'cache-control': file.isHashed ? 'private, max-age=31536000, immutable' : 'no-store',
      vary: 'accept-encoding',
      ...(isZipped ? { 'content-encoding': 'gzip' } : {}),
    });
  }
}

function buildOf(folder: string): string {
  const found = statSync(join(folder, 'index.html'), { throwIfNoEntry: false });
  return found === undefined ? '' : `${found.mtimeMs} ${found.size}`;
}

function readFolder(folder: string): Map<string, File> {
  const files = new Map<string, File>();
  if (!existsSync(folder)) return files;
  for (const each of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!each.isFile()) continue;
    const path = join(each.parentPath, each.name);
    const type = TYPES[/\.\w+$/.exec(each.name)?.[0] ?? ''];
    if (type === undefined) continue;
    const bytes = readFileSync(path);
    const isText = /^text|json|svg/.test(type);
    files.set(relative(folder, path).split(sep).join('/'), {
      bytes,
      gzip: isText && bytes.length >= SMALLEST_GZIP ? gzipSync(bytes, { level: 9 }) : null,
      type,
      isHashed: HASHED.test(each.name) && !each.name.endsWith('.html'),
    });
  }
  return files;
}

/** `dist/web`, whether this module is in `dist/src/` or put together in `dist/micro/`. */
function webFolder(): string {
  const here = fileURLToPath(import.meta.url);
  const at = here.lastIndexOf(`${sep}dist${sep}`);
  return at < 0 ? join(here, '..', 'web') : join(here.slice(0, at), 'dist', 'web');
}

const NOT_BUILT = `<!doctype html><meta charset="utf-8"><title>Rivulet</title>
<h1>The console's pages are not built</h1>
<p>Run <code>npm run build</code> and load this page again.
The API answers at <a href="/console/api/v1/">/console/api/v1/</a>.</p>
`;
