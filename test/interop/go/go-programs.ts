/**
 * The Go programs below interop/go: built into node_modules/.cache, which a build of ours leaves as it
 * is, and started as children of the tests.
 *
 * A program that cannot be built is a reason for a skip, never an error: Go, or a module, is missing.
 * Nothing is downloaded here; `npm test` downloads the modules once.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ended, runTool, startChild } from '../../helpers/children.ts';
import { repositoryRoot } from '../../house/source-file.ts';

/** The versions whose bytes are recorded. */
export type GoMicro = 'v2' | 'v5';

export const GO_MICRO_VERSIONS: readonly GoMicro[] = ['v2', 'v5'];

/**
 * Each program, by its folder of interop/go and its build tag. `v5-grpc` is v5 with a server of gRPC,
 * which go-micro v5 cannot have beside etcd; `v2-plugins` has the plugins of registries and brokers.
 */
export const GO_PROGRAMS = ['v2', 'v2-plugins', 'v4', 'v5', 'v5-grpc', 'gossip'] as const;
export type GoName = (typeof GO_PROGRAMS)[number];

/** v4 is built of these files of v5, with its own imports; they differ in nothing else. */
const V4_FILES = ['serve.go', 'call.go', 'events.go'];
const V4_IMPORTS = [
  ['go-micro.dev/v5/client/grpc', 'github.com/go-micro/plugins/v4/client/grpc'],
  ['go-micro.dev/v5', 'go-micro.dev/v4'],
  ['go-micro v5', 'go-micro v4'],
] as const;

const CACHE = join(repositoryRoot, 'node_modules', '.cache', 'go-micro');
const BUILD_MS = 300_000;
const LINE_MS = 20_000;
const built = new Map<GoName, string | false>();

/** For `test(name, { skip: missingGo('v5') })`: false, or why there is no program. */
export function missingGo(program: GoName): string | false {
  const known = built.get(program);
  if (known !== undefined) return known;
  const why = buildGo(program, { GOPROXY: 'off' });
  const reason =
    why !== null &&
    `needs go and, once, "go mod download" in interop/go/${program.split('-')[0]}: ${why}`;
  built.set(program, reason);
  return reason;
}

/** Builds a program; null, or why it could not be built. */
export function buildGo(program: GoName, environment: NodeJS.ProcessEnv = {}): string | null {
  const [, tag] = program.split('-');
  const tags = tag === undefined ? [] : ['-tags', tag];
  const overlay = program === 'v4' ? ['-overlay', overlayOfV4()] : [];
  const made = spawnSync('go', ['build', ...tags, ...overlay, '-o', goProgram(program), '.'], {
    cwd: folderOf(program),
    env: { ...process.env, GOFLAGS: '-mod=readonly -buildvcs=false', ...environment },
    encoding: 'utf8',
    timeout: BUILD_MS,
  });
  if (made.status === 0) return null;
  return made.error?.message ?? made.stderr.trim().slice(-200);
}

export function folderOf(program: GoName): string {
  return join(repositoryRoot, 'interop', 'go', program.split('-')[0] ?? '');
}

/** Writes the files of v4, and the file that says to Go where they are. */
function overlayOfV4(): string {
  const cache = join(CACHE, 'v4-files');
  mkdirSync(cache, { recursive: true });
  const places = V4_FILES.map((file) => {
    let text = readFileSync(join(folderOf('v5'), file), 'utf8');
    for (const [of, by] of V4_IMPORTS) text = text.replaceAll(of, by);
    writeOnce(join(cache, file), text);
    return [join(folderOf('v4'), file), join(cache, file)];
  });
  const overlay = join(cache, 'overlay.json');
  writeOnce(overlay, JSON.stringify({ Replace: Object.fromEntries(places) }));
  return overlay;
}

/** Another test file may be building from the file: it is replaced whole, and only by other text. */
function writeOnce(path: string, text: string): void {
  if (existsSync(path) && readFileSync(path, 'utf8') === text) return;
  const next = `${path}.${process.pid}`;
  writeFileSync(next, text);
  renameSync(next, path);
}

/** Runs a program to its end. Returns the line that it printed, as JSON. */
// biome-ignore lint/suspicious/noExplicitAny: each program has its own report
export async function runGo(version: GoName, ...args: string[]): Promise<any> {
  const { code, stdout, stderr } = await runTool(goProgram(version), args);
  if (code !== 0) throw new Error(`${version} ${args.join(' ')} ended with ${code}: ${stderr}`);
  const report = stdout.split('\n').find(isReport);
  return report === undefined ? null : JSON.parse(report);
}

export interface GoProgram extends AsyncDisposable {
  /** The lines that it prints after it is ready, as JSON. */
  readonly lines: AsyncIterator<unknown>;
}

/** Starts a program and returns when it has printed that it is ready. */
export async function startGo(version: GoName, ...args: string[]): Promise<GoProgram> {
  const child = startChild(goProgram(version), args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-4000);
  });
  const input = child.stdout;
  if (input === null) throw new Error('the program has no output');
  const lines = createInterface({ input })[Symbol.asyncIterator]();
  for (let line = await lines.next(); line.value !== 'ready'; line = await lines.next()) {
    if (line.done) throw new Error(`${version} ${args.join(' ')} ended: ${said}`);
  }
  return {
    lines: (async function* () {
      for (;;) {
        const { done, value } = await within(LINE_MS, lines.next(), `${version} ${args.join(' ')}`);
        if (done) return;
        if (isReport(value)) yield JSON.parse(value);
      }
    })(),
    // It may be called twice.
    async [Symbol.asyncDispose]() {
      child.stdin?.end();
      await ended(child);
    },
  };
}

async function within<T>(ms: number, waiting: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} printed nothing within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([waiting, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** go-micro v2 logs to the standard output, too. */
function isReport(line: string): boolean {
  return line.startsWith('{');
}

export function goProgram(program: GoName): string {
  return join(CACHE, program);
}
